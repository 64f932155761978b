"""From logits on the preprocessed grid to the user's label values on the input's grid, slab by slab.

The order is the same everywhere: softmax or sigmoid -> mean over folds -> linear resampling -> arg-max or regions ->
uncrop -> inverse transpose -> inverse canonical orientation -> the user's values.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from unetrpp.geometry import from_canonical, reorder
from unetrpp.labels import LabelScheme
from unetrpp.plans import Preprocessing
from unetrpp.preprocessing.case import CaseProperties
from unetrpp.preprocessing.resample import separate_axis


def probabilities(logits: Tensor, scheme: LabelScheme) -> Tensor:
    """Mean over the folds of softmax (or of sigmoid with regions): (F, K, n, Y, X) -> (K, n, Y, X)."""
    return (logits.sigmoid() if scheme.regions else logits.softmax(dim=1)).mean(dim=0)


def decide(probability: Tensor, scheme: LabelScheme) -> Tensor:
    """Arg-max over the classes, or the last region above one half: (K, ...) -> int64 (...) as ``decode`` takes it."""
    if not scheme.regions:
        return probability.argmax(dim=0)
    order = torch.arange(1, len(probability) + 1, device=probability.device).reshape(-1, *[1] * (probability.dim() - 1))
    return ((probability > 0.5) * order).amax(dim=0)


@dataclass(frozen=True)
class Taps:
    """Linear interpolation along one axis: output i is (1 - weight[i]) * x[lower[i]] + weight[i] * x[upper[i]].

    Voxel centres lie at half-integers of the common extent, as in ``scipy.ndimage.zoom(grid_mode=True)``.
    """

    lower: Tensor
    upper: Tensor
    weight: Tensor

    @classmethod
    def between(cls, n_in: int, n_out: int, nearest: bool, device: torch.device) -> "Taps":
        position = ((torch.arange(n_out, dtype=torch.float64) + 0.5) * n_in / n_out - 0.5).clamp(0, n_in - 1)
        if nearest:
            position = torch.floor(position + 0.5).clamp(max=n_in - 1)
        lower = position.floor().long()
        weight = (position - lower).float()
        return cls(lower.to(device), (lower + 1).clamp(max=n_in - 1).to(device), weight.to(device))

    def apply(self, x: Tensor, axis: int) -> Tensor:
        """Interpolate ``x`` along ``axis`` (counted from the end)."""
        if len(self.lower) == x.shape[axis] and not self.weight.any():
            return x  # as many out as in, each its own
        weight = self.weight.reshape(-1, *[1] * (-axis - 1)).to(x.dtype)
        return torch.lerp(x.index_select(axis, self.lower), x.index_select(axis, self.upper), weight)


def resample_slabs(slabs: Iterable[Tensor], taps: tuple[Taps, Taps, Taps]) -> Iterator[Tensor]:
    """Linear resampling of a stack of slabs (K, n, Y, X) that come in z order; yields (K, m, Y', X') in z order.

    At most two slabs are held. Slices are resampled in plane first, then blended with their z neighbour.
    """
    z, y, x = taps
    held, bottom, done = None, 0, 0
    for slab in slabs:
        plane = x.apply(y.apply(slab, -2), -1)
        held = plane if held is None else torch.cat([held, plane], dim=-3)
        ready = int(torch.searchsorted(z.upper, bottom + held.shape[-3]))
        if ready == done:
            continue
        part = Taps(z.lower[done:ready] - bottom, z.upper[done:ready] - bottom, z.weight[done:ready])
        yield part.apply(held, -3)
        done = ready
        if done < len(z.lower):
            spent = min(int(z.lower[done]) - bottom, held.shape[-3])
            held, bottom = held[..., spent:, :, :], bottom + spent


def segment(slabs: Iterable[Tensor], properties: CaseProperties, preprocessing: Preprocessing) -> np.ndarray:
    """The user's label values (Z, Y, X) on the input's grid, from logits of ``sliding_window_slabs``.

    ``slabs`` are logits (F, K, n, Y, X) on the preprocessed grid, in z order; [logits[None]] for whole ones of one
    network. Memory grows with the classes of a slab, not of the volume.
    """
    scheme = preprocessing.labels
    mean = (probabilities(logits, scheme) for logits in slabs)
    return on_input_grid(_decided(mean, properties, preprocessing), properties, preprocessing)


def _decided(mean: Iterator[Tensor], properties: CaseProperties, preprocessing: Preprocessing) -> np.ndarray:
    """Decisions (Z, Y, X) on the cropped grid in plan order."""
    decisions = np.zeros(properties.cropped_shape, np.min_scalar_type(len(preprocessing.labels.values) + 1))
    taps, done = None, 0
    first = next(mean)
    taps = resampling_taps(properties, preprocessing, first.device)
    for slab in resample_slabs(_chain(first, mean), taps):
        decisions[done : done + slab.shape[1]] = decide(slab, preprocessing.labels).cpu().numpy()
        done += slab.shape[1]
    return decisions


def _chain(first: Tensor, rest: Iterator[Tensor]) -> Iterator[Tensor]:
    yield first
    yield from rest


def resampling_taps(
    properties: CaseProperties, preprocessing: Preprocessing, device: torch.device
) -> tuple[Taps, Taps, Taps]:
    """Back from the preprocessed to the cropped grid; nearest along the axis that preprocessing resampled so."""
    spacing = properties.cropped_spacing_mm
    target = tuple(s if t is None else t for s, t in zip(spacing, preprocessing.spacing_mm, strict=True))
    nearest = separate_axis(spacing, target, preprocessing.separate_axis_ratio)
    z, y, x = (
        Taps.between(n_in, n_out, nearest == axis, device)
        for axis, (n_in, n_out) in enumerate(zip(properties.shape, properties.cropped_shape, strict=True))
    )
    return z, y, x


def on_input_grid(decisions: np.ndarray, properties: CaseProperties, preprocessing: Preprocessing) -> np.ndarray:
    """Decisions on the cropped grid in plan order -> the user's values (Z, Y, X) on the input's grid."""
    values = preprocessing.labels.decode(decisions)
    canonical_shape = reorder(properties.geometry.shape_zyx, properties.orientation.axes)
    whole = np.zeros(reorder(canonical_shape, preprocessing.transpose), values.dtype)
    whole[tuple(slice(first, last) for first, last in properties.crop)] = values
    canonical = whole.transpose(np.argsort(preprocessing.transpose))
    return np.ascontiguousarray(from_canonical(canonical, properties.orientation))
