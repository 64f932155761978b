"""Geometry against SimpleITK: world coordinates, canonical orientation, comparison of grids in mm."""

import numpy as np
import pytest
import SimpleITK as sitk
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from unetrpp.geometry import Geometry, canonical_orientation, from_canonical, same_grid, to_canonical, world_mm
from unetrpp.images import from_sitk

ORIENTATIONS = ["LPS", "RAS", "RPI", "ASR", "PIR", "SAL", "IRP"]


def image(shape=(3, 4, 5), spacing_xyz=(1.0, 2.0, 3.0), origin=(7.0, -8.0, 9.0), direction=None):
    made = sitk.GetImageFromArray(np.arange(np.prod(shape), dtype=np.float32).reshape(shape))
    made.SetSpacing(spacing_xyz)
    made.SetOrigin(origin)
    if direction is not None:
        made.SetDirection(np.asarray(direction, float).ravel())
    return made


def rotation(seed, degrees=180.0):
    rng = np.random.default_rng(seed)
    return Rotation.from_rotvec(rng.normal(size=3) * np.radians(degrees) / 3).as_matrix()


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10**6))
def test_world_coordinates_equal_itks(seed):
    made = image(direction=rotation(seed))
    geometry = from_sitk(made).geometry
    for index in ((0, 0, 0), (2, 3, 4), (1, 0, 3)):
        expected = made.TransformIndexToPhysicalPoint(tuple(reversed(index)))
        np.testing.assert_allclose(world_mm(geometry, np.array([index]))[0], expected, atol=1e-9)


@pytest.mark.parametrize("code", ORIENTATIONS)
def test_every_axis_aligned_frame_turns_to_lps_as_itk_does(code):
    turned = sitk.DICOMOrient(image(), code)
    volume = from_sitk(turned)
    orientation = canonical_orientation(volume.geometry)
    np.testing.assert_array_equal(
        to_canonical(volume.array, orientation)[0], sitk.GetArrayFromImage(sitk.DICOMOrient(turned, "LPS"))
    )


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10**6))
def test_oblique_frames_turn_there_and_back_and_never_use_an_axis_twice(seed):
    volume = from_sitk(image(direction=rotation(seed)))
    orientation = canonical_orientation(volume.geometry)
    assert sorted(orientation.axes) == [0, 1, 2]
    canonical = to_canonical(volume.array, orientation)
    np.testing.assert_array_equal(from_canonical(canonical, orientation), volume.array)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10**6))
def test_a_slight_tilt_does_not_change_the_orientation(seed):
    volume = from_sitk(image(direction=rotation(seed, degrees=20)))
    assert canonical_orientation(volume.geometry).axes == (0, 1, 2)
    assert canonical_orientation(volume.geometry).flips == ()


def test_grids_are_compared_by_what_moves_in_mm():
    grid = Geometry(shape_zyx=(10, 100, 100), spacing_zyx_mm=(3, 1, 1))
    assert same_grid(grid, grid, 0.01) == []
    rounded = Geometry(shape_zyx=grid.shape_zyx, spacing_zyx_mm=(3, 1 + 1e-8, 1), origin_xyz_mm=(1e-6, 0, 0))
    assert same_grid(grid, rounded, 0.01) == []
    stretched = Geometry(shape_zyx=grid.shape_zyx, spacing_zyx_mm=(3, 1.01, 1))
    assert same_grid(grid, stretched, 0.01) == ["corners lie 0.99 mm apart (tolerance 0.01 mm)"]
    assert same_grid(grid, Geometry(shape_zyx=(9, 100, 100), spacing_zyx_mm=(3, 1, 1)), 1.0) == [
        "shape (10, 100, 100) against (9, 100, 100)"
    ]
