"""Voxels on another grid against ITK's resampling by the nearest neighbour."""

import itertools

import numpy as np
import pytest
import SimpleITK as sitk

from unetrpp.core.errors import UserError
from unetrpp.io.geometry import Geometry, world_mm
from unetrpp.io.images import to_sitk
from unetrpp.io.onto_grid import index_of, paste

ANGLE = np.radians(20)
OBLIQUE = np.array([[np.cos(ANGLE), -np.sin(ANGLE), 0], [np.sin(ANGLE), np.cos(ANGLE), 0], [0, 0, 1]])
ONTO = Geometry(
    shape_zyx=(6, 8, 7),
    spacing_zyx_mm=(3.0, 0.7, 0.9),
    origin_xyz_mm=(-5.0, 20.0, 3.5),
    direction=tuple(OBLIQUE.ravel()),
)


def part_of(onto, axes, signs, first):
    """The grid of a block of 3 x 4 x 5 voxels that starts at a voxel of ``onto``, with its axes permuted and turned."""
    shape = np.array([3, 4, 5])
    directions = np.array(onto.direction).reshape(3, 3)[:, ::-1][:, list(axes)] * signs  # columns z, y, x
    spacing = [onto.spacing_zyx_mm[axis] for axis in axes]
    origin = world_mm(onto, np.array([first]))[0]
    return Geometry(
        shape_zyx=tuple(shape.tolist()),
        spacing_zyx_mm=tuple(spacing),
        origin_xyz_mm=tuple(origin.tolist()),
        direction=tuple(directions[:, ::-1].ravel().tolist()),
    )


def pasted(array, own, onto=ONTO):
    target = np.zeros(onto.shape_zyx, array.dtype)
    paste(array, own, target, onto, name="a.nrrd")
    return target


def resampled(array, own, onto=ONTO):
    reference = to_sitk(np.zeros(onto.shape_zyx, np.uint8), onto)
    return sitk.GetArrayFromImage(
        sitk.Resample(to_sitk(array, own), reference, sitk.Transform(), sitk.sitkNearestNeighbor, 0.0)
    )


@pytest.mark.parametrize("axes", list(itertools.permutations(range(3))))
@pytest.mark.parametrize("signs", [(1, 1, 1), (-1, 1, -1), (-1, -1, -1)])
def test_a_block_lands_where_itk_puts_it(axes, signs):
    rng = np.random.default_rng(3)
    array = rng.integers(0, 3, (3, 4, 5)).astype(np.uint8)
    first = [0, 0, 0]
    for own_axis, axis in enumerate(axes):  # so that the block lies inside
        first[axis] = 0 if signs[own_axis] > 0 else array.shape[own_axis] - 1
    own = part_of(ONTO, axes, signs, first)
    np.testing.assert_array_equal(pasted(array, own), resampled(array, own))


def test_empty_margins_outside_are_cut_off_and_labelled_voxels_are_not():
    own = part_of(ONTO, (0, 1, 2), (1, 1, 1), (-1, 6, 5))
    array = np.zeros((3, 4, 5), np.uint8)
    array[1:, :2, :2] = 4
    np.testing.assert_array_equal(pasted(array, own), resampled(array, own))
    assert (pasted(array, own)[:2, 6:, 5:] == 4).all()
    array[0, 0, 0] = array[1, 3, 0] = 4
    with pytest.raises(UserError, match=r"a\.nrrd has 2 labelled voxels outside of the image"):
        pasted(array, own)
    far = part_of(ONTO, (0, 1, 2), (1, 1, 1), (50, -60, 70))
    assert not pasted(np.zeros((3, 4, 5), np.uint8), far).any()


@pytest.mark.parametrize(("shift", "refused"), [(0.2, False), (0.4, True)])
def test_a_shift_by_more_than_a_quarter_of_a_voxel_is_refused(shift, refused):
    own = part_of(ONTO, (0, 1, 2), (1, 1, 1), (1, 1 + shift, 1))
    if refused:
        with pytest.raises(UserError, match=r"not on the image's grid.* up to 0\.4 voxels off"):
            pasted(np.ones((3, 4, 5), np.uint8), own)
    else:
        assert pasted(np.ones((3, 4, 5), np.uint8), own)[1:4, 1:5, 1:6].all()


@pytest.mark.parametrize("change", [{"spacing_zyx_mm": (6.0, 0.7, 0.9)}, {"direction": tuple(np.eye(3).ravel())}])
def test_other_voxels_are_refused(change):
    fields = {name: getattr(ONTO, name) for name in ("shape_zyx", "spacing_zyx_mm", "origin_xyz_mm", "direction")}
    with pytest.raises(
        UserError, match=r"a\.nrrd (has voxels of another size or direction|is not on the image's grid)"
    ):
        pasted(np.ones(ONTO.shape_zyx, np.uint8), Geometry(**(fields | change)))


def test_indices_are_those_of_itk():
    points = np.random.default_rng(0).normal(size=(5, 3)) * 20
    image = to_sitk(np.zeros(ONTO.shape_zyx, np.uint8), ONTO)
    expected = [image.TransformPhysicalPointToContinuousIndex(point.tolist())[::-1] for point in points]
    np.testing.assert_allclose(index_of(points, ONTO), expected, atol=1e-9)
