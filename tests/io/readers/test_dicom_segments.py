"""DICOM SEG as masks: against the label maps that were made from the same objects, and against highdicom."""

import highdicom
import numpy as np
import pydicom
import pytest
import SimpleITK as sitk

from tests.helpers.dicom import write_series
from tests.helpers.dicom_files import write_enhanced
from tests.helpers.dicom_labels import write_segmentation
from unetrpp.core.errors import UserError
from unetrpp.io.readers import dicom
from unetrpp.io.readers.dicom_segments import draw

SHAPE = (5, 8, 6)


# Segmentation, its slices, and for each segment number the label map and the value in it.
DCMQI = [
    ("liver.dcm", "ct-3slice", {1: ("liver_seg", 1)}),
    (
        "partial_overlaps.dcm",
        "ct-3slice",
        {1: ("partial_overlaps-1", 1), 2: ("partial_overlaps-2", 2), 3: ("partial_overlaps-3", 3)}
        | {4: ("partial_overlaps-1", 4), 5: ("partial_overlaps-1", 5)},
    ),
    ("24x38x3/seg/label.seg", "24x38x3/image", {1: ("24x38x3/nrrd/label", 1)}),
    ("23x38x3/seg/label.seg", "23x38x3/image", {1: ("23x38x3/nrrd/label", 1)}),
    ("24x38x3/seg/label.seg", "24x38x3/multiframe", {1: ("24x38x3/nrrd/label", 1)}),
    ("23x38x3/seg/label.seg", "23x38x3/multiframe", {1: ("23x38x3/nrrd/label", 1)}),
    ("sparse-labelmap-noppv.dcm", "24x38x3/image", {1: ("sparse_labelmap_noppv_seg", 1)}),
    ("sparse-labelmap-ppv5.dcm", "24x38x3/image", {1: ("sparse_labelmap_ppv5_seg", 1)}),
    ("sparse-labelmap-ppv5.dcm", "24x38x3/multiframe", {1: ("sparse_labelmap_ppv5_seg", 1)}),
]


@pytest.mark.parametrize(("file", "slices", "expected"), DCMQI)
def test_every_voxel_is_that_of_dcmqis_label_map(test_data, file, slices, expected):
    samples = test_data / "samples/dcmqi_seg/data/segmentations"
    geometry, _ = dicom.read_header(samples / slices)
    for (label, value), mask in zip(expected.values(), draw(samples / file, expected, geometry), strict=True):
        image = sitk.ReadImage(samples / f"{label}.nrrd")
        assert mask.any()
        np.testing.assert_array_equal(mask, sitk.GetArrayFromImage(image) == value)
        np.testing.assert_allclose(image.GetOrigin(), geometry.origin_xyz_mm, atol=1e-3)


@pytest.mark.parametrize("name", ["binary", "binary_fractional", "true_fractional"])
def test_segmentations_of_highdicom_are_read_as_it_reads_them(test_data, name):
    samples = test_data / "samples/highdicom_seg"
    path = samples / f"data/test_files/seg_image_ct_{name}.dcm"
    slices = sorted((samples / "pydicom_dicomdirtests_77654033/CT2").iterdir())
    geometry, _ = dicom.read_header(slices[1:])  # the first one lies 20 cm away from the others
    uids = [pydicom.dcmread(file).SOPInstanceUID for file in slices[1:]]
    own = highdicom.seg.segread(path).get_pixels_by_source_instance(uids, segment_numbers=[1])[..., 0]
    np.testing.assert_array_equal(next(draw(path, [1], geometry)), own >= 0.5)
    assert own.sum() > 100


@pytest.mark.parametrize(("name", "image"), [("ct_binary_single_frame", "ct_image.dcm"), ("cr_binary", None)])
def test_single_frames_with_and_without_a_place_in_the_patient(test_data, name, image):
    files = test_data / "samples/highdicom_seg/data/test_files"
    radiograph = test_data / "samples/highdicom_seg/pydicom_dicomdirtests_77654033/CR1/6154"
    path = files / f"seg_image_{name}.dcm"
    geometry, _ = dicom.read_header(files / image if image else radiograph)
    (mask,) = draw(path, [1], geometry)
    np.testing.assert_array_equal(mask[0], pydicom.dcmread(path).pixel_array)
    assert mask.any()


def test_segments_on_slices_that_the_series_lacks_are_refused(test_data):
    samples = test_data / "samples/highdicom_seg"
    slices = sorted((samples / "pydicom_dicomdirtests_77654033/CT2").iterdir())
    geometry, _ = dicom.read_header(slices[1:])
    with pytest.raises(
        UserError, match=r"seg_image_ct_binary_overlap\.dcm has 16 labelled voxels outside of the image"
    ):
        list(draw(samples / "data/test_files/seg_image_ct_binary_overlap.dcm", [1, 2], geometry))


@pytest.fixture
def series(tmp_path):
    """A series whose rows and columns are turned by a quarter, in files that are not in order."""
    write_series(tmp_path / "series", np.zeros(SHAPE))
    return tmp_path / "series"


def masks(seed=0, count=2):
    """Overlapping masks (Z, Y, X, S) that leave slices empty."""
    array = np.random.default_rng(seed).random((*SHAPE, count)) < 0.3
    array[1, ..., 0] = array[3] = False
    return array


