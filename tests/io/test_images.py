"""Reading and writing, compared with SimpleITK: formats, channels, grids, DICOM series."""

import json
import locale

import numpy as np
import pytest
import SimpleITK as sitk
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from unetrpp.core.errors import UserError
from unetrpp.io.geometry import Geometry
from unetrpp.io.images import (
    Volume,
    from_sitk,
    most_voxels,
    read_channels,
    read_compact_image,
    read_file,
    read_geometry,
    read_image,
    read_label,
    to_sitk,
    write_segmentation,
)


@settings(max_examples=25, deadline=None)
@given(st.permutations([0, 1, 2]), st.lists(st.sampled_from([-1, 1]), min_size=3, max_size=3), st.floats(-40, 40))
def test_any_grid_survives_a_round_trip(tmp_path_factory, axes, signs, angle):
    """Oblique, flipped and permuted directions."""
    matrix = Rotation.from_euler("zy", [angle, angle / 3], degrees=True).as_matrix() @ (np.eye(3)[axes] * signs)
    geometry = Geometry(
        shape_zyx=(4, 5, 6),
        spacing_zyx_mm=(3.0, 0.7, 0.9),
        origin_xyz_mm=(-12.5, 30.25, 7.0),
        direction=tuple(float(v) for v in matrix.ravel()),
    )
    label = np.random.default_rng(0).integers(0, 5, (4, 5, 6)).astype(np.uint8)
    path = tmp_path_factory.mktemp("grid") / "a.nii.gz"
    write_segmentation(path, label, geometry)
    read = read_label(path)
    np.testing.assert_array_equal(read.array[0], label)
    for field in ("spacing_zyx_mm", "origin_xyz_mm", "direction"):
        np.testing.assert_allclose(getattr(read.geometry, field), getattr(geometry, field), atol=1e-5)
    ours = sitk.ReadImage(str(path))
    np.testing.assert_allclose(ours.GetDirection(), geometry.direction, atol=1e-5)
    assert ours.GetSize() == (6, 5, 4)


def test_one_file_per_channel_and_one_file_of_all_channels(tmp_path):
    array = np.random.default_rng(0).normal(size=(3, 4, 5, 6)).astype(np.float32)
    paths = []
    for i, channel in enumerate(array):
        paths.append(tmp_path / f"a_{i:04d}.nii.gz")
        sitk.WriteImage(sitk.GetImageFromArray(channel), str(paths[-1]))
    np.testing.assert_array_equal(read_image(paths).array, array)
    four = tmp_path / "four.nii.gz"
    sitk.WriteImage(sitk.GetImageFromArray(array, isVector=False), str(four))
    assert read_image(four).array.shape == array.shape
    np.testing.assert_array_equal(read_image(four).array, array)
    vector = tmp_path / "vector.nrrd"
    sitk.WriteImage(sitk.GetImageFromArray(np.moveaxis(array, 0, -1), isVector=True), str(vector))
    np.testing.assert_array_equal(read_image(vector).array, array)


def test_channels_on_different_grids_are_refused(tmp_path):
    for i, spacing in enumerate([1.0, 1.1]):
        image = sitk.GetImageFromArray(np.zeros((4, 5, 6), np.float32))
        image.SetSpacing((spacing, 1.0, 1.0))
        sitk.WriteImage(image, str(tmp_path / f"a_{i:04d}.nii.gz"))
    with pytest.raises(UserError, match="are on different grids"):
        read_image(sorted(tmp_path.glob("*.nii.gz")))


@pytest.mark.parametrize("ending", [".png", ".bmp", ".tif", ".jpg"])
def test_colour_photographs_have_three_channels_and_one_slice(tmp_path, ending):
    y, x = np.mgrid[:32, :24]
    colours = np.stack([y * 4, x * 5, y + x], axis=-1).astype(np.uint8)
    path = tmp_path / f"a{ending}"
    sitk.WriteImage(sitk.GetImageFromArray(colours, isVector=True), str(path))
    volume = read_image(path)
    assert volume.array.shape == (3, 1, 32, 24)
    assert volume.geometry.dimensions == 2
    np.testing.assert_allclose(volume.array[:, 0], np.moveaxis(colours, -1, 0), atol=6 if ending == ".jpg" else 0)
    back = to_sitk(volume.array[0], volume.geometry)
    assert back.GetDimension() == 2


