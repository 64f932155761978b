"""Whole DICOM images against SimpleITK where it is right, closed forms, and the samples' own NIfTI."""

import logging

import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
from pydicom.pixels.processing import apply_rescale
from pydicom.uid import CTImageStorage, PositronEmissionTomographyImageStorage

from tests.helpers.dicom_files import image, rescale, save, write_enhanced, write_series
from unetrpp.core.errors import UserError
from unetrpp.io.images import from_sitk
from unetrpp.io.readers import dicom

SHAPE = (6, 5, 4)
PLACES = [(0.0, 0.0, 2.0 * k) for k in range(SHAPE[0])]


@pytest.fixture
def array():
    return np.random.default_rng(0).integers(0, 4000, SHAPE).astype(np.uint16)


def by_itk(folder):
    reader = sitk.ImageSeriesReader()
    reader.SetFileNames(sitk.ImageSeriesReader.GetGDCMSeriesFileNames(str(folder)))
    return from_sitk(reader.Execute())


def assert_same_grid(a, b):
    assert a.shape_zyx == b.shape_zyx
    for one, other in ((a.spacing_zyx_mm, b.spacing_zyx_mm), (a.origin_xyz_mm, b.origin_xyz_mm)):
        np.testing.assert_allclose(one, other, atol=1e-5)
    np.testing.assert_allclose(a.direction, b.direction, atol=1e-5)


def oblique(rng):
    """Two unit vectors at a right angle, as the standard orders them, and their normal."""
    q, _ = np.linalg.qr(rng.normal(size=(3, 3)))
    return np.concatenate([q[0], q[1]]), np.cross(q[0], q[1])


@pytest.mark.parametrize("seed", range(4))
def test_a_series_is_read_as_itk_reads_it(tmp_path, seed):
    rng = np.random.default_rng(seed)
    pixels = rng.integers(-1000, 3000, SHAPE).astype(np.int16)
    orientation, normal = oblique(rng)
    places = [rng.normal(size=3) * 0 + np.array([5.0, -7.0, 40.0]) + 2.5 * k * normal for k in range(SHAPE[0])]
    order = rng.permutation(SHAPE[0])  # neither names nor instance numbers are in the order of positions
    write_series(
        tmp_path / "s",
        pixels[order],
        [places[k] for k in order],
        orientation=orientation,
        PixelSpacing=[0.7, 0.9],
        RescaleSlope=1,
        RescaleIntercept=-24,
    )
    found, geometry = dicom.read(tmp_path / "s")
    expected = by_itk(tmp_path / "s")
    np.testing.assert_array_equal(found, expected.array)
    np.testing.assert_array_equal(found[0], pixels.astype(int) - 24)
    assert_same_grid(geometry, expected.geometry)
    assert dicom.read_header(tmp_path / "s") == (geometry, 1)
    names = [f"IM{int(np.flatnonzero(order == k)[0]):04d}.dcm" for k in range(SHAPE[0])]
    assert [(path.name, frame) for path, frame in dicom.source_slices(tmp_path / "s")] == [(name, 0) for name in names]


@pytest.mark.parametrize("sop", [CTImageStorage, PositronEmissionTomographyImageStorage])
def test_every_slice_has_its_own_rescale(tmp_path, array, sop):
    """An empty end slice with slope 1, or one without a rescale, must not decide for the others."""
    pet = sop == PositronEmissionTomographyImageStorage
    slopes = [None, *np.linspace(1e-4, 3e-4, 5)] if pet else [None, 1, 1, 1, 1, 1]
    intercepts = [None, *[0.0 if pet else -1024] * 5]

    def change(dataset, k):
        if slopes[k] is not None:
            dataset.RescaleSlope, dataset.RescaleIntercept = f"{slopes[k]:.8g}", intercepts[k]

    write_series(tmp_path / "s", array, change=change, sop=sop)
    expected = np.stack(
        [
            apply_rescale(dataset.pixel_array, dataset)
            for dataset in (pydicom.dcmread(tmp_path / "s" / f"IM{k:04d}.dcm") for k in range(SHAPE[0]))
        ]
    )
    found, _ = dicom.read(tmp_path / "s")
    assert found.dtype == (np.float32 if pet else np.int32)
    np.testing.assert_array_equal(found[0], expected.astype(np.float32) if pet else expected)


