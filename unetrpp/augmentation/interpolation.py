"""Linear interpolation of images on any device: along one axis, or at positions that an affine map gives.

Edges are replicated. Maps of labels are interpolated in label_votes.py.
"""

import math
from collections.abc import Iterator, Sequence

import numpy as np
import torch

from unetrpp.augmentation.label_votes import Vote
from unetrpp.core.devices import to_device

SLAB = 1 << 16  # voxels sampled at a time on a CPU, so that intermediate results stay in its cache


def linear_along(array: torch.Tensor, axis: int, positions: np.ndarray) -> torch.Tensor:
    """Interpolate linearly along one axis at ``positions`` (n,), in voxels. Returns the array itself if no voxel moves."""
    low, part = _below(positions, array.shape[axis])
    if part is None:
        return array if np.array_equal(low, np.arange(array.shape[axis])) else _take(array, axis, low)
    shape = [1] * array.ndim
    shape[axis] = -1
    weights = to_device(torch.from_numpy(part).to(array.dtype), array.device).view(shape)
    return _take(array, axis, low).lerp_(_take(array, axis, low + 1), weights)


def _below(positions: np.ndarray, n: int) -> tuple[np.ndarray, np.ndarray | None]:
    """Positions along an axis of ``n`` voxels, clipped to it: the voxel below, and the weight of the next one.

    There are no weights (None) if all positions are whole voxels.
    """
    positions = np.clip(positions, 0, n - 1)
    if np.array_equal(np.rint(positions), positions):
        return positions, None
    low = np.minimum(np.floor(positions), n - 2)
    return low, positions - low


def _take(array: torch.Tensor, axis: int, index: np.ndarray) -> torch.Tensor:
    chosen = to_device(torch.from_numpy(index).long(), array.device)
    if axis % array.ndim == array.ndim - 1:  # here index_select copies single voxels; gather is 8 times as fast
        return array.gather(-1, chosen.expand(*array.shape[:-1], -1))
    return array.index_select(axis, chosen)


def sample(
    image: torch.Tensor, maps: torch.Tensor, affine: np.ndarray, patch: tuple[int, int, int]
) -> tuple[torch.Tensor, torch.Tensor]:
    """Image (C, Z, Y, X) and maps of labels (L, Z, Y, X) at ``affine`` of every voxel of a patch.

    The affine maps offsets (z, y, x) from the centre of the patch to offsets from the centre of the image. In eight
    shifted views of the image, the eight corners around a position have the same index, so one index serves all corners,
    channels and maps.
    """
    size = tuple(image.shape[1:])
    steps = (size[1] * size[2], size[2], 1)
    # Along an axis that the map does not change, positions are whole voxels and need no interpolation.
    moves = [n > 1 and not np.array_equal(row, unit) for n, row, unit in zip(size, affine, np.eye(3), strict=True)]
    moved = image.new_empty(len(image), *patch)
    chosen = maps.new_empty(len(maps), *patch)
    votes = [
        Vote(labels, [steps[i] for i in range(3) if moves[i]], result.view(-1))
        for labels, result in zip(maps, chosen, strict=True)
    ]
    for rows, positions in _slabs(affine, patch, size, image.device):
        low = [positions[i].floor().clamp_(max=size[i] - 2) if moves[i] else positions[i].round() for i in range(3)]
        index = _index(low, size)
        axes = [(steps[i], positions[i].sub_(low[i]).view(-1)) for i in range(3) if moves[i]]
        for source, target in zip(image, moved[:, rows], strict=True):
            target.copy_(_corners(source.reshape(-1), index, axes).view(target.shape))
        for vote in votes:
            vote.add(rows.start * patch[1] * patch[2], index, [weights for _, weights in axes])
    for vote in votes:
        vote.settle()
    return moved, chosen


def sample_axes(
    image: torch.Tensor, maps: torch.Tensor, positions: Sequence[np.ndarray]
) -> tuple[torch.Tensor, torch.Tensor]:
    """The same at a grid of ``positions`` along z, y and x, in voxels; the image is interpolated axis by axis."""
    for axis, along in enumerate(positions):
        image = linear_along(image, axis - 3, along)
    size, patch = tuple(maps.shape[1:]), tuple(len(along) for along in positions)
    below = [_below(along, n) for along, n in zip(positions, size, strict=True)]
    index = _index([_on_grid(low, axis, maps.device) for axis, (low, _) in enumerate(below)], size)
    between = [(axis, part) for axis, (_, part) in enumerate(below) if part is not None]
    weights = [_on_grid(part, axis, maps.device).expand(patch).reshape(-1) for axis, part in between]
    chosen = maps.new_empty(len(maps), *patch)
    for labels, result in zip(maps, chosen, strict=True):
        vote = Vote(labels, [math.prod(size[axis + 1 :]) for axis, _ in between], result.view(-1))
        vote.add(0, index, weights)
        vote.settle()
    return image, chosen


def _on_grid(values: np.ndarray, axis: int, device: torch.device) -> torch.Tensor:
    """Values (n,) along an axis as (n, 1, 1), (1, n, 1) or (1, 1, n) float32."""
    shape = [1, 1, 1]
    shape[axis] = -1
    return to_device(torch.from_numpy(values).float(), device).view(shape)


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
    return (z.mul(size[1]).add(y).int().mul_(size[2]) + x.int()).view(-1)


def _corners(flat: torch.Tensor, index: torch.Tensor, axes: Sequence[tuple[int, torch.Tensor]]) -> torch.Tensor:
    """Interpolate between ``index`` and its next voxels; every axis has a step in the flat image and weights."""
    if not axes:
        return flat.index_select(0, index)
    (step, weights), *rest = axes
    return _corners(flat, index, rest).lerp_(_corners(flat[step:], index, rest), weights)