@pytest.mark.parametrize("name", ["a.tif", "a_0000.tif"])
def test_a_tiff_stack_takes_its_spacing_from_the_file_beside_it(tmp_path, name):
    sitk.WriteImage(sitk.GetImageFromArray(np.arange(60, dtype=np.uint16).reshape(3, 4, 5)), str(tmp_path / name))
    (tmp_path / "a.json").write_text(json.dumps({"spacing": [4.0, 0.5, 0.6], "stain": "x"}))
    assert read_file(tmp_path / name).geometry.spacing_zyx_mm == (4.0, 0.5, 0.6)
    (tmp_path / "a.json").write_text(json.dumps({"spacing": [0.0, 0.5, 0.6]}))
    with pytest.raises(UserError, match=r'write {"spacing": \[z, y, x\]} in mm'):
        read_file(tmp_path / name)


def test_a_metaimage_is_written_as_one_file(tmp_path):
    """A second file of ITK would keep the temporary name."""
    array = np.arange(60, dtype=np.uint8).reshape(3, 4, 5)
    geometry = Geometry(shape_zyx=(3, 4, 5), spacing_zyx_mm=(3.0, 2.0, 1.0), origin_xyz_mm=(1.0, 2.0, 3.0))
    write_segmentation(tmp_path / "case.mhd", array, geometry)
    assert [path.name for path in tmp_path.iterdir()] == ["case.mhd"]
    volume = read_label(tmp_path / "case.mhd")
    assert np.array_equal(volume.array[0], array)
    assert volume.geometry == geometry == read_geometry(tmp_path / "case.mhd")


@pytest.mark.parametrize("read", [read_file, read_geometry, read_channels])
def test_a_missing_or_an_empty_file_is_refused(tmp_path, read):
    with pytest.raises(UserError, match="does not exist"):
        read(tmp_path / "case.nii.gz")
    (tmp_path / "case.nii.gz").touch()
    with pytest.raises(UserError, match="is empty"):
        read(tmp_path / "case.nii.gz")


def test_float_labels_must_be_whole_numbers(tmp_path):
    noisy = [0.0, 1.0000001, 1.9999998]
    for values, good in (([0.0, 1.0, 2.0], True), (noisy, True), ([0.0, 0.5, 1.0], False), ([0.0, np.nan, 1.0], False)):
        path = tmp_path / "a.nii.gz"
        sitk.WriteImage(sitk.GetImageFromArray(np.array(values, np.float32).reshape(1, 1, 3)), str(path))
        if good:
            assert read_label(path).array.dtype == np.int32
            assert read_label(path).array.ravel().tolist() == [0, 1, 2]
        else:
            with pytest.raises(UserError, match=r"not whole numbers|NaN"):
                read_label(path)


@pytest.mark.parametrize("value", [2**24, 2**31 - 1, 2**31, 2**32 - 1, -(2**24)])
def test_a_label_that_float32_may_have_rounded_is_refused_and_one_of_doubles_is_exact(tmp_path, value):
    """Labels of an atlas have such numbers; as float32, 2**24 and 2**24 + 1 are one."""
    path, values = tmp_path / "a.nrrd", np.array([0, value, 3], np.int64)
    for kind in (np.int64, np.float64):
        sitk.WriteImage(sitk.GetImageFromArray(values.astype(kind).reshape(1, 1, 3)), str(path))
        assert read_label(path).array.ravel().tolist() == values.tolist()
    sitk.WriteImage(sitk.GetImageFromArray(values.astype(np.float32).reshape(1, 1, 3)), str(path))
    held = int(np.float32(value))
    with pytest.raises(
        UserError,
        match=f"a.nrrd holds the value {held} as float32, which rounds whole numbers from 16777216 on; write the labels as integers",
    ):
        read_label(path)
    largest = np.array([0, 2**24 - 1, 3], np.float32)
    sitk.WriteImage(sitk.GetImageFromArray(largest.reshape(1, 1, 3)), str(path))
    assert read_label(path).array.ravel().tolist() == [0, 2**24 - 1, 3]


