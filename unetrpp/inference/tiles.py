"""Sliding-window tiles: their positions, a sampler that cuts them and an aggregator that blends their logits.

Along every axis the Gaussian windows of the tiles are divided by their sum, so the products of three windows are a
partition of unity: blended tiles need no division afterwards, and a voxel in a single tile has weight 1.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from unetrpp.core.devices import to_device
from unetrpp.inference.memory import part_values

SIGMA = 1 / 8  # of the Gaussian, in patch lengths (as in nnU-Net)
COPIED_AT_ONCE = 1 << 26  # bytes of an image

Start = tuple[int, int, int]


def tile_starts(length: int, patch: int, step: float = 0.5) -> list[int]:
    """First voxels of the tiles along one axis: evenly spaced, at most ``step`` patches apart, covering every voxel.

    >>> tile_starts(100, 40)
    [0, 20, 40, 60]
    >>> tile_starts(30, 40)
    [0]
    """
    if length <= patch:
        return [0]
    intervals = math.ceil((length - patch) / max(1.0, patch * step))
    return [round(i * ((length - patch) / intervals)) for i in range(intervals + 1)]  # the ratio first, as in nnU-Net


def blending_windows(length: int, patch: int, starts: Sequence[int]) -> np.ndarray:
    """Weights (tiles, patch) along one axis; at every voxel those of its tiles add up to one."""
    centred = np.arange(patch) - (patch - 1) / 2
    window = np.exp(-0.5 * (centred / (patch * SIGMA)) ** 2)
    total = np.zeros(max(length, patch))
    for start in starts:
        total[start : start + patch] += window
    return np.stack([window / total[start : start + patch] for start in starts])


@dataclass(frozen=True)
class Tile:
    """``start`` is the tile's first voxel (z, y, x), ``index`` its number along each axis."""

    start: Start
    index: tuple[int, int, int]


