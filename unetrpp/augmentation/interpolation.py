"""Interpolation on any device: along one axis, or at positions that an affine map gives. Edges are replicated."""

from collections.abc import Iterator, Sequence

import numpy as np
import torch

from unetrpp.core.devices import to_device

SLAB = 1 << 16  # voxels sampled at a time on a CPU, so that intermediate results stay in its cache


def linear_along(array: torch.Tensor, axis: int, positions: np.ndarray) -> torch.Tensor:
    """Interpolate linearly along one axis at ``positions`` (n,), in voxels. Returns the array itself if no voxel moves."""
    last = array.shape[axis] - 1
    positions = np.clip(positions, 0, last)
    low = np.floor(positions)
    if np.array_equal(low, positions):
        return nearest_along(array, axis, positions)
    shape = [1] * array.ndim
    shape[axis] = -1
    weights = to_device(torch.from_numpy(positions - low).to(array.dtype), array.device).view(shape)
    return _take(array, axis, low).lerp_(_take(array, axis, np.minimum(low + 1, last)), weights)


def nearest_along(array: torch.Tensor, axis: int, positions: np.ndarray) -> torch.Tensor:
    """Take the nearest voxels along one axis. Returns the array itself if no voxel moves."""
    if np.array_equal(positions, np.arange(array.shape[axis])):
        return array
    return _take(array, axis, np.clip(np.rint(positions), 0, array.shape[axis] - 1))


def _take(array: torch.Tensor, axis: int, index: np.ndarray) -> torch.Tensor:
    chosen = to_device(torch.from_numpy(index).long(), array.device)
    if axis % array.ndim == array.ndim - 1:  # here index_select copies single voxels; gather is 8 times as fast
        return array.gather(-1, chosen.expand(*array.shape[:-1], -1))
    return array.index_select(axis, chosen)


def sample(
    image: torch.Tensor, maps: torch.Tensor, affine: np.ndarray, patch: tuple[int, int, int]
) -> tuple[torch.Tensor, torch.Tensor]:
    """Image (C, Z, Y, X) linearly and maps (L, Z, Y, X) by nearest voxel at ``affine`` of every voxel of a patch.

    The affine maps offsets (z, y, x) from the centre of the patch to offsets from the centre of the image. In eight
    shifted views of the image, the eight corners around a position have the same index, so one index serves all corners
    and channels.
    """
    size = tuple(image.shape[1:])
    steps = (size[1] * size[2], size[2], 1)
    # Along an axis that the map does not change, positions are whole voxels and need no interpolation.
    moves = [n > 1 and not np.array_equal(row, unit) for n, row, unit in zip(size, affine, np.eye(3), strict=True)]
    moved = image.new_empty(len(image), *patch)
    chosen = maps.new_empty(len(maps), *patch)
    for rows, positions in _slabs(affine, patch, size, image.device):
        near = [p.round() for p in positions]
        index = _index(near, size)
        for source, target in zip(maps, chosen[:, rows], strict=True):
            target.copy_(source.reshape(-1).index_select(0, index).view(target.shape))
        low = [positions[i].floor().clamp_(max=size[i] - 2) if moves[i] else near[i] for i in range(3)]
        index = _index(low, size)
        axes = [(steps[i], positions[i].sub_(low[i]).view(-1)) for i in range(3) if moves[i]]
        for source, target in zip(image, moved[:, rows], strict=True):
            target.copy_(_corners(source.reshape(-1), index, axes).view(target.shape))
    return moved, chosen


def _slabs(
    affine: np.ndarray, patch: tuple[int, int, int], size: Sequence[int], device: torch.device
) -> Iterator[tuple[slice, list[torch.Tensor]]]:
    """Slabs of a patch: its rows, and the positions z, y and x (rows, Y, X) of their voxels in the image."""
    offsets = [torch.arange(n, device=device, dtype=torch.float32) - (n - 1) / 2 for n in patch]
    height = max(1, SLAB // (patch[1] * patch[2])) if device.type == "cpu" else patch[0]
    for first in range(0, patch[0], height):
        rows = slice(first, min(first + height, patch[0]))
        positions = []
        for n, factors in zip(size, affine.tolist(), strict=True):
            z, y, x = (
                offset * factor for offset, factor in zip((offsets[0][rows], *offsets[1:]), factors, strict=True)
            )
            positions.append(((z[:, None] + (n - 1) / 2 + y)[:, :, None] + x).clamp_(0, n - 1))
        yield rows, positions


def _index(voxels: Sequence[torch.Tensor], size: Sequence[int]) -> torch.Tensor:
    """Flat int32 index (n,) of whole voxel positions z, y and x, which are float32: z * Y + y is exact there."""
    z, y, x = voxels
    return z.mul(size[1]).add_(y).int().mul_(size[2]).add_(x.int()).view(-1)


def _corners(flat: torch.Tensor, index: torch.Tensor, axes: Sequence[tuple[int, torch.Tensor]]) -> torch.Tensor:
    """Interpolate between ``index`` and its next voxels; every axis has a step in the flat image and weights."""
    if not axes:
        return flat.index_select(0, index)
    (step, weights), *rest = axes
    return _corners(flat, index, rest).lerp_(_corners(flat[step:], index, rest), weights)
