"""Resampling as matrix products: interpolating a grid is linear and separable, so each axis is one matrix.

Images are cubic and clipped to their range, labels linear on one-hot with an arg-max; along a much coarser axis both
take the nearest slice. The products run on numpy arrays and on torch tensors of any device alike.
"""

from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Any

import numpy as np
from scipy import ndimage

CUBIC, LINEAR, NEAREST = 3, 1, 0

ROWS = 64  # output voxels of one product: a block of rows needs only a band of the input
NEGLIGIBLE = 1e-7  # weights below it lie under float32's resolution (a cubic spline's fade by 0.27 a voxel)
TIE = 1e-6  # probabilities nearer than this count as equal


@lru_cache(maxsize=256)
def axis_matrix(n_in: int, n_out: int, order: int) -> np.ndarray:
    """Weights (n_out, n_in), float32, of spline interpolation along one axis.

    They are scipy's own: the response of ``ndimage.zoom(order, mode="nearest", grid_mode=True)`` to unit vectors.
    """
    matrix = ndimage.zoom(np.eye(n_in), (n_out / n_in, 1), order=order, mode="nearest", grid_mode=True)
    matrix = matrix.astype(np.float32)
    matrix.flags.writeable = False  # it is shared through the cache
    return matrix


def separate_axis(spacing: Sequence[float], target: Sequence[float], ratio: float) -> int | None:
    """The axis to resample by nearest neighbour: the single coarsest one when max/min spacing exceeds ``ratio``.

    The case's own spacing decides, else the target's (nnU-Net's rule). Spacings in mm.

    >>> separate_axis((5.0, 1.0, 1.0), (1.0, 1.0, 1.0), 3), separate_axis((5.0, 5.0, 1.0), (1.0, 1.0, 1.0), 3)
    (0, None)
    """
    for candidate in (spacing, target):
        coarsest = max(candidate)
        if coarsest > ratio * min(candidate):
            axes = [axis for axis, mm in enumerate(candidate) if mm == coarsest]
            return axes[0] if len(axes) == 1 else None
    return None


def axis_orders(order: int, separate: int | None) -> tuple[int, int, int]:
    """Spline order along z, y and x when axis ``separate`` takes the nearest voxel."""
    z, y, x = (NEAREST if axis == separate else order for axis in range(3))
    return z, y, x


def resample_image(array: Any, shape: tuple[int, ...], separate_axis: int | None = None) -> Any:
    """Cubic resampling of (C, Z, Y, X) to (C, *shape), each channel clipped to its own input range.

    Where an axis is separate, each slice along it is clipped to the range of the slice it comes from. Unclipped, a
    cubic spline overshoots at CT edges by more than a standard deviation.
    """
    if tuple(array.shape[1:]) == tuple(shape):
        return array
    out = interpolate(array, shape, axis_orders(CUBIC, separate_axis))
    for resampled, channel in zip(out, array, strict=True):
        for part, source in _sources(resampled, channel, separate_axis):
            part[...] = part.clip(source.min(), source.max())
    return out


def _sources(resampled: Any, channel: Any, separate_axis: int | None) -> Iterator[tuple[Any, Any]]:
    """Parts of the output (views) with what each was interpolated from."""
    if separate_axis is None:
        yield resampled, channel
        return
    nearest = axis_matrix(channel.shape[separate_axis], resampled.shape[separate_axis], NEAREST).argmax(axis=1)
    slices = channel.swapaxes(0, separate_axis)
    for part, index in zip(resampled.swapaxes(0, separate_axis), nearest.tolist(), strict=True):
        yield part, slices[index]


def interpolate(array: Any, shape: tuple[int, ...], orders: tuple[int, ...]) -> Any:
    """Interpolate the last three axes of ``array`` to ``shape``, with one spline order an axis. Not clipped."""
    matrices = [axis_matrix(n, m, order) for n, m, order in zip(array.shape[-3:], shape, orders, strict=True)]
    return apply_matrices(array, matrices)


