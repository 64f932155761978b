"""Where a written segmentation lies, by every program's rule, and sheared headers, against nibabel and SimpleITK."""

import gzip
import math
import struct

import msgspec
import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.helpers.nifti import CODES, QUATERNION, change, codes_of, patch, sform_of, shear
from unetrpp.core.digest import digest
from unetrpp.core.errors import UserError
from unetrpp.io.angles import shear_degrees
from unetrpp.io.formats import copy_image
from unetrpp.io.geometry import Geometry, world_mm
from unetrpp.io.images import (
    is_sheared,
    read_geometry,
    read_image,
    read_label,
    read_straight,
    repair_shear,
    write_segmentation,
)
from unetrpp.io.nifti import place_warnings
from unetrpp.io.shear import write_without_shear

SHAPE = (6, 20, 16)
PIXDIM, UNITS = 76, 123


@pytest.fixture
def oblique(tmp_path):
    """A file whose two transforms agree."""
    path = tmp_path / "case_0000.nii.gz"
    image = sitk.GetImageFromArray(np.random.default_rng(0).integers(-1000, 1000, SHAPE).astype(np.int16))
    image.SetSpacing((0.9, 0.8, 2.5))
    image.SetOrigin((10, -20, 30))
    c, s = math.cos(0.2), math.sin(0.2)
    image.SetDirection((c, -s, 0, s, c, 0, 0, 0, -1))
    sitk.WriteImage(image, str(path))
    return path


def result_of(path):
    """A segmentation written on the grid of an image."""
    target = path.with_name("segmentation.nii.gz")
    geometry = read_geometry(path)
    write_segmentation(target, np.zeros(geometry.shape_zyx, np.uint8), geometry)
    return target


def itk_place(path):
    image = sitk.ReadImage(str(path))
    return (*image.GetOrigin(), *image.GetSpacing(), *image.GetDirection())


def slicer_affine(path):
    """3D Slicer's rule: the sform, or the qform where the sform has no code."""
    header = nib.Nifti1Image.from_filename(path).header
    return header.get_sform() if header["sform_code"] > 0 else header.get_qform()


def require_one_place(image, result):
    assert codes_of(result) == codes_of(image)
    np.testing.assert_allclose(
        nib.Nifti1Image.from_filename(result).affine, nib.Nifti1Image.from_filename(image).affine, atol=1e-5
    )
    np.testing.assert_allclose(slicer_affine(result), slicer_affine(image), atol=1e-5)
    np.testing.assert_allclose(itk_place(result), itk_place(image), atol=1e-5)


@pytest.mark.parametrize("codes", [(1, 1), (1, 0), (0, 1), (0, 0), (1, 2), (2, 4), (3, 3), (1, 4)])
@pytest.mark.parametrize("moved", [0.0, 10.0])
def test_image_and_segmentation_lie_at_one_place_for_every_program(oblique, codes, moved):
    sform = sform_of(oblique)
    sform[0, 3] += moved
    change(oblique, sform, codes)
    require_one_place(oblique, result_of(oblique))


@pytest.mark.filterwarnings("ignore")  # nibabel on the header
@pytest.mark.parametrize("unit", [0, 1, 2, 3])
def test_units_are_read_as_by_itk_and_carried_on(oblique, unit):
    patch(oblique, "b", UNITS, unit)
    geometry, image = read_geometry(oblique), sitk.ReadImage(str(oblique))
    np.testing.assert_allclose(geometry.spacing_zyx_mm[::-1], image.GetSpacing(), rtol=1e-6)
    np.testing.assert_allclose(geometry.origin_xyz_mm, image.GetOrigin(), rtol=1e-6)
    require_one_place(oblique, result_of(oblique))


def test_a_negative_length_is_warned_about_and_carried_on(oblique):
    patch(oblique, "3f", PIXDIM + 4, -0.9, -0.8, -2.5)
    change(oblique, sform_of(oblique), (1, 0))
    geometry = read_geometry(oblique)
    assert geometry.spacing_zyx_mm == pytest.approx((2.5, 0.8, 0.9))
    assert ["negative" in warning for warning in place_warnings(oblique.name, geometry)] == [True]
    result = result_of(oblique)
    assert codes_of(result) == (1, 0)
    np.testing.assert_allclose(itk_place(result), itk_place(oblique))


