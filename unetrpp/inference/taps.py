"""Linear interpolation of streamed slabs: per axis, each output is a weighted sum of two voxels (its taps)."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from unetrpp.core.devices import to_device


@dataclass(frozen=True)
class Taps:
    """Linear interpolation along one axis: output i is (1 - weight[i]) * x[lower[i]] + weight[i] * x[upper[i]].

    Made in host memory; :meth:`on` moves it to the device of the data.

    Input and output cover the same extent, and voxel centres are at half-integers, as in
    ``scipy.ndimage.zoom(grid_mode=True)``.
    """

    lower: Tensor
    upper: Tensor
    weight: Tensor
    single: bool  # whether every output takes a single voxel

    @classmethod
    def between(cls, n_in: int, n_out: int, nearest: bool) -> "Taps":
        """The taps from ``n_in`` to ``n_out`` voxels; with ``nearest`` each output takes its nearest voxel."""
        # The ratio first, as in SciPy: where a position lies halfway between two voxels, rounding decides.
        position = ((torch.arange(n_out, dtype=torch.float64) + 0.5) * (n_in / n_out) - 0.5).clamp(0, n_in - 1)
        if nearest:
            position = torch.floor(position + 0.5).clamp(max=n_in - 1)
        lower = position.floor().long()
        weight = (position - lower).float()
        # Where the weight is 0 the second voxel is not needed.
        return cls(lower, lower + (weight > 0), weight, not weight.any())

    def on(self, device: torch.device) -> "Taps":
        """The same on another device."""
        if self.lower.device == device:
            return self
        lower, upper, weight = (to_device(values, device) for values in (self.lower, self.upper, self.weight))
        return Taps(lower, upper, weight, self.single)

    def apply(self, x: Tensor, axis: int) -> Tensor:
        """Interpolate ``x`` along ``axis`` (counted from the end)."""
        if len(self.lower) == x.shape[axis] and self.single:
            return x  # the identity
        weight = self.weight.to(x.dtype).reshape(-1, *[1] * (-axis - 1))
        return torch.lerp(x.index_select(axis, self.lower), x.index_select(axis, self.upper), weight)

    def agreeing(self, decisions: Tensor, axis: int, unsure: int) -> Tensor:
        """The decision of both voxels along ``axis`` where they are equal, else ``unsure``."""
        lower = decisions.index_select(axis, self.lower)
        if self.single:
            return lower
        upper = decisions.index_select(axis, self.upper)
        return torch.where(lower == upper, lower, unsure)

    def part(self, first: int, last: int, bottom: int) -> "Taps":
        """The taps of outputs [first, last) on an input that starts at voxel ``bottom``."""
        lower, upper = self.lower[first:last] - bottom, self.upper[first:last] - bottom
        return Taps(lower, upper, self.weight[first:last], self.single)

    def ready(self, depth: int) -> int:
        """How many outputs can be computed from the first ``depth`` voxels."""
        return int(torch.searchsorted(self.upper, depth))


def resample_slabs(slabs: Iterable[Tensor], taps: tuple[Taps, Taps, Taps]) -> Iterator[Tensor]:
    """Linear resampling of slabs (K, n, Y, X) that arrive in z order; yields (K, m, Y', X') in z order.

    At most two slabs are held. Slices are resampled in plane first, then blended with their neighbour in z.
    """
    z, y, x = taps
    held, bottom, done = None, 0, 0
    for slab in slabs:
        device = slab.device
        y, x = y.on(device), x.on(device)
        plane = x.apply(y.apply(slab, -2), -1)
        held = plane if held is None else torch.cat([held, plane], dim=-3)
        ready = z.ready(bottom + held.shape[-3])
        if ready == done:
            continue
        yield z.part(done, ready, bottom).on(device).apply(held, -3)
        done = ready
        if done < len(z.lower):
            spent = min(int(z.lower[done]) - bottom, held.shape[-3])
            held, bottom = held[..., spent:, :, :], bottom + spent