class TileSampler:
    """Cuts an image (C, Z, Y, X) into overlapping tiles, in z order. An image smaller than a tile is padded with 0.

    Attributes:
        image: padded, on ``device``; the given one where nothing is to be changed.
    """

    def __init__(
        self, image: Tensor, patch: tuple[int, int, int], step: float = 0.5, *, device: torch.device | None = None
    ):
        self.patch = patch
        self.shape = tuple(image.shape[1:])
        self.padded_shape = tuple(max(n, p) for n, p in zip(self.shape, patch, strict=True))
        self._offset = tuple((n - m) // 2 for n, m in zip(self.padded_shape, self.shape, strict=True))
        self.image = self._placed(image, device or image.device)
        self.starts = [tile_starts(n, p, step) for n, p in zip(self.padded_shape, patch, strict=True)]

    def _placed(self, image: Tensor, device: torch.device) -> Tensor:
        """The image in its place in the padded grid, copied to ``device`` in parts, so that little memory is pinned."""
        if self.padded_shape == self.shape and image.device == device:
            return image
        padded = torch.zeros(len(image), *self.padded_shape, dtype=image.dtype, device=device)
        z, y, x = self.interior
        slices = max(1, COPIED_AT_ONCE // (image.itemsize * math.prod(self.shape[1:])))
        for place, channel in zip(padded[:, z, y, x], image, strict=True):
            for here, part in zip(place.split(slices), channel.split(slices), strict=True):
                here.copy_(part if part.device == device else to_device(part, device))
        return padded

    @property
    def interior(self) -> tuple[slice, slice, slice]:
        """The image's voxels in the padded grid, in which tile starts are given."""
        z, y, x = (slice(o, o + n) for o, n in zip(self._offset, self.shape, strict=True))
        return z, y, x

    def __len__(self) -> int:
        return math.prod(len(starts) for starts in self.starts)

    def __iter__(self) -> Iterator[Tile]:
        for iz, z in enumerate(self.starts[0]):
            for iy, y in enumerate(self.starts[1]):
                for ix, x in enumerate(self.starts[2]):
                    yield Tile((z, y, x), (iz, iy, ix))

    def cut(self, tile: Tile) -> Tensor:
        """The tile's voxels (C, *patch), a view."""
        z, y, x = tile.start
        pz, py, px = self.patch
        return self.image[:, z : z + pz, y : y + py, x : x + px]


class TileAggregator:
    """Blends tiles that arrive in z order and returns the slices that no later tile touches.

    Only ``depth`` slices are held, in a ring buffer over z. ``channels`` are the axes before (Z, Y, X): classes, or
    folds and classes.
    """

    def __init__(
        self,
        sampler: TileSampler,
        channels: tuple[int, ...],
        depth: int,
        *,
        device: torch.device,
        dtype: torch.dtype = torch.float32,
    ):
        self._sampler = sampler
        self._windows = [
            to_device(torch.from_numpy(blending_windows(n, p, starts)).to(dtype), device)
            for n, p, starts in zip(sampler.padded_shape, sampler.patch, sampler.starts, strict=True)
        ]
        self._bottom = 0  # z of the first slice that was not returned yet
        self._ring = torch.zeros(*channels, depth, *sampler.padded_shape[1:], device=device, dtype=dtype)

    def add(self, logits: Tensor, tile: Tile, share: float = 1.0) -> None:
        """Add ``logits`` (*channels, *patch) of one tile; ``share`` is the weight of this pass among the mirrored ones."""
        z, y, x = tile.start
        pz, py, px = self._sampler.patch
        wz, wy, wx = (windows[i] for windows, i in zip(self._windows, tile.index, strict=True))
        weight = (share * wz)[:, None, None] * wy[:, None] * wx
        logits = logits.to(self._ring)
        for ring, part in self._pieces(z, z + pz):
            self._ring[..., ring, y : y + py, x : x + px].addcmul_(logits[..., part, :, :], weight[part])

    def finished(self, until: int) -> Iterator[Tensor]:
        """What :meth:`flush` returns, in the parts that export works in: a copy of all would take as much memory as the ring."""
        inside_z, inside_y, inside_x = self._sampler.interior
        first, last = max(self._bottom, inside_z.start), min(until, inside_z.stop)
        in_a_slice = self._ring[..., 0, inside_y, inside_x].numel()
        slices = max(1, part_values(self._ring.device) // in_a_slice)
        for end in range(first + slices, last, slices):
            yield self.flush(end)
        rest = self.flush(until)
        if rest.shape[-3]:
            yield rest

    def flush(self, until: int) -> Tensor:
        """Return and clear the slices below z = ``until`` of the padded grid: (*channels, n, Y, X) without padding."""
        inside_z, inside_y, inside_x = self._sampler.interior
        first, last = max(self._bottom, inside_z.start), min(until, inside_z.stop)
        taken = [self._blended(ring, inside_y, inside_x) for ring, _ in self._pieces(first, last)]
        for ring, _ in self._pieces(self._bottom, until):
            self._clear(ring)
        self._bottom = max(self._bottom, until)
        if len(taken) == 1:  # which torch.cat would copy
            return taken[0]
        return torch.cat(taken, dim=-3) if taken else self._ring[..., :0, inside_y, inside_x]

    def _blended(self, z: slice, y: slice, x: slice) -> Tensor:
        """A copy of finished slices of the ring."""
        return self._ring[..., z, y, x].clone()

    def _clear(self, z: slice) -> None:
        """Set slices of the ring to 0 for the next ones."""
        self._ring[..., z, :, :] = 0

    def _pieces(self, first: int, last: int) -> list[tuple[slice, slice]]:
        """Slices [first, last) as (index in the ring, index in the range); two pieces where the ring wraps around."""
        depth = self._ring.shape[-3]
        pieces = []
        z = first
        while z < last:
            place = z % depth
            n = min(last - z, depth - place)
            pieces.append((slice(place, place + n), slice(z - first, z - first + n)))
            z += n
        return pieces