@pytest.mark.parametrize("codes", [(1, 1), (1, 2), (2, 1), (1, 4)])
def test_where_they_differ_the_sform_is_used_and_it_is_said(oblique, codes):
    sform = sform_of(oblique)
    sform[0, 3] += 7
    change(oblique, sform, codes)
    geometry = read_geometry(oblique)
    (warning,) = place_warnings(oblique.name, geometry)
    assert warning == "sform and qform of case_0000.nii.gz lie 7 mm apart; the sform is used"
    assert geometry.origin_xyz_mm[0] == pytest.approx(3.0)


@pytest.mark.parametrize("length", [2.0, 0.0, np.nan])
@pytest.mark.parametrize("codes", [(0, 1), (1, 1)])
def test_another_scale_in_sform_and_pixdim_is_an_error(oblique, length, codes):
    change(oblique, sform_of(oblique), codes)
    patch(oblique, "f", PIXDIM + 12, length)
    for read in (read_geometry, read_image):
        with pytest.raises(
            UserError, match=r"the sform of case_0000.nii.gz gives voxels of 0.9 x 0.8 x 2.5 mm, its pixdim"
        ):
            read(oblique)


def test_the_repair_that_the_refusal_names_works(oblique):
    patch(oblique, "3f", PIXDIM + 4, 1.8, 1.6, 5.0)
    change(oblique, sform_of(oblique), (1, 0))
    assert read_geometry(oblique).spacing_zyx_mm == pytest.approx((5.0, 1.6, 1.8))


@settings(max_examples=30, deadline=None)
@given(st.lists(st.floats(-1, 1, width=32), min_size=3, max_size=3), st.sampled_from([-1.0, 0.0, 1.0]))
def test_the_qform_is_nibabels(tmp_path_factory, quaternion, handedness):
    norm = max(1.0, float(np.linalg.norm(quaternion)) * 1.0001)
    path = tmp_path_factory.mktemp("q") / "a.nii.gz"
    nib.save(nib.Nifti1Image(np.zeros((3, 4, 5), np.uint8), np.diag([2.0, 3.0, 4.0, 1.0])), path)
    change(path, sform_of(path), (1, 0))
    patch(path, "6f", QUATERNION, *(q / norm for q in quaternion), 5.0, -6.0, 7.0)
    patch(path, "f", PIXDIM, handedness)
    corners = np.array([[0, 0, 0], [4, 3, 2], [0, 3, 0]])
    ours = world_mm(read_geometry(path), corners) * (-1, -1, 1)
    patch(path, "f", PIXDIM, handedness or 1.0)  # nibabel refuses the 0 that nifti1.h takes as 1
    np.testing.assert_allclose(
        ours, nib.affines.apply_affine(nib.Nifti1Image.from_filename(path).affine, corners[:, ::-1]), atol=1e-4
    )


def test_a_sheared_sform_gives_way_to_a_qform_and_else_is_refused(oblique):
    before = read_geometry(oblique)
    shear(oblique, 0.1, codes=(1, 1))
    geometry = read_geometry(oblique)
    np.testing.assert_allclose(geometry.direction, before.direction, atol=1e-6)
    assert "the qform is used" in place_warnings(oblique.name, geometry)[0]
    change(oblique, sform_of(oblique), (0, 1))
    with pytest.raises(UserError, match=r"sheared by 6.4 degrees.*at most 1 degree"):
        read_geometry(oblique)
    with pytest.raises(UserError, match=r"sheared by 6.4 degrees"):
        write_without_shear(oblique, oblique.with_name("repaired.nii.gz"))


