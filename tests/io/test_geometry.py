"""Canonical orientation and grids, for oblique, flipped and permuted directions."""

import numpy as np
import pytest
import SimpleITK as sitk
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from unetrpp.io.geometry import (
    Geometry,
    canonical_orientation,
    reorder,
    resampled_shape,
    same_grid,
    to_canonical,
    world_mm,
)

grids = st.tuples(
    st.permutations([0, 1, 2]),
    st.lists(st.sampled_from([-1, 1]), min_size=3, max_size=3),
    st.tuples(*[st.floats(-30, 30)] * 3),
)


def geometry_of(grid, shape=(3, 4, 5), spacing=(2.0, 1.0, 0.5)):
    axes, signs, angles = grid
    matrix = Rotation.from_euler("zyx", angles, degrees=True).as_matrix() @ (np.eye(3)[axes] * signs)
    direction = tuple(float(v) for v in matrix.ravel())
    return Geometry(shape_zyx=shape, spacing_zyx_mm=spacing, origin_xyz_mm=(7.0, -8.0, 9.0), direction=direction)


@settings(max_examples=60, deadline=None)
@given(grids)
def test_canonical_axes_are_nearest_to_left_back_and_head(grid):
    geometry = geometry_of(grid)
    orientation = canonical_orientation(geometry)
    assert sorted(orientation.axes) == [0, 1, 2]
    # World position of every voxel, turned like an image; steps along z, y, x then go mostly to +z, +y, +x.
    index = np.stack(np.meshgrid(*(np.arange(n) for n in geometry.shape_zyx), indexing="ij"), axis=-1)
    world = world_mm(geometry, index.reshape(-1, 3)).reshape(*geometry.shape_zyx, 3)
    turned = to_canonical(np.moveaxis(world, -1, 0), orientation)
    total = 0.0
    for axis, component in ((0, 2), (1, 1), (2, 0)):
        step = np.diff(turned, axis=axis + 1).reshape(3, -1)[:, 0]
        assert step[component] > 0 or abs(step[component]) < 1e-9
        total += step[component] / np.linalg.norm(step)
    matrix = np.abs(np.array(geometry.direction).reshape(3, 3))
    best = max(
        matrix[[0, 1, 2], list(p)].sum() for p in ((0, 1, 2), (0, 2, 1), (1, 0, 2), (1, 2, 0), (2, 0, 1), (2, 1, 0))
    )
    assert total == pytest.approx(best)


@settings(max_examples=30, deadline=None)
@given(grids)
def test_equal_to_itks_orientation_filter_where_not_oblique(grid):
    axes, signs, _ = grid
    geometry = geometry_of((axes, signs, (0.0, 0.0, 0.0)))
    array = np.arange(60, dtype=np.int16).reshape(3, 4, 5)
    image = sitk.GetImageFromArray(array)
    image.SetSpacing(geometry.spacing_zyx_mm[::-1])
    image.SetDirection(geometry.direction)
    expected = sitk.GetArrayFromImage(sitk.DICOMOrient(image, "LPS"))
    np.testing.assert_array_equal(to_canonical(array, canonical_orientation(geometry)), expected)


def test_world_positions_equal_itks():
    geometry = geometry_of(([1, 0, 2], [1, -1, 1], (10.0, 20.0, 5.0)))
    image = sitk.Image(5, 4, 3, sitk.sitkUInt8)
    image.SetSpacing(geometry.spacing_zyx_mm[::-1])
    image.SetOrigin(geometry.origin_xyz_mm)
    image.SetDirection(geometry.direction)
    expected = image.TransformIndexToPhysicalPoint((4, 2, 1))
    np.testing.assert_allclose(world_mm(geometry, np.array([[1, 2, 4]]))[0], expected, atol=1e-9)


def test_grids_are_compared_in_mm():
    a = geometry_of(([0, 1, 2], [1, 1, 1], (0.0, 0.0, 0.0)))
    nudged = Geometry(
        shape_zyx=a.shape_zyx,
        spacing_zyx_mm=a.spacing_zyx_mm,
        origin_xyz_mm=(7.0 + 1e-6, -8.0, 9.0),
        direction=a.direction,
    )
    assert same_grid(a, nudged, 1e-2) == []
    moved = Geometry(
        shape_zyx=a.shape_zyx, spacing_zyx_mm=a.spacing_zyx_mm, origin_xyz_mm=(7.5, -8.0, 9.0), direction=a.direction
    )
    assert "0.5 mm apart" in same_grid(a, moved, 1e-2)[0]
    other = geometry_of(([0, 1, 2], [1, 1, 1], (0.0, 0.0, 0.0)), shape=(3, 4, 6))
    assert "shape" in same_grid(a, other, 1e-2)[0]


def test_shapes_after_resampling():
    assert resampled_shape((10, 11, 3), (1.0, 1.0, 1.0), (2.0, 2.0, 9.0)) == (5, 6, 1)
    assert reorder(("z", "y", "x"), (2, 0, 1)) == ("x", "z", "y")