@pytest.mark.parametrize("omit", [True, False])
@pytest.mark.parametrize("kind", ["BINARY", "FRACTIONAL"])
def test_frames_go_to_their_slices(tmp_path, series, kind, omit):
    array = masks()
    path = write_segmentation(
        tmp_path / "a.dcm", series, array.astype(np.uint8), ["liver", "tumour"], kind=kind, omit_empty_frames=omit
    )
    geometry, _ = dicom.read_header(series)
    found = list(draw(path, [2, 1], geometry))
    np.testing.assert_array_equal(found[0], array[..., 1])
    np.testing.assert_array_equal(found[1], array[..., 0])


@pytest.mark.parametrize("size", [(5, 3), (13, 17), (4, 4)])
def test_frames_that_begin_within_a_byte_are_unpacked(tmp_path, size):
    shape = (5, *size)
    write_series(tmp_path / "series", np.zeros(shape))
    array = np.random.default_rng(4).random((*shape, 2)) < 0.4
    array[2, ..., 0] = False  # so that frames and slices differ
    path = write_segmentation(tmp_path / "a.dcm", tmp_path / "series", array.astype(np.uint8), ["liver", "tumour"])
    geometry, _ = dicom.read_header(tmp_path / "series")
    for number, found in enumerate(draw(path, [1, 2], geometry)):
        np.testing.assert_array_equal(found, array[..., number])


def test_fractions_count_from_one_half_on(tmp_path, series):
    fractions = np.random.default_rng(1).choice([0, 0.2, 0.49, 0.51, 1], (*SHAPE, 1))
    path = write_segmentation(
        tmp_path / "a.dcm", series, fractions, ["liver"], kind="FRACTIONAL", max_fractional_value=200
    )
    (mask,) = draw(path, [1], dicom.read_header(series)[0])
    np.testing.assert_array_equal(mask, fractions[..., 0] > 0.5)


def test_label_maps_of_many_segments(tmp_path, series):
    numbers = np.random.default_rng(2).integers(0, 301, SHAPE).astype(np.uint16)
    numbers[2] = 0
    path = write_segmentation(tmp_path / "a.dcm", series, numbers, [f"s{i}" for i in range(300)], kind="LABELMAP")
    for number, mask in zip((300, 7), draw(path, [300, 7], dicom.read_header(series)[0]), strict=True):
        np.testing.assert_array_equal(mask, numbers == number)


def test_compressed_frames(tmp_path, series):
    array = masks(count=1)
    path = write_segmentation(
        tmp_path / "a.dcm",
        series,
        array.astype(np.uint8),
        ["liver"],
        kind="FRACTIONAL",
        transfer_syntax_uid=pydicom.uid.RLELossless,
    )
    (mask,) = draw(path, [1], dicom.read_header(series)[0])
    np.testing.assert_array_equal(mask, array[..., 0])


def test_a_multi_frame_image_in_any_order(tmp_path):
    order = np.random.default_rng(0).permutation(SHAPE[0])
    image = np.zeros(SHAPE, np.uint16)
    write_enhanced(tmp_path / "series/a.dcm", image, [(3.0, 4.0, 2.0 * k) for k in order])
    array = masks()
    path = write_segmentation(
        tmp_path / "a.dcm", tmp_path / "series/a.dcm", array[order].astype(np.uint8), ["liver", "tumour"]
    )
    geometry, _ = dicom.read_header(tmp_path / "series")
    for k, mask in enumerate(draw(path, [1, 2], geometry)):
        np.testing.assert_array_equal(mask, array[..., k])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"SegmentationType": "SURFACE"}, r"a\.dcm has the SegmentationType 'SURFACE', which is not read"),
        ({"NumberOfFrames": 9}, r"a\.dcm is damaged .*describes 3 of its 9 frames"),
        ({"PixelData": b"\0\0"}, r"a\.dcm is damaged or truncated"),
    ],
)
def test_what_cannot_be_read_is_refused(tmp_path, series, change, message):
    path = write_segmentation(tmp_path / "a.dcm", series, masks(count=1).astype(np.uint8), ["liver"])
    dataset = pydicom.dcmread(path)
    for tag, value in change.items():
        setattr(dataset, tag, value)
    dataset.save_as(path)
    with pytest.raises(UserError, match=message):
        list(draw(path, [1], dicom.read_header(series)[0]))


def test_frames_without_a_place_or_on_another_grid_are_refused(tmp_path, series):
    path = write_segmentation(tmp_path / "a.dcm", series, masks(count=1).astype(np.uint8), ["liver"])
    write_series(tmp_path / "other", np.zeros(SHAPE), PixelSpacing=[0.8, 0.9])
    with pytest.raises(UserError, match=r"a\.dcm is not on the image's grid"):
        list(draw(path, [1], dicom.read_header(tmp_path / "other")[0]))
    dataset = pydicom.dcmread(path)
    for frame in dataset.PerFrameFunctionalGroupsSequence:
        del frame.PlanePositionSequence
    dataset.save_as(path)
    with pytest.raises(UserError, match=r"a\.dcm does not say where its frames lie"):
        list(draw(path, [1], dicom.read_header(series)[0]))
