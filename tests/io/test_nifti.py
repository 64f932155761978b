"""Transforms in NIfTI headers, compared with headers that SimpleITK wrote, and the repair of shear."""

import math

import numpy as np
import pytest
import SimpleITK as sitk

from tests.helpers.nifti import change, sform_of, shear
from unetrpp.core.errors import UserError
from unetrpp.io.geometry import world_mm
from unetrpp.io.images import read_geometry, read_image
from unetrpp.io.nifti import (
    Transforms,
    read_transforms,
    require_repairable,
    shear_degrees,
    write_without_shear,
)

SHAPE = (6, 20, 16)


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


def transforms(path) -> Transforms:
    found = read_transforms(path)
    assert found is not None
    return found


def test_both_transforms_equal_those_that_itk_wrote(oblique):
    found = transforms(oblique)
    ends = world_mm(read_geometry(oblique), np.array([[0, 0, 0], [5, 19, 15]])) * (-1, -1, 1)
    for corners in found.corners_mm().values():
        np.testing.assert_allclose(corners[[0, -1]], ends, atol=1e-4)
    assert found.distance_mm() < 1e-4
    assert read_transforms(oblique.with_name("none.png")) is None


@pytest.mark.parametrize(("codes", "taken"), [((1, 1), "sform"), ((1, 2), "qform")])
def test_where_they_differ_the_one_that_itk_uses_is_named(oblique, codes, taken):
    sform = sform_of(oblique)
    sform[0, 3] += 7
    change(oblique, sform, codes)
    found, geometry = transforms(oblique), read_geometry(oblique)
    assert found.distance_mm() == pytest.approx(7, abs=1e-4)
    assert found.used_for(geometry) == taken
    assert geometry.origin_xyz_mm[0] == pytest.approx(3.0 if taken == "sform" else 10.0)


def test_a_little_shear_is_refused_by_itk_and_repaired(oblique):
    voxels = read_image(oblique).array
    straight = sform_of(oblique)
    shear(oblique, 0.01)
    degrees = shear_degrees(sform_of(oblique))
    with pytest.raises(UserError, match=r"sheared by 0.64 degrees.*--fix"):
        read_geometry(oblique)
    target = oblique.with_name("repaired.nii.gz")
    moved = write_without_shear(oblique, target)
    assert degrees == pytest.approx(math.degrees(math.atan(0.01 * 0.9 / 0.8)), rel=1e-2)
    np.testing.assert_array_equal(read_image(target).array, voxels)
    repaired = transforms(target)
    assert repaired.qform is None
    assert shear_degrees(sform_of(target)) < 1e-3
    # The shear moved a corner by 0.01 * 0.9 mm * 10 voxels from the centre; the repair moves it back by half of that.
    assert moved < 0.01 * 0.9 * 10
    np.testing.assert_allclose(sform_of(target)[:, 0], straight[:, 0], atol=0.01)


def test_a_large_shear_is_refused(oblique):
    shear(oblique, 0.1)
    for attempt in (read_geometry, lambda path: write_without_shear(path, path.with_name("repaired.nii.gz"))):
        with pytest.raises(UserError, match=r"sheared by 6.4 degrees.*up to 1 degree only"):
            attempt(oblique)


@pytest.mark.parametrize("broken", [0.0, np.nan])
def test_an_axis_without_length_is_refused(oblique, broken):
    sform = sform_of(oblique)
    sform[:, 2] = broken
    change(oblique, sform, (0, 1))
    with pytest.raises(UserError, match="gives an axis no length or direction"):
        require_repairable(oblique)


def test_a_transform_with_nan_is_refused(oblique):
    sform = sform_of(oblique)
    sform[:, 2] = np.nan
    change(oblique, sform, (1, 1))
    for read in (read_geometry, read_image):
        with pytest.raises(UserError, match=r"case_0000.nii.gz .* (not a number|no length or direction)"):
            read(oblique)
