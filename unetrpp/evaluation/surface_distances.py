"""Distances between the surfaces of two masks in mm: HD95 and the normalised surface distance (NSD).

HD95 is taken over border voxels. NSD (Nikolov et al. 2018, arXiv:1809.04430, section 4) is taken over surface elements
weighted with their area, so that a fine in-plane grid does not outvote a coarse axis.
"""

import math
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from scipy import ndimage

Scores: TypeAlias = dict[str, float | None]
Spacing: TypeAlias = tuple[float, ...]

ROUNDING = 1e-6  # relative, of distances that are multiples of a spacing such as 0.15
WIDEST = 2.5  # voxels: largest standard deviation of the Gaussian that averages surface normals


def surface_scores(
    predicted: np.ndarray,
    true: np.ndarray,
    spacing: Spacing,
    *,
    tolerance_mm: float | None = None,
    valid: np.ndarray | None = None,
) -> Scores:
    """HD95 in mm (the larger of the two directed 95th percentiles, and over both pooled) and NSD of two masks.

    Both empty: all undefined. One empty: NSD is 0, HD95 undefined, and ``HD95_or_diagonal`` is the image's diagonal.

    Args:
        predicted: mask (Z, Y, X).
        true: mask of the same shape.
        spacing: of the axes, in mm.
        tolerance_mm: largest distance at which NSD counts a surface element as correct; None: :func:`one_voxel`.
        valid: False under the ignore label, whose border is no surface.
    """
    diagonal = math.dist((0,) * len(spacing), [n * s for n, s in zip(predicted.shape, spacing, strict=True)])
    if not (predicted.any() and true.any()):
        one = bool(predicted.any() or true.any())
        return {
            "HD95": None,
            "HD95_pooled": None,
            "HD95_or_diagonal": diagonal if one else None,
            "NSD": 0.0 if one else None,
        }
    pair = _cropped(predicted, true, spacing, valid)
    scores = _hausdorff95(pair)
    scores["HD95_or_diagonal"] = diagonal if scores["HD95"] is None else scores["HD95"]
    tolerance = one_voxel(pair.spacing) if tolerance_mm is None else tolerance_mm
    return scores | {"NSD": _normalised_surface_distance(pair, tolerance)}