def write_series(folder, positions, tilt=0.0, series="1.2.3"):
    """One DICOM file per slice, at the given positions along z; ``tilt`` shifts each slice in y by its share of z."""
    folder.mkdir(exist_ok=True)
    before = locale.setlocale(locale.LC_CTYPE)
    writer = sitk.ImageFileWriter()
    writer.KeepOriginalImageUIDOn()
    for i, z in enumerate(positions):
        image = sitk.GetImageFromArray(np.full((6, 5), 10 * i, np.int16))
        image.SetSpacing((0.8, 0.7))
        tags = {
            "0008|0060": "CT",
            "0020|000e": series,
            "0020|000d": "1.2",
            "0008|0018": f"{series}.{i}",
            "0020|0013": str(i),
            "0020|0032": f"0\\{tilt * z}\\{z}",
            "0020|0037": "1\\0\\0\\0\\1\\0",
        }
        for tag, value in tags.items():
            image.SetMetaData(tag, value)
        writer.SetFileName(str(folder / f"{series}.{i}.dcm"))
        writer.Execute(image)
    locale.setlocale(locale.LC_CTYPE, before)  # GDCM's writer sets the C locale for the whole process


def test_a_dicom_series(tmp_path):
    write_series(tmp_path / "s", [0.0, 2.5, 5.0, 7.5])
    before = locale.setlocale(locale.LC_CTYPE)
    volume = read_file(tmp_path / "s")
    assert locale.setlocale(locale.LC_CTYPE) == before
    assert volume.array.shape == (1, 4, 6, 5)
    np.testing.assert_allclose(volume.geometry.spacing_zyx_mm, (2.5, 0.7, 0.8), atol=1e-5)
    np.testing.assert_array_equal(volume.array[0, :, 0, 0], [0, 10, 20, 30])


@pytest.mark.parametrize(
    ("positions", "tilt", "words"),
    [([0, 2.5, 7.5, 10], 0, "missing or uneven slices"), ([0, 2.5, 5, 7.5], 0.2, "gantry tilt of 11.3 degrees")],
)
def test_a_series_with_a_wrong_grid_is_refused(tmp_path, positions, tilt, words):
    write_series(tmp_path / "s", positions, tilt)
    with pytest.raises(UserError, match=words):
        read_file(tmp_path / "s")


def test_mixed_series_and_no_series_are_refused(tmp_path):
    write_series(tmp_path / "s", [0.0, 1.0])
    write_series(tmp_path / "s", [0.0, 1.0], series="1.2.4")
    with pytest.raises(UserError, match="holds 2 DICOM series"):
        read_file(tmp_path / "s")
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="no DICOM series"):
        read_file(tmp_path / "empty")


def test_two_dimensional_images_come_back_two_dimensional():
    image = sitk.GetImageFromArray(np.arange(12, dtype=np.uint8).reshape(3, 4))
    image.SetSpacing((0.5, 0.25))
    volume = from_sitk(image)
    assert volume.geometry.spacing_zyx_mm == (1.0, 0.25, 0.5)
    assert to_sitk(volume.array[0], volume.geometry).GetSpacing() == (0.5, 0.25)
    assert isinstance(volume, Volume)


def test_voxels_of_the_largest_file_by_its_header(tmp_path):
    assert most_voxels([]) == most_voxels([tmp_path / "missing.nii.gz"]) == 0
    for name, shape in (("small.mha", (2, 3, 4)), ("large.mha", (20, 30, 40))):
        sitk.WriteImage(sitk.GetImageFromArray(np.zeros(shape, np.uint8)), str(tmp_path / name))
    assert most_voxels(tmp_path.iterdir()) == 20 * 30 * 40
    (tmp_path / "broken.nii.gz").write_bytes(bytes(100_000))
    assert most_voxels(tmp_path.iterdir()) == 0


@pytest.mark.parametrize("dtype", [np.int8, np.uint8, np.int16, np.uint16, np.int32, np.float32])
def test_small_whole_numbers_stay_as_they_are_in_a_compact_image(dtype, tmp_path):
    array = np.random.default_rng(0).integers(0, 120, (3, 4, 5)).astype(dtype)
    path = tmp_path / "image.nii"
    sitk.WriteImage(sitk.GetImageFromArray(array), str(path))
    compact, image = read_compact_image(path), read_image(path)
    assert compact.array.dtype == (dtype if np.dtype(dtype).itemsize <= 2 else np.float32)
    assert image.array.dtype == np.float32
    np.testing.assert_array_equal(compact.array, image.array)
    assert read_compact_image([path, path]).array.dtype == np.float32