def apply_matrices(array: Any, matrices: Sequence[np.ndarray]) -> Any:
    """out = W_z x_1 array x_2 W_y x_3 W_x over the last three axes; axes that shrink most go first."""
    by_growth = sorted(range(3), key=lambda axis: matrices[axis].shape[0] / matrices[axis].shape[1])
    for axis in by_growth:
        array = _along(array, array.ndim - 3 + axis, matrices[axis])
    return array


def _along(array: Any, axis: int, matrix: np.ndarray) -> Any:
    """Multiply ``matrix`` into one axis, block by block of output rows with the band of input each block needs."""
    n_out, n_in = matrix.shape
    if n_out == n_in and np.array_equal(matrix, np.eye(n_in)):
        return array
    lead, trail = array.shape[:axis], array.shape[axis + 1 :]
    flat = array.reshape(_size(lead), n_in, _size(trail))
    out = _empty(array, (_size(lead), n_out, _size(trail)))
    for start in range(0, n_out, ROWS):
        rows = slice(start, min(start + ROWS, n_out))
        used = np.flatnonzero((np.abs(matrix[rows]) > NEGLIGIBLE).any(axis=0))
        band = slice(int(used[0]), int(used[-1]) + 1)
        weights = _as(array, matrix[rows, band])
        # On the last axis one large product beats one small product a line.
        out[:, rows] = (flat[:, band, 0] @ weights.T)[..., None] if not trail else weights @ flat[:, band]
    return out.reshape(*lead, n_out, *trail)


def _size(shape: Sequence[int]) -> int:
    return int(np.prod(shape, dtype=np.int64))


def _empty(like: Any, shape: tuple[int, ...]) -> Any:
    return np.empty(shape, np.float32) if isinstance(like, np.ndarray) else like.new_empty(shape)


def _as(like: Any, weights: np.ndarray) -> Any:
    return weights if isinstance(like, np.ndarray) else like.new_tensor(weights)


def resample_labels(
    array: np.ndarray, shape: tuple[int, ...], classes: Sequence[int], separate_axis: int | None = None
) -> np.ndarray:
    """Resample training indices (Z, Y, X) to ``shape``: linear on one-hot, then the arg-max.

    ``classes`` are the indices above 0 that may occur; an index that is listed neither there nor 0 becomes background.
    Every class costs what its bounding box costs, and a full one-hot is never made: a running maximum is kept, in
    which background takes part as what the classes leave of 1 (without it labels would grow by a tenth).
    The lower index wins a tie.
    """
    if tuple(array.shape) == tuple(shape):
        return array
    orders = axis_orders(LINEAR, separate_axis)
    matrices = [axis_matrix(n, m, order) for n, m, order in zip(array.shape, shape, orders, strict=True)]
    out = np.zeros(shape, array.dtype)
    best = np.zeros(shape, np.float32)
    total = np.zeros(shape, np.float32)
    boxes = ndimage.find_objects(array) if len(classes) else []
    for index in sorted(classes):
        box = boxes[index - 1] if index <= len(boxes) else None
        if box is not None:
            _add_class(array, index, box, matrices, out, best, total)
    out[1 - total >= best - TIE] = 0
    return out


def _add_class(
    array: np.ndarray,
    index: int,
    box: tuple[slice, ...],
    matrices: Sequence[np.ndarray],
    out: np.ndarray,
    best: np.ndarray,
    total: np.ndarray,
) -> None:
    """Interpolate one class inside its box and update the running maximum where it reaches."""
    reach, weights = [], []
    for matrix, extent in zip(matrices, box, strict=True):
        rows = np.flatnonzero(matrix[:, extent].any(axis=1))
        if not len(rows):
            return  # thinner than the output's step, and skipped by the nearest neighbour
        reach.append(slice(int(rows[0]), int(rows[-1]) + 1))
        weights.append(matrix[reach[-1], extent])
    place = tuple(reach)
    share = apply_matrices((array[box] == index).astype(np.float32), weights)
    total[place] += share
    wins = share > best[place] + TIE
    out[place][wins] = index
    best[place][wins] = share[wins]