def one_voxel(spacing: Spacing) -> float:
    """The edge of a voxel that stands for its size: the middle one of three, in the plane of a stack of slices; the longer of two.

    A tolerance of the slice distance would count in the plane as correct whatever is several voxels off.

    >>> one_voxel((7.5, 0.5, 0.5)), one_voxel((0.15, 0.15, 0.15)), one_voxel((2.0, 1.0))
    (0.5, 0.15, 2.0)
    """
    return sorted(spacing)[len(spacing) // 2]


def pooled_hausdorff95(
    predicted: np.ndarray, true: np.ndarray, spacing: Spacing, valid: np.ndarray | None = None
) -> float | None:
    """95th percentile of both directions' border distances together; the masks are not empty.

    None where the ignore label leaves a mask without a border.
    """
    return _hausdorff95(_cropped(predicted, true, spacing, valid))["HD95_pooled"]


@dataclass(frozen=True)
class _MaskPair:
    """Two masks cut to their common box, with a margin of one voxel so that nothing touches the arrays' edge."""

    predicted: np.ndarray
    true: np.ndarray
    valid: np.ndarray
    spacing: Spacing


def _cropped(predicted: np.ndarray, true: np.ndarray, spacing: Spacing, valid: np.ndarray | None) -> _MaskPair:
    """The pair without axes of length one (those of 2D images)."""
    box = ndimage.find_objects((predicted | true).astype(np.uint8))[0]
    long = [n > 1 for n in predicted.shape]
    long[-1] |= not any(long)  # an image of one voxel keeps one axis
    margin = [(1, 1) if is_long else (0, 0) for is_long in long]
    grown = tuple(slice(max(0, s.start - 1), s.stop + 1) for s in box)
    everywhere = np.ones([g.indices(n)[1] - g.start for g, n in zip(grown, predicted.shape, strict=True)], bool)
    first = tuple(slice(None) if is_long else 0 for is_long in long)
    # Outside the image is annotated background.
    known = np.pad(everywhere if valid is None else valid[grown], margin, constant_values=True)[first]
    ours, theirs = (np.pad(a, margin)[first] for a in (predicted[grown], true[grown]))
    return _MaskPair(ours, theirs, known, tuple(s for s, is_long in zip(spacing, long, strict=True) if is_long))


def _hausdorff95(pair: _MaskPair) -> Scores:
    """HD95 and its pooled form in mm; None, too, where the ignore label leaves a mask without a border."""
    ours, theirs = border(pair.predicted, pair.valid), border(pair.true, pair.valid)
    if not (ours.any() and theirs.any()):
        return {"HD95": None, "HD95_pooled": None}
    to_true = ndimage.distance_transform_edt(~theirs, sampling=pair.spacing)[ours]
    to_predicted = ndimage.distance_transform_edt(~ours, sampling=pair.spacing)[theirs]
    return {
        "HD95": float(max(np.percentile(to_true, 95), np.percentile(to_predicted, 95))),
        "HD95_pooled": float(np.percentile(np.concatenate([to_true, to_predicted]), 95)),
    }


def border(mask: np.ndarray, valid: np.ndarray) -> np.ndarray:
    """Voxels of ``mask`` that share a face with annotated background. No mask touches the arrays' edge."""
    voxels: np.ndarray = mask & ndimage.binary_dilation(~mask & valid)
    return voxels


def _normalised_surface_distance(pair: _MaskPair, tolerance_mm: float) -> float | None:
    """Share of both surfaces' area that lies within the tolerance of the other one."""
    ours, theirs = (surface_areas(mask, pair.spacing, pair.valid) for mask in (pair.predicted, pair.true))
    area = ours.sum(dtype=np.float64) + theirs.sum(dtype=np.float64)
    if not (ours.any() and theirs.any()):
        return 0.0 if area else None
    to_theirs = ndimage.distance_transform_edt(theirs == 0, sampling=pair.spacing)
    to_ours = ndimage.distance_transform_edt(ours == 0, sampling=pair.spacing)
    within = tolerance_mm + abs(tolerance_mm) * ROUNDING  # a border that is one voxel off is one voxel off
    beyond = sum(a[far > within].sum(dtype=np.float64) for a, far in ((ours, to_theirs), (theirs, to_ours)))
    return float(1 - beyond / area)


def surface_areas(mask: np.ndarray, spacing: Spacing, valid: np.ndarray) -> np.ndarray:
    """Area (mm^2; mm of contour in 2D) of the surface element at every corner between voxels; shape n - 1 an axis.

    The area of voxel faces overstates a slanted surface, as the length of a staircase does that of a slope. So every
    face is multiplied with the cosine between it and the surface: a plane of area A and normal n has faces of area
    A |n_k| across axis k, and the sum of A |n_k|^2 is A. A corner's normal is the Gaussian-weighted mean of the signed
    faces around it; the Gaussian is as wide as the coarsest voxel, at most ``WIDEST`` voxels. Planes and balls come out
    right, sharp edges as rounded ones.
    """
    sigmas = [min(max(spacing) / s, WIDEST) for s in spacing]
    area, length = np.zeros((2, *(n - 1 for n in mask.shape)), np.float32)
    for axis in range(mask.ndim):
        steps = _steps(mask, valid, axis)
        face = np.float32(math.prod(s for other, s in enumerate(spacing) if other != axis))
        faces = _mean_of_neighbours(np.abs(steps), skip=axis) * face
        normal = _mean_of_neighbours(steps, skip=axis) * face
        normal = ndimage.gaussian_filter(normal, sigmas, mode="constant")
        area += faces * np.abs(normal)
        length += normal**2
    areas: np.ndarray = np.divide(area, np.sqrt(length), out=area, where=length > 0)
    return areas


def _steps(mask: np.ndarray, valid: np.ndarray, axis: int) -> np.ndarray:
    """1 where the mask ends along ``axis``, -1 where it begins, else 0; also 0 beside a voxel that is not valid."""
    (before, after), known = _neighbours(mask.astype(np.float32), axis), _neighbours(valid, axis)
    steps: np.ndarray = (before - after) * (known[0] & known[1])
    return steps


def _neighbours(array: np.ndarray, axis: int) -> tuple[np.ndarray, np.ndarray]:
    n = array.shape[axis]
    return array.take(range(n - 1), axis), array.take(range(1, n), axis)


def _mean_of_neighbours(array: np.ndarray, skip: int) -> np.ndarray:
    """Mean over each pair of neighbours along every axis but ``skip``."""
    for axis in range(array.ndim):
        if axis != skip:
            first, second = _neighbours(array, axis)
            array = (first + second) / 2
    return array