def test_a_little_shear_is_refused_and_repaired(oblique):
    voxels = read_image(oblique).array
    straight = sform_of(oblique)
    shear(oblique, 0.01)
    degrees = shear_degrees(sform_of(oblique)[:, :3])
    with pytest.raises(UserError, match=r"sheared by 0.64 degrees.*--fix"):
        read_geometry(oblique)
    target = oblique.with_name("repaired.nii.gz")
    moved = write_without_shear(oblique, target)
    assert degrees == pytest.approx(math.degrees(math.atan(0.01 * 0.9 / 0.8)), rel=1e-2)
    np.testing.assert_array_equal(read_image(target).array, voxels)
    assert codes_of(target) == (0, 1)
    assert shear_degrees(sform_of(target)[:, :3]) < 1e-3
    # The shear moved a corner by 0.01 * 0.9 mm * 10 voxels from the centre; straightening takes half of it back.
    assert moved < 0.01 * 0.9 * 10
    np.testing.assert_allclose(sform_of(target)[:, 0], straight[:, 0], atol=0.01)


@pytest.mark.parametrize("ending", [".mha", ".mhd", ".nrrd", ".nhdr"])
def test_shear_is_refused_and_repaired_in_other_formats(tmp_path, ending):
    image = sitk.GetImageFromArray(np.arange(np.prod(SHAPE), dtype=np.int16).reshape(SHAPE))
    image.SetSpacing((0.9, 0.8, 2.5))
    image.SetDirection((1, 0.01, 0, 0, math.sqrt(1 - 1e-4), 0, 0, 0, 1))
    path = tmp_path / f"a{ending}"
    sitk.WriteImage(image, str(path))
    with pytest.raises(UserError, match=r"sheared by 0.57 degrees.*--fix"):
        read_image(path)
    target, done = repair_shear(path, tmp_path / "fixed" / f"a{ending}")
    assert done is not None
    assert "moves no corner by more than" in done
    repaired = read_image(target)
    np.testing.assert_array_equal(repaired.array[0], sitk.GetArrayFromImage(image))
    np.testing.assert_allclose(repaired.geometry.direction, np.eye(3).ravel(), atol=0.006)
    assert (is_sheared(path), is_sheared(target), is_sheared(tmp_path / "absent.nii")) == (True, False, False)
    straight, said = read_straight(path)
    np.testing.assert_array_equal(straight.array, repaired.array)
    assert (straight.geometry, said) == (repaired.geometry, done)
    assert read_straight(target)[1] is None


@pytest.mark.parametrize("broken", [0.0, np.nan])
def test_an_axis_without_length_is_named(oblique, broken):
    sform = sform_of(oblique)
    sform[:, 2] = broken
    change(oblique, sform, (0, 1))
    for read in (read_geometry, lambda path: write_without_shear(path, path.with_name("fixed.nii.gz"))):
        with pytest.raises(UserError, match=r"no length or direction|not a number"):
            read(oblique)


def test_a_transform_without_numbers_is_no_place(oblique):
    sform = sform_of(oblique)
    sform[:, 2] = np.nan
    change(oblique, sform, (1, 1))
    for read in (read_geometry, read_image):
        with pytest.raises(UserError, match=r"case_0000.nii.gz .* (not a number|no length or direction)"):
            read(oblique)


def test_unused_fields_that_are_no_numbers_do_not_reach_the_record(oblique):
    sform = sform_of(oblique)
    sform[0] = np.nan
    change(oblique, sform, (1, 0))
    geometry = read_geometry(oblique)
    assert msgspec.json.decode(msgspec.json.encode(geometry), type=Geometry) == geometry


def test_the_header_fields_change_no_digest_of_other_formats():
    """Nor what is written of them: earlier releases read it."""
    geometry = Geometry(shape_zyx=(1, 2, 3), spacing_zyx_mm=(1.0, 1.0, 1.0))
    content = {
        "shape_zyx": (1, 2, 3),
        "spacing_zyx_mm": (1.0, 1.0, 1.0),
        "origin_xyz_mm": (0.0, 0.0, 0.0),
        "direction": (1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0),
        "dimensions": 3,
    }
    assert msgspec.json.encode(geometry) == msgspec.json.encode(content)
    assert digest(geometry) == digest(msgspec.json.encode(content))


