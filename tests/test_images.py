"""Reading and writing images: arrays, grids and pixel types against SimpleITK, and the sentence for every bad file."""

import numpy as np
import pytest
import SimpleITK as sitk

from unetrpp.errors import UserError
from unetrpp.images import (
    Volume,
    read_channels,
    read_file,
    read_geometry,
    read_image,
    read_label,
    write_image,
    write_segmentation,
)

RNG = np.random.default_rng(2)
TILT = (0.8, -0.6, 0.0, 0.6, 0.8, 0.0, 0.0, 0.0, 1.0)


def save(path, array, spacing=(1.0, 2.0, 3.0), vector=False):
    made = sitk.GetImageFromArray(array, isVector=vector)
    if made.GetDimension() == 3:
        made.SetSpacing(spacing)
        made.SetOrigin((5.0, -6.0, 7.0))
        made.SetDirection(TILT)
    sitk.WriteImage(made, str(path))
    return path


@pytest.mark.parametrize("ending", [".nii.gz", ".nii", ".nrrd", ".mha"])
def test_a_volume_comes_back_with_its_grid(tmp_path, ending):
    array = RNG.normal(size=(3, 4, 5)).astype(np.float32)
    volume = read_image(save(tmp_path / f"a{ending}", array))
    np.testing.assert_array_equal(volume.array, array[None])
    geometry = volume.geometry
    assert (geometry.shape_zyx, geometry.dimensions) == ((3, 4, 5), 3)
    assert geometry.spacing_zyx_mm == pytest.approx((3, 2, 1))
    assert geometry.direction == pytest.approx(TILT, abs=1e-6)
    assert read_geometry(tmp_path / f"a{ending}") == geometry

    write_image(tmp_path / f"b{ending}", volume)
    again = read_image(tmp_path / f"b{ending}")
    np.testing.assert_array_equal(again.array, volume.array)
    assert again.geometry.spacing_zyx_mm == pytest.approx(geometry.spacing_zyx_mm)
    assert again.geometry.origin_xyz_mm == pytest.approx(geometry.origin_xyz_mm)
    assert again.geometry.direction == pytest.approx(geometry.direction, abs=1e-6)


def test_channels_may_be_files_colours_or_a_fourth_axis(tmp_path):
    arrays = RNG.normal(size=(2, 3, 4, 5)).astype(np.float32)
    files = [save(tmp_path / f"{i}.nii.gz", a) for i, a in enumerate(arrays)]
    np.testing.assert_array_equal(read_image(files).array, arrays)
    four = sitk.GetImageFromArray(arrays, isVector=False)
    sitk.WriteImage(four, str(tmp_path / "four.nii.gz"))
    np.testing.assert_array_equal(read_image(tmp_path / "four.nii.gz").array, arrays)
    assert read_channels(tmp_path / "four.nii.gz") == (2, 3)
    rgb = RNG.integers(0, 255, (6, 7, 3)).astype(np.uint8)
    colours = read_image(save(tmp_path / "rgb.png", rgb, vector=True))
    np.testing.assert_array_equal(colours.array[:, 0], np.moveaxis(rgb, -1, 0))
    assert (colours.geometry.shape_zyx, colours.geometry.dimensions) == ((1, 6, 7), 2)
    assert read_channels(tmp_path / "rgb.png") == (3, 2)


def test_a_photographs_segmentation_is_written_flat(tmp_path):
    photograph = read_image(save(tmp_path / "a.png", RNG.integers(0, 255, (6, 7)).astype(np.uint8)))
    label = RNG.integers(0, 3, (1, 6, 7)).astype(np.uint8)
    write_segmentation(tmp_path / "label.png", label, photograph.geometry)
    assert sitk.ReadImage(str(tmp_path / "label.png")).GetSize() == (7, 6)
    np.testing.assert_array_equal(read_label(tmp_path / "label.png").array[0], label)


def test_files_keep_their_type_images_are_float_and_float_labels_must_be_whole(tmp_path):
    path = save(tmp_path / "a.nii.gz", RNG.integers(-900, 900, (3, 4, 5)).astype(np.int16))
    assert read_file(path).array.dtype == np.int16
    assert read_image(path).array.dtype == np.float32
    whole = save(tmp_path / "whole.nii.gz", np.full((3, 4, 5), 2, np.float32))
    assert read_label(whole).array.dtype.kind == "i"
    for bad in (1.5, np.nan):
        with pytest.raises(UserError, match="no whole numbers|NaN"):
            read_label(save(tmp_path / "bad.nii.gz", np.full((3, 4, 5), bad, np.float32)))


def test_bad_files_are_one_sentence_each(tmp_path):
    with pytest.raises(UserError, match="does not exist"):
        read_image(tmp_path / "none.nii.gz")
    (tmp_path / "empty.nii.gz").touch()
    with pytest.raises(UserError, match="is empty"):
        read_image(tmp_path / "empty.nii.gz")
    (tmp_path / "text.nrrd").write_text("no image")
    with pytest.raises(UserError, match="cannot be read as an image"):
        read_image(tmp_path / "text.nrrd")
    first = save(tmp_path / "a.nii.gz", np.zeros((3, 4, 5), np.float32))
    with pytest.raises(UserError, match=r"different grids: shape \(3, 4, 5\) against \(3, 4, 6\)"):
        read_image([first, save(tmp_path / "b.nii.gz", np.zeros((3, 4, 6), np.float32))])
    with pytest.raises(UserError, match="a label file must have one"):
        read_label(save(tmp_path / "rgb.png", np.zeros((4, 4, 3), np.uint8), vector=True))


def test_writing_leaves_no_temporary_file(tmp_path):
    volume = read_image(save(tmp_path / "a.nii.gz", np.zeros((3, 4, 5), np.float32)))
    write_image(tmp_path / "b.nii.gz", Volume(volume.array, volume.geometry))
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.nii.gz", "b.nii.gz"]
