"""Resampling images and labels as matrix products.

Interpolation on a grid is linear and separable, so each axis is one matrix. Images are interpolated with cubic splines
and clipped to their range, labels linearly on one-hot with an arg-max; along an axis that is much coarser than the
others both take the nearest slice.
"""

import math
from collections.abc import Iterator, Sequence
from functools import lru_cache

import numpy as np
from scipy import ndimage

from unetrpp.core.large_arrays import new_array

CUBIC, LINEAR, NEAREST = 3, 1, 0
ROUNDING = 1e-5  # share by which a header may round a spacing; it decides nothing

KEPT = 1 << 22  # weights of a matrix that is kept for the next case of this size: at most 16 MB
UNITS = 256  # unit vectors at a time, in float64
ROWS = 64  # output voxels of one product: a block of rows needs only a band of the input
NEGLIGIBLE = 1e-7  # smaller weights are below float32's resolution (a cubic spline's fade by 0.27 a voxel)
TIE = 1e-6  # probabilities closer than this count as equal


def axis_matrix(n_in: int, n_out: int, order: int) -> np.ndarray:
    """Weights (n_out, n_in), float32, of spline interpolation along one axis.

    They are the response of ``scipy.ndimage.zoom(order, mode="nearest", grid_mode=True)`` to unit vectors.
    """
    return (_kept_matrix if n_in * n_out <= KEPT else _new_matrix)(n_in, n_out, order)


def _new_matrix(n_in: int, n_out: int, order: int) -> np.ndarray:
    matrix = np.empty((n_out, n_in), np.float32)
    for start in range(0, n_in, UNITS):
        units = np.eye(n_in, min(UNITS, n_in - start), -start)
        columns = ndimage.zoom(units, (n_out / n_in, 1), order=order, mode="nearest", grid_mode=True)
        matrix[:, start : start + UNITS] = columns
    matrix.flags.writeable = False  # it may be shared through the cache
    return matrix


_kept_matrix = lru_cache(maxsize=16)(_new_matrix)


def separate_axis(
    spacing: Sequence[float], target: Sequence[float], ratio: float, *, rounding: float = ROUNDING
) -> int | None:
    """The axis to resample by nearest neighbour: the single coarsest one when max/min spacing exceeds ``ratio``.

    The case's own spacing decides, else the target's (nnU-Net's rule, there without ``rounding``). Spacings in mm.

    >>> separate_axis((5.0, 1.0, 1.0), (1.0, 1.0, 1.0), 3), separate_axis((5.0, 5.0000001, 1.0), (1.0, 1.0, 1.0), 3)
    (0, None)
    """
    for candidate in (spacing, target):
        coarsest = max(candidate)
        if coarsest / min(candidate) > ratio * (1 + rounding):
            axes = [axis for axis, mm in enumerate(candidate) if mm >= coarsest * (1 - rounding)]
            return axes[0] if len(axes) == 1 else None
    return None


def axis_orders(order: int, separate: int | None) -> tuple[int, int, int]:
    """Spline order along z, y and x when axis ``separate`` takes the nearest voxel."""
    z, y, x = (NEAREST if axis == separate else order for axis in range(3))
    return z, y, x


def resample_image(array: np.ndarray, shape: tuple[int, ...], separate_axis: int | None = None) -> np.ndarray:
    """Cubic resampling of (C, Z, Y, X) to (C, *shape), each channel clipped to its own input range.

    Where an axis is separate, each slice along it is clipped to the range of the slice it comes from. Without clipping,
    a cubic spline overshoots at CT edges by more than a standard deviation.
    """
    if tuple(array.shape[1:]) == tuple(shape):
        return array
    out = interpolate(array, shape, axis_orders(CUBIC, separate_axis))
    for resampled, channel in zip(out, array, strict=True):
        for part, source in _sources(resampled, channel, separate_axis):
            np.clip(part, source.min(), source.max(), out=part)
    return out