@pytest.mark.parametrize("ending", [".nii", ".nii.gz", ".hdr"])
@pytest.mark.parametrize("kind", [np.uint8, np.uint16, np.int32, np.int64, np.float32, np.bool_])
def test_what_is_written_is_read_by_nibabel_and_itk(tmp_path, ending, kind):
    array = (np.arange(60).reshape(3, 4, 5) % 7).astype(kind)
    geometry = Geometry(
        shape_zyx=(3, 4, 5),
        spacing_zyx_mm=(3.0, 2.0, 1.5),
        origin_xyz_mm=(4.0, 5.0, 6.0),
        direction=(0, 1, 0, -1, 0, 0, 0, 0, 1),
    )
    path = tmp_path / f"x.nii_0000{ending}"  # ITK collapses such stems
    write_segmentation(path, array, geometry)
    written = (nib.Nifti1Pair if ending == ".hdr" else nib.Nifti1Image).from_filename(path)
    np.testing.assert_array_equal(np.asarray(written.dataobj).T, array)
    plain = tmp_path / f"y{ending}"
    copy_image(path, plain)
    image = sitk.ReadImage(str(plain))
    np.testing.assert_array_equal(sitk.GetArrayFromImage(image), array)
    assert image.GetSpacing() == (1.5, 2.0, 3.0)
    assert image.GetOrigin() == (4.0, 5.0, 6.0)
    np.testing.assert_allclose(image.GetDirection(), geometry.direction, atol=1e-6)


def test_a_changed_grid_is_not_written_with_the_old_transforms(oblique):
    geometry = msgspec.structs.replace(read_geometry(oblique), origin_xyz_mm=(50.0, 0.0, 0.0))
    target = oblique.with_name("moved.nii.gz")
    write_segmentation(target, np.zeros(SHAPE, np.uint8), geometry)
    assert read_geometry(target).origin_xyz_mm == pytest.approx((50.0, 0.0, 0.0))


def test_a_photograph_is_written_flat(tmp_path):
    geometry = Geometry(shape_zyx=(1, 4, 5), spacing_zyx_mm=(1.0, 1.0, 1.0), dimensions=2)
    path = tmp_path / "a.nii.gz"
    write_segmentation(path, np.arange(20, dtype=np.uint8).reshape(1, 4, 5), geometry)
    assert sitk.ReadImage(str(path)).GetSize() == (5, 4)
    label = read_label(path)
    assert label.geometry.dimensions == 2
    np.testing.assert_array_equal(label.array[0, 0], np.arange(20).reshape(4, 5))
    assert gzip.decompress(path.read_bytes())[CODES] == 1


@pytest.mark.parametrize("codes", [(1, 513), (-1, 1), (6, 0)])
def test_an_unknown_code_which_programs_take_differently_is_refused(oblique, codes):
    change(oblique, sform_of(oblique), codes)
    with pytest.raises(
        UserError, match=r"case_0000.nii.gz has the unknown [qs]form_code -?\d+; set it to a code from 0 to 5"
    ):
        read_geometry(oblique)


def test_a_sheared_pair_is_repaired_with_its_voxels(oblique):
    image = nib.Nifti1Image.from_filename(oblique)
    pair = oblique.with_name("pair.hdr")
    affine = image.affine.copy()
    affine[:3, 1] += 0.01 * affine[:3, 0]
    nib.save(nib.Nifti1Pair(np.asarray(image.dataobj), affine), pair)
    content = bytearray(pair.read_bytes())
    struct.pack_into("<2h", content, CODES, 0, 1)
    pair.write_bytes(content)
    assert is_sheared(pair)
    volume, done = read_straight(pair)
    assert done is not None
    np.testing.assert_array_equal(volume.array, read_image(oblique).array)
    with pytest.raises(UserError, match=r"sheared by 0.64 degrees.*--fix"):
        read_geometry(pair)


def test_a_header_without_directions_says_which_are_taken(oblique):
    change(oblique, sform_of(oblique), (0, 0))
    geometry = read_geometry(oblique)
    assert world_mm(geometry, np.array([[0, 0, 1]]))[0, 0] < 0  # LPS: to the right
    (text,) = place_warnings(oblique.name, geometry)
    assert text.startswith(f"{oblique.name} has neither sform nor qform")