def test_an_enhanced_image_equals_the_series_of_its_frames(tmp_path, array):
    rng = np.random.default_rng(3)
    orientation, normal = oblique(rng)
    places = [2.0 * k * normal for k in range(SHAPE[0])]
    order = rng.permutation(SHAPE[0])
    write_series(tmp_path / "s", array, places, orientation=orientation)
    write_enhanced(tmp_path / "e" / "a.dcm", array[order], [places[k] for k in order], orientation=orientation)
    found, geometry = dicom.read(tmp_path / "e" / "a.dcm")
    expected, grid = dicom.read(tmp_path / "s")
    np.testing.assert_array_equal(found, expected)
    np.testing.assert_array_equal(found[0], array)
    assert_same_grid(geometry, grid)
    assert [order[frame] for _, frame in dicom.source_slices(tmp_path / "e")] == [*range(SHAPE[0])]
    assert dicom.read_header(tmp_path / "e") == (geometry, 1)  # a folder with one such file is the same image


def test_every_frame_has_its_own_rescale(tmp_path, array):
    slopes, intercepts = np.linspace(0.1, 1.5, 6), np.linspace(-500, 0, 6)
    write_enhanced(tmp_path / "a.dcm", array, PLACES, per_frame=lambda k: rescale(slopes[k], intercepts[k]))
    found, _ = dicom.read(tmp_path / "a.dcm")
    np.testing.assert_allclose(found[0], array * slopes[:, None, None] + intercepts[:, None, None], rtol=1e-6)
    write_enhanced(tmp_path / "b.dcm", array, PLACES, shared=rescale(2.0, -5.0))
    found, _ = dicom.read(tmp_path / "b.dcm")
    assert found.dtype == np.int32
    np.testing.assert_array_equal(found[0], array.astype(int) * 2 - 5)