def _sources(
    resampled: np.ndarray, channel: np.ndarray, separate_axis: int | None
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Parts of the output (views), each with the part of the input that it was interpolated from."""
    if separate_axis is None:
        yield resampled, channel
        return
    nearest = axis_matrix(channel.shape[separate_axis], resampled.shape[separate_axis], NEAREST).argmax(axis=1)
    slices = channel.swapaxes(0, separate_axis)
    for part, index in zip(resampled.swapaxes(0, separate_axis), nearest.tolist(), strict=True):
        yield part, slices[index]


def interpolate(array: np.ndarray, shape: tuple[int, ...], orders: tuple[int, ...]) -> np.ndarray:
    """Interpolate the last three axes of ``array`` to ``shape``, with one spline order per axis. Not clipped."""
    matrices = [axis_matrix(n, m, order) for n, m, order in zip(array.shape[-3:], shape, orders, strict=True)]
    return apply_matrices(array, matrices)


def apply_matrices(array: np.ndarray, matrices: Sequence[np.ndarray]) -> np.ndarray:
    """out = W_z x_1 array x_2 W_y x_3 W_x over the last three axes; axes that shrink most go first."""
    by_growth = sorted(range(3), key=lambda axis: matrices[axis].shape[0] / matrices[axis].shape[1])
    for axis in by_growth:
        array = _along(array, array.ndim - 3 + axis, matrices[axis])
    return array


def _along(array: np.ndarray, axis: int, matrix: np.ndarray) -> np.ndarray:
    """Multiply ``matrix`` into one axis, block by block of output rows with the band of input each block needs."""
    n_out, n_in = matrix.shape
    if n_out == n_in and np.array_equal(matrix, np.eye(n_in)):
        return array
    lead, trail = array.shape[:axis], array.shape[axis + 1 :]
    flat = array.reshape(math.prod(lead), n_in, math.prod(trail))
    out = new_array((math.prod(lead), n_out, math.prod(trail)), np.float32)
    for start in range(0, n_out, ROWS):
        rows = slice(start, min(start + ROWS, n_out))
        used = np.flatnonzero((np.abs(matrix[rows]) > NEGLIGIBLE).any(axis=0))
        band = slice(int(used[0]), int(used[-1]) + 1)
        weights = matrix[rows, band]
        # On the last axis one large product beats one small product per line.
        out[:, rows] = (flat[:, band, 0] @ weights.T)[..., None] if not trail else weights @ flat[:, band]
    return out.reshape(*lead, n_out, *trail)


def resample_labels(
    array: np.ndarray, shape: tuple[int, ...], classes: Sequence[int], separate_axis: int | None = None
) -> np.ndarray:
    """Resample training indices (Z, Y, X) to ``shape``: linear on one-hot, then the arg-max.

    ``classes`` are the indices above 0 that may occur; any other index becomes background. The cost of a class is that
    of its bounding box, and a full one-hot is never made: a running maximum is kept, in which background takes part
    with what the classes leave of 1 (without it labels would grow by a tenth). The lower index wins a tie.
    """
    if tuple(array.shape) == tuple(shape):
        return array
    orders = axis_orders(LINEAR, separate_axis)
    matrices = [axis_matrix(n, m, order) for n, m, order in zip(array.shape, shape, orders, strict=True)]
    maximum = _RunningMaximum(shape, array.dtype)
    boxes = ndimage.find_objects(array) if len(classes) else []
    for index in sorted(classes):
        box = boxes[index - 1] if index <= len(boxes) else None
        place = None if box is None else _reach(box, matrices)
        if box is not None and place is not None:
            weights = [matrix[rows, extent] for matrix, rows, extent in zip(matrices, place, box, strict=True)]
            maximum.add(index, place, apply_matrices((array[box] == index).astype(np.float32), weights))
    return maximum.indices()


def resample_labels_by_half(
    array: np.ndarray, shape: tuple[int, ...], classes: Sequence[int], separate_axis: int | None = None
) -> np.ndarray:
    """Resample training indices (Z, Y, X) to ``shape`` as nnU-Net 2.8.1 does: linear on one-hot, a class from a share of one half on.

    Where no class reaches it, the voxel is background; the higher index wins a tie.
    """
    if tuple(array.shape) == tuple(shape):
        return array
    orders = axis_orders(LINEAR, separate_axis)
    resampled = np.zeros(shape, array.dtype)
    for index in sorted(set(classes) & set(np.unique(array).tolist())):
        share = interpolate((array == index).astype(np.float32), shape, orders)
        resampled[share >= 0.5 - TIE] = index
    return resampled


def _reach(box: tuple[slice, ...], matrices: Sequence[np.ndarray]) -> tuple[slice, ...] | None:
    """The output voxels that ``box`` contributes to; None when it is thinner than the output's step and skipped."""
    place = []
    for matrix, extent in zip(matrices, box, strict=True):
        rows = np.flatnonzero(matrix[:, extent].any(axis=1))
        if not len(rows):
            return None
        place.append(slice(int(rows[0]), int(rows[-1]) + 1))
    return tuple(place)


class _RunningMaximum:
    """The class with the largest share at every voxel, over the classes added so far."""

    def __init__(self, shape: tuple[int, ...], dtype: np.dtype):
        self._winner = np.zeros(shape, dtype)
        self._best = np.zeros(shape, np.float32)
        self._total = np.zeros(shape, np.float32)

    def add(self, index: int, place: tuple[slice, ...], share: np.ndarray) -> None:
        """``share`` of class ``index`` in the part ``place`` of the grid; indices must come in ascending order."""
        self._total[place] += share
        wins = share > self._best[place] + TIE
        self._winner[place][wins] = index
        self._best[place][wins] = share[wins]

    def indices(self) -> np.ndarray:
        """The winners; 0 where background, with what is left of 1, has at least as large a share."""
        self._winner[1 - self._total >= self._best - TIE] = 0
        return self._winner
