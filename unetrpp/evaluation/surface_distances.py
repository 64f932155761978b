"""Distances between the surfaces of two masks in mm: HD95 and the normalised surface distance.

HD95 runs over border voxels. The normalised surface distance (Nikolov et al. 2018, arXiv:1809.04430, section 4) runs
over surface elements weighted with their area, so that a fine in-plane grid does not outvote a coarse axis.
"""

import math

import numpy as np
from scipy import ndimage

Scores = dict[str, float | None]

WIDEST = 2.5  # voxels: standard deviation of the Gaussian under which surface normals are averaged


def surface_scores(
    predicted: np.ndarray,
    true: np.ndarray,
    spacing: tuple[float, ...],
    tolerance_mm: float,
    valid: np.ndarray | None = None,
) -> Scores:
    """HD95 in mm (the larger of the two directed 95th percentiles, and over both pooled) and NSD of two masks.

    Both empty: all undefined. One empty: NSD is 0, HD95 undefined, and ``HD95_or_diagonal`` is the image's diagonal.
    ``valid`` is False under the ignore label, whose border is no surface.
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
    predicted, true, valid, spacing = _boxed(predicted, true, valid, spacing)
    scores = _hausdorff95(predicted, true, spacing, valid)
    scores["HD95_or_diagonal"] = diagonal if scores["HD95"] is None else scores["HD95"]
    return scores | {"NSD": _normalised_surface_distance(predicted, true, spacing, tolerance_mm, valid)}


def pooled_hausdorff95(
    predicted: np.ndarray, true: np.ndarray, spacing: tuple[float, ...], valid: np.ndarray | None = None
) -> float | None:
    """95th percentile of both directions' border distances together; the masks are not empty.

    None where the ignore label leaves a mask no border.
    """
    predicted, true, valid, spacing = _boxed(predicted, true, valid, spacing)
    return _hausdorff95(predicted, true, spacing, valid)["HD95_pooled"]


def _boxed(
    predicted: np.ndarray, true: np.ndarray, valid: np.ndarray | None, spacing: tuple[float, ...]
) -> tuple[np.ndarray, np.ndarray, np.ndarray, tuple[float, ...]]:
    """Cut to both masks' common box with one voxel around it, without axes of length one (2D images)."""
    box = ndimage.find_objects((predicted | true).astype(np.uint8))[0]
    deep = [n > 1 for n in predicted.shape]
    deep[-1] |= not any(deep)  # of a single voxel
    margin = [(1, 1) if d else (0, 0) for d in deep]
    grown = tuple(slice(max(0, s.start - 1), s.stop + 1) for s in box)
    everywhere = np.ones([g.indices(n)[1] - g.start for g, n in zip(grown, predicted.shape, strict=True)], bool)
    flat = tuple(slice(None) if d else 0 for d in deep)
    cut = [np.pad(a, margin)[flat] for a in (predicted[grown], true[grown])]
    # Outside the image is annotated background.
    known = np.pad(everywhere if valid is None else valid[grown], margin, constant_values=True)[flat]
    return cut[0], cut[1], known, tuple(s for s, d in zip(spacing, deep, strict=True) if d)


def _hausdorff95(predicted: np.ndarray, true: np.ndarray, spacing: tuple[float, ...], valid: np.ndarray) -> Scores:
    """Undefined as well where the ignore label leaves a mask no border."""
    ours, theirs = border(predicted, valid), border(true, valid)
    if not (ours.any() and theirs.any()):
        return {"HD95": None, "HD95_pooled": None}
    there = ndimage.distance_transform_edt(~theirs, sampling=spacing)[ours]
    back = ndimage.distance_transform_edt(~ours, sampling=spacing)[theirs]
    return {
        "HD95": float(max(np.percentile(there, 95), np.percentile(back, 95))),
        "HD95_pooled": float(np.percentile(np.concatenate([there, back]), 95)),
    }


def border(mask: np.ndarray, valid: np.ndarray) -> np.ndarray:
    """Voxels of ``mask`` with a face on annotated background. The arrays are padded: nothing touches their edge."""
    outside = ~mask & valid
    return mask & ndimage.binary_dilation(outside)


def _normalised_surface_distance(
    predicted: np.ndarray, true: np.ndarray, spacing: tuple[float, ...], tolerance_mm: float, valid: np.ndarray
) -> float | None:
    """Share of both surfaces' area that lies within the tolerance of the other one."""
    ours, theirs = surface_areas(predicted, spacing, valid), surface_areas(true, spacing, valid)
    area = ours.sum(dtype=np.float64) + theirs.sum(dtype=np.float64)
    if not (ours.any() and theirs.any()):
        return 0.0 if area else None
    to_theirs = ndimage.distance_transform_edt(theirs == 0, sampling=spacing)
    to_ours = ndimage.distance_transform_edt(ours == 0, sampling=spacing)
    beyond = sum(a[far > tolerance_mm].sum(dtype=np.float64) for a, far in ((ours, to_theirs), (theirs, to_ours)))
    return float(1 - beyond / area)


def surface_areas(mask: np.ndarray, spacing: tuple[float, ...], valid: np.ndarray) -> np.ndarray:
    """Area (mm^2; mm of contour in 2D) of the surface element at every corner between voxels; shape n - 1 an axis.

    Voxel faces overstate a slanted surface as a staircase does a slope. So every face counts with the cosine between it
    and the surface: a plane of area A and normal n has faces of area A |n_k| along axis k, and the sum of A |n_k|^2 is
    A. Normals are those of the faces around, signed and under a Gaussian as wide as the coarsest voxel (at most
    ``WIDEST`` voxels). Planes and balls come out right, sharp edges as rounded ones.
    """
    sigmas = [min(max(spacing) / s, WIDEST) for s in spacing]
    area, length = np.zeros((2, *(n - 1 for n in mask.shape)), np.float32)
    for axis in range(mask.ndim):
        faces, normal = _faces(mask, valid, spacing, axis), _faces(mask, valid, spacing, axis, signed=True)
        normal = ndimage.gaussian_filter(normal, sigmas, mode="constant")
        area += faces * np.abs(normal)
        length += normal**2
    return np.divide(area, np.sqrt(length), out=area, where=length > 0)


def _faces(
    mask: np.ndarray, valid: np.ndarray, spacing: tuple[float, ...], axis: int, signed: bool = False
) -> np.ndarray:
    """Area of the faces across ``axis`` between mask and background around every corner."""
    (before, after), known = _neighbours(mask.astype(np.float32), axis), _neighbours(valid, axis)
    steps = (before - after) * (known[0] & known[1])
    face = math.prod(s for other, s in enumerate(spacing) if other != axis)
    return _mean_of_neighbours(steps if signed else np.abs(steps), skip=axis) * np.float32(face)


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
