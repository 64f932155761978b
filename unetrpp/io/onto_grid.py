"""Putting voxels onto another grid whose voxels they share: a crop, a plane, other axes. Nothing is resampled."""

import itertools

import numpy as np

from unetrpp.core.errors import UserError
from unetrpp.core.text import counted
from unetrpp.io.geometry import GRID_LIMIT_VOXELS, Geometry


def paste(array: np.ndarray, own: Geometry, target: np.ndarray, onto: Geometry, *, name: str) -> None:
    """Write ``array`` (Z, Y, X) on the grid ``own`` into ``target`` (Z, Y, X) on the grid ``onto``; the larger value stays.

    Its voxels may be off those of ``onto`` by the quarter of a voxel by which one grid may differ.

    Args:
        name: of the file, for messages.

    Raises:
        UserError: the voxels lie between those of ``onto``, or some above 0 outside of it.
    """
    turn, shift = _whole_steps(own, onto, name)
    axes = np.abs(turn).argmax(axis=1)  # the own axis along each axis of ``onto``, in (z, y, x) order
    forward = turn[range(3), axes] > 0
    turned = array.transpose(*axes)[tuple(slice(None, None, 1 if ahead else -1) for ahead in forward)]
    start = np.where(forward, shift, shift - np.array(turned.shape) + 1)
    low = np.maximum(start, 0)
    high = np.maximum(np.minimum(start + turned.shape, onto.shape_zyx), low)
    kept = turned[tuple(slice(a, b) for a, b in zip(low - start, high - start, strict=True))]
    place = target[tuple(slice(a, b) for a, b in zip(low, high, strict=True))]
    if lost := np.count_nonzero(array) - np.count_nonzero(kept):
        raise UserError(
            f"{name} has {counted(int(lost), 'labelled voxel')} outside of the image; give the whole image that it was drawn on"
        )
    np.maximum(place, kept, out=place)


def _whole_steps(own: Geometry, onto: Geometry, name: str) -> tuple[np.ndarray, np.ndarray]:
    """The matrix (3, 3) of 0, 1 and -1 and the shift that take an index (z, y, x) on ``own`` to that on ``onto``.

    Raises:
        UserError: no such steps exist.
    """
    to_index = np.linalg.inv(_steps_mm(onto))
    exact = to_index @ _steps_mm(own)
    offset = to_index @ (np.array(own.origin_xyz_mm) - np.array(onto.origin_xyz_mm))[::-1]
    turn, shift = np.rint(exact), np.rint(offset)
    corners = np.array(list(itertools.product((0, 1), repeat=3))) * (np.array(own.shape_zyx) - 1)
    off = np.abs(corners @ (exact - turn).T + offset - shift).max()
    if sorted(np.abs(turn).sum(axis=0)) != [1, 1, 1] or sorted(np.abs(turn).sum(axis=1)) != [1, 1, 1]:
        raise UserError(f"{name} has voxels of another size or direction than the image; export it on the image's grid")
    if off > GRID_LIMIT_VOXELS:
        raise UserError(
            f"{name} is not on the image's grid: its voxels lie up to {off:.2g} voxels off those of the image "
            f"(tolerance {GRID_LIMIT_VOXELS:g}); export it on the image's grid"
        )
    return turn.astype(int), shift.astype(int)


def _steps_mm(geometry: Geometry) -> np.ndarray:
    """The step along each index as a column, both in (z, y, x) order."""
    steps: np.ndarray = np.array(geometry.direction).reshape(3, 3) * geometry.spacing_zyx_mm[::-1]
    return steps[::-1, ::-1]


def index_of(points_mm: np.ndarray, geometry: Geometry) -> np.ndarray:
    """Voxel indices (n, 3) in (z, y, x) order, with fractions, of world coordinates (n, 3) in LPS mm (x, y, z)."""
    offsets = (points_mm - np.array(geometry.origin_xyz_mm))[:, ::-1]
    indices: np.ndarray = offsets @ np.linalg.inv(_steps_mm(geometry)).T
    return indices