@pytest.mark.parametrize(
    ("keep", "places", "options", "words"),
    [
        ([0, 1, 2, 4, 5], PLACES, {}, r"frame 3 of a.dcm and frame 4 of a.dcm lie 4 mm apart, most 2 mm"),
        (range(6), [(0, 0.3 * z, z) for _, _, z in PLACES], {}, "gantry tilt of 16.7 degrees"),
        (
            [*range(6), *range(6)],
            PLACES,
            {"per_frame": lambda k: {"FrameContentSequence": {"TemporalPositionIndex": 1 + k // 6}}},
            r"a.dcm holds 2 volumes \(6 positions, 2 images at each, such as .*TemporalPositionIndex \(1, 2\); give one",
        ),
        (
            [*range(6), *range(6)],
            PLACES,
            {"per_frame": lambda k: {"MREchoSequence": {"EffectiveEchoTime": 4.6 + k // 6}}},
            r"EffectiveEchoTime \(4.6, 5.6\)",
        ),
        (
            range(6),
            PLACES,
            {"per_frame": lambda k: {"MREchoSequence": {"EffectiveEchoTime": 4.6 + k // 3}}},
            r"frame 1 of a.dcm and frame 4 of a.dcm differ in EffectiveEchoTime \(4.6 and 5.6\)",
        ),
        (
            range(6),
            PLACES,
            {
                "per_frame": lambda k: {
                    "PlaneOrientationSequence": {
                        "ImageOrientationPatient": [0, 1, 0, 0, 0, 1] if k == 4 else [1, 0, 0, 0, 1, 0]
                    }
                }
            },
            "different orientation .*frame 5 of a.dcm",
        ),
        (
            range(6),
            PLACES,
            {"per_frame": lambda k: rescale(2.0) if k != 3 else {}},
            "frame 4 of a.dcm has no RescaleSlope",
        ),
        (
            range(6),
            PLACES,
            {"per_frame": lambda k: {"PixelMeasuresSequence": {"PixelSpacing": [1.0, 1.0 + (k == 5)]}}},
            "different pixel spacing .*frame 6 of a.dcm",
        ),
    ],
)
def test_frames_that_are_no_stack_are_refused(tmp_path, array, keep, places, options, words):
    keep = list(keep)
    write_enhanced(tmp_path / "a.dcm", array[keep], [places[k] for k in keep], **options)
    with pytest.raises(UserError, match=words):
        dicom.read(tmp_path / "a.dcm")


def test_frames_without_positions_and_several_multi_frame_files_are_refused(tmp_path, array):
    save(image(array, NumberOfFrames=6), tmp_path / "cine.dcm")
    with pytest.raises(UserError, match=r"cine.dcm \(MR Image\) gives no positions for its frames"):
        dicom.read(tmp_path / "cine.dcm")
    for name in ("a.dcm", "b.dcm"):
        write_enhanced(tmp_path / "several" / name, array, PLACES)
    with pytest.raises(
        UserError, match=r"2 are multi-frame images \(a.dcm, b.dcm\), each a volume of its own; give one"
    ):
        dicom.read(tmp_path / "several")


def test_one_slice_takes_its_thickness_from_the_file_as_itk_does(tmp_path, array):
    write_series(tmp_path / "s", array[:1], [(3.0, 4.0, 5.0)], PixelSpacing=[0.5, 0.7], SpacingBetweenSlices=3.5)
    found, geometry = dicom.read(tmp_path / "s" / "IM0000.dcm")
    expected = from_sitk(sitk.ReadImage(str(tmp_path / "s" / "IM0000.dcm")))
    np.testing.assert_array_equal(found, expected.array)
    assert geometry == expected.geometry


def test_monochrome1_keeps_its_values_and_says_so(tmp_path, array, caplog):
    write_series(tmp_path / "s", array, PhotometricInterpretation="MONOCHROME1")
    with caplog.at_level(logging.WARNING):
        np.testing.assert_array_equal(dicom.read(tmp_path / "s")[0][0], array)
    assert "MONOCHROME1" in caplog.text


def test_slices_of_different_photometric_interpretation_are_refused(tmp_path, array):
    write_series(tmp_path / "s", array)
    odd = pydicom.dcmread(tmp_path / "s" / "IM0002.dcm")
    odd.PhotometricInterpretation = "MONOCHROME1"
    odd.save_as(tmp_path / "s" / "IM0002.dcm")
    with pytest.raises(UserError, match=r"s mixes slices in MONOCHROME2 \(.*\) and MONOCHROME1 \(IM0002.dcm\)"):
        dicom.read(tmp_path / "s")


NOT_A_VOLUME = {
    "gantrytilting/001": "gantry tilt of 14.0 degrees",
    "notavolume/001": r"001.dcm and 002.dcm lie at the same place .*AcquisitionNumber",
    "sliceincrement/001": r"0009-0001.dcm and IM-0001-0010-0001.dcm lie 10 mm apart, most 5 mm",
    "sliceincrement/002": r"0003.dcm and IM-0001-0005.dcm lie 1.499 mm apart, most 0.7497 mm",
    "sliceorientation/001": "different orientation",
}
READABLE = [
    "failing/slicecount/001",
    "generic/anatomical/001",
    "generic/anatomical/001_implicit",
    "generic/anatomical/002_non_isotropic",
    "generic/compressed/001",
    "generic/compressed_j2k/001",
    "generic/compressed_jpeg/001",
    "generic/compressed_jpegls/001",
    "generic/compressed_rle/001",
    "hyperfine/anatomical/001",
    "siemens_multiframe/anatomical/001",
]


@pytest.fixture(scope="session")
def samples(test_data):
    if not (test_data / "samples" / "dicom_odd").is_dir():
        pytest.skip("no folder samples/dicom_odd")
    return test_data / "samples"


@pytest.mark.parametrize("name", NOT_A_VOLUME)
def test_samples_that_are_no_volume_are_refused(samples, name):
    with pytest.raises(UserError, match=NOT_A_VOLUME[name]):
        dicom.read(samples / "dicom_odd" / "failing" / name)


def assert_equals_truth(array, geometry, truth):
    """Every voxel has the value that the file ``truth`` has at its place in the world."""
    expected = sitk.ReadImage(str(truth), sitk.sitkFloat32)
    grid = sitk.Image([*geometry.shape_zyx[::-1]], sitk.sitkUInt8)
    grid.SetSpacing(geometry.spacing_zyx_mm[::-1])
    grid.SetOrigin(geometry.origin_xyz_mm)
    grid.SetDirection(geometry.direction)
    at = sitk.GetArrayFromImage(sitk.Resample(expected, grid, sitk.Transform(), sitk.sitkNearestNeighbor, -9e9))
    assert at.size == np.prod(expected.GetSize())
    np.testing.assert_allclose(array[0], at, rtol=1e-6)
    for corner in ((0, 0, 0), [n - 1 for n in grid.GetSize()]):
        index = expected.TransformPhysicalPointToContinuousIndex(grid.TransformIndexToPhysicalPoint(corner))
        np.testing.assert_allclose(index, np.rint(index), atol=1e-3)


@pytest.mark.parametrize("name", READABLE)
def test_samples_equal_their_nifti(samples, name):
    array, geometry = dicom.read(samples / "dicom_odd" / name)
    truth = samples / "dicom_odd" / name
    if name.endswith("001") and not truth.with_name("001_ground_truth.nii.gz").exists():
        pytest.skip("no ground truth beside it")
    assert_equals_truth(array, geometry, truth.with_name(f"{truth.name}_ground_truth.nii.gz"))


@pytest.mark.parametrize("modality", ["CT", "MR_T1", "PET"])
@pytest.mark.parametrize("patient", ["STS_002", "STS_003"])
def test_radiotherapy_samples_equal_their_nifti(samples, patient, modality):
    folder = samples / "rtstruct" / "dicom" / patient / modality
    array, geometry = dicom.read(folder / "image")
    assert array.dtype == (np.float32 if modality == "PET" else np.int16)
    assert_equals_truth(array, geometry, samples / "rtstruct" / "nifti" / patient / f"{modality}_image.nii.gz")
    with pytest.raises(UserError, match=r"RS.dcm holds contours, not an image"):
        dicom.read(folder / "mask")


@pytest.mark.parametrize("name", ["23x38x3", "24x38x3"])
def test_a_legacy_converted_image_equals_its_series(samples, name):
    folder = samples / "dcmqi_seg" / "data" / "segmentations" / name
    array, geometry = dicom.read(folder / "image")
    frames, grid = dicom.read(folder / "multiframe" / "mf.dcm")
    np.testing.assert_array_equal(array, frames)
    assert_same_grid(geometry, grid)
    label = sitk.ReadImage(str(folder / "nrrd" / "label.nrrd"))
    np.testing.assert_allclose(label.GetOrigin(), geometry.origin_xyz_mm, atol=1e-5)
    assert label.GetSize()[::-1] == geometry.shape_zyx
    with pytest.raises(UserError, match=r"label.seg holds labels, not an image \(DICOM SEG\)"):
        dicom.read(folder / "seg" / "label.seg")


def test_a_negative_spacing_between_slices_is_a_length(tmp_path, array):
    """Nuclear medicine gives it a sign, for the direction of the slices."""
    write_series(tmp_path / "s", array[:1], [(3.0, 4.0, 5.0)], SpacingBetweenSlices=-3.5)
    assert dicom.read(tmp_path / "s")[1].spacing_zyx_mm[0] == 3.5


def test_a_slice_without_the_rescale_of_the_others_is_named(tmp_path, array, caplog):
    write_series(tmp_path / "s", array, RescaleSlope=1, RescaleIntercept=-1024)
    dicom.read(tmp_path / "s")
    assert not caplog.text
    path = tmp_path / "s" / "IM0002.dcm"
    slice_ = pydicom.dcmread(path)
    del slice_.RescaleSlope, slice_.RescaleIntercept
    slice_.save_as(path)
    dicom.read(tmp_path / "s")
    assert "s: without the RescaleSlope of the other slices, and so taken as stored: IM0002.dcm" in caplog.text
