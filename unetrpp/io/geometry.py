"""Geometry: where voxels lie in the world (spacing, origin, direction), and the canonical orientation; pure functions.

Arrays are (C, Z, Y, X) and every per-axis tuple is in array order (z, y, x), except the two in ITK's order:
``origin_xyz_mm`` and the columns of ``direction``. World coordinates are LPS (x to the patient's left, y to the back,
z to the head), as in ITK and DICOM.
"""

import itertools
import math
from typing import TypeVar

import numpy as np
from msgspec import UNSET, UnsetType

from unetrpp.core.files import Record
from unetrpp.io.placement import NiftiPlacement

T = TypeVar("T")
Axes = tuple[int, int, int]
Spacing = tuple[float, float, float]
SAME_GRID_VOXELS = 0.01  # share of a voxel by which the corners of one grid may differ: rounding in a header
GRID_LIMIT_VOXELS = 0.25  # share of a voxel from which two grids are different ones


class Geometry(Record, frozen=True, kw_only=True):
    """The grid of a volume.

    ``direction`` is ITK's 3 x 3 cosine matrix, row by row; its columns are the world directions of x, y and z.
    """

    shape_zyx: tuple[int, int, int]
    spacing_zyx_mm: Spacing
    origin_xyz_mm: tuple[float, float, float] = (0.0, 0.0, 0.0)
    direction: tuple[float, ...] = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0)
    dimensions: int = 3  # of the file: 2 for a photograph, which gets a z axis of one slice
    nifti: NiftiPlacement | UnsetType = UNSET  # a header's own fields, which a segmentation of the image carries on

    later_fields = frozenset({"nifti"})


class Orientation(Record, frozen=True, kw_only=True):
    """How to turn an array (Z, Y, X) into the canonical frame: transpose by ``axes``, then flip ``flips``.

    ``axes[i]`` is the source axis that becomes axis ``i``; ``flips`` are canonical axes.
    """

    axes: Axes
    flips: tuple[int, ...]


def canonical_orientation(geometry: Geometry) -> Orientation:
    """The transpose and flips that bring a volume's axes nearest to LPS.

    Among the six assignments of image axes to world axes the one with the largest sum of absolute cosines is taken,
    so that no world axis is assigned twice, however oblique the image is.

    >>> canonical_orientation(Geometry(shape_zyx=(2, 3, 4), spacing_zyx_mm=(1, 1, 1)))
    Orientation(axes=(0, 1, 2), flips=())
    >>> canonical_orientation(
    ...     Geometry(shape_zyx=(2, 3, 4), spacing_zyx_mm=(1, 1, 1), direction=(-1, 0, 0, 0, -1, 0, 0, 0, 1)))
    Orientation(axes=(0, 1, 2), flips=(1, 2))
    """
    cosines = np.array(geometry.direction).reshape(3, 3)[::-1, ::-1]  # rows: world z, y, x; columns: array z, y, x
    axes = max(itertools.permutations(range(3)), key=lambda p: sum(abs(cosines[w, a]) for w, a in enumerate(p)))
    flips = tuple(world for world, axis in enumerate(axes) if cosines[world, axis] < 0)
    return Orientation(axes=(axes[0], axes[1], axes[2]), flips=flips)


def to_canonical(array: np.ndarray, orientation: Orientation) -> np.ndarray:
    """Turn the last three axes of ``array`` into the canonical frame (a view)."""
    lead = array.ndim - 3
    array = array.transpose(*range(lead), *(lead + a for a in orientation.axes))
    return np.flip(array, tuple(lead + a for a in orientation.flips))


def reorder(values: tuple[T, T, T], axes: Axes) -> tuple[T, T, T]:
    """Per-axis values after a transpose by ``axes``.

    >>> reorder((1, 2, 3), (2, 0, 1))
    (3, 1, 2)
    """
    return values[axes[0]], values[axes[1]], values[axes[2]]


def resampled_shape(shape: tuple[int, ...], spacing: tuple[float, ...], target: tuple[float, ...]) -> tuple[int, ...]:
    """Voxels per axis after resampling: round(n * spacing / target), at least one.

    >>> resampled_shape((10, 10, 10), (3.0, 1.0, 1.0), (1.0, 1.0, 2.0))
    (30, 10, 5)
    """
    return tuple(max(1, round(n * s / t)) for n, s, t in zip(shape, spacing, target, strict=True))


def voxel_volume_mm3(spacing: tuple[float, ...]) -> float:
    """The volume of one voxel in mm3 from its spacing in mm."""
    return math.prod(spacing)


def smallest_step_mm(geometry: Geometry) -> float:
    """The smallest spacing along an axis of more than one voxel."""
    steps = zip(geometry.spacing_zyx_mm, geometry.shape_zyx, strict=True)
    return min((step for step, n in steps if n > 1), default=min(geometry.spacing_zyx_mm))


def same_grid(a: Geometry, b: Geometry, voxels: float) -> list[str]:
    """What differs between two grids, as phrases; empty when they agree.

    The corners are compared in mm, so that a rounding of the direction counts by how far it moves them. They may lie
    ``voxels`` apart, counted in the smallest spacing of the two, which suits a microscope as well as a scanner.
    """
    if a.shape_zyx != b.shape_zyx:
        return [f"shape {a.shape_zyx} against {b.shape_zyx}"]
    corners = np.array(list(itertools.product((0, 1), repeat=3))) * (np.array(a.shape_zyx) - 1)
    shift = float(np.linalg.norm(world_mm(a, corners) - world_mm(b, corners), axis=1).max())
    step = min(smallest_step_mm(a), smallest_step_mm(b))
    apart = f"corners lie {shift:.3g} mm apart, {shift / step:.3g} voxels (tolerance {voxels:g})"
    return [] if shift <= voxels * step else [apart]


def world_mm(geometry: Geometry, index_zyx: np.ndarray) -> np.ndarray:
    """World coordinates (n, 3) in LPS mm of voxel indices (n, 3) in (z, y, x) order."""
    direction = np.array(geometry.direction).reshape(3, 3)
    steps = index_zyx[:, ::-1] * np.array(geometry.spacing_zyx_mm[::-1])
    world: np.ndarray = np.array(geometry.origin_xyz_mm) + steps @ direction.T
    return world
