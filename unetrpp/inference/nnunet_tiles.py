"""Blending tiles as nnU-Net 2.8.1 does, for imported models: its weights, and sums in float16."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from unetrpp.core.devices import to_device
from unetrpp.inference.tiles import SIGMA, Tile, TileAggregator, TileSampler


def nnunet_weights(patch: Sequence[int]) -> np.ndarray:
    """Weights of a tile (z, y, x) as nnU-Net 2.8.1 computes them, float32; those of all tiles are to be divided by their sum.

    The Gaussian's peak, 10, lies on voxel ``patch // 2``, and float16 turns the weights far from it into multiples of 6e-8, never
    0. So at the edges of an image tiles are blended otherwise than by ours.
    """
    windows = [np.exp(-0.5 * ((np.arange(n) - n // 2) / (n * SIGMA)) ** 2) for n in patch]
    z, y, x = windows
    weights = (10 * (z[:, None, None] * y[:, None] * x)).astype(np.float16)
    weights[weights == 0] = weights[weights > 0].min()
    weights_32: np.ndarray = weights.astype(np.float32)
    return weights_32


class NnunetAggregator(TileAggregator):
    """Adds the mean of a tile's mirrored passes, times its weights, and rounds the sum to float16 after every tile.

    At the corners of an image, where weights are small, this rounding moves logits by a tenth and more, which a sum in float32
    does not reproduce. Passes of one tile must follow one another.
    """

    def __init__(self, sampler: TileSampler, channels: tuple[int, ...], depth: int, *, device: torch.device):
        super().__init__(sampler, channels, depth, device=device, dtype=torch.float16)
        self._weights = to_device(torch.from_numpy(nnunet_weights(sampler.patch)), device)
        self._total = torch.zeros(self._ring.shape[-3:], device=device, dtype=torch.float16)  # of the weights
        self._tile: Tile | None = None  # whose passes are being added up
        self._mean = torch.empty(0)

    def add(self, logits: Tensor, tile: Tile, share: float = 1.0) -> None:
        """Add ``logits`` (*channels, *patch) of one pass of a tile, with its share of the tile's passes."""
        logits = logits.to(self._ring.device, torch.float32)
        if tile == self._tile:
            self._mean.add_(logits, alpha=share)
            return
        self._finish()
        self._tile, self._mean = tile, share * logits

    def _finish(self) -> None:
        """Add the tile whose passes are complete."""
        if self._tile is None:
            return
        (z, y, x), (pz, py, px) = self._tile.start, self._sampler.patch
        rows, columns = slice(y, y + py), slice(x, x + px)
        # On a CPU one slice at a time, five times as fast as the whole tile: a slice of all channels fits into the cache.
        thickness = 1 if self._ring.device.type == "cpu" else pz
        for first in range(z, z + pz, thickness):
            for place, part in self._pieces(first, first + thickness):
                part = slice(part.start + first - z, part.stop + first - z)
                sums, total = self._ring[..., place, rows, columns], self._total[place, rows, columns]
                sums.copy_(sums.float().add_(self._mean[..., part, :, :] * self._weights[part]))
                total += self._weights[part]
        self._tile = None

    def flush(self, until: int) -> Tensor:
        """As :meth:`TileAggregator.flush`."""
        if self._tile is not None and self._tile.start[0] < until:
            self._finish()
        return super().flush(until)

    def _blended(self, z: slice, y: slice, x: slice) -> Tensor:
        return self._ring[..., z, y, x] / self._total[z, y, x]

    def _clear(self, z: slice) -> None:
        super()._clear(z)
        self._total[z] = 0
