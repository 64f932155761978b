"""From logits on the preprocessed grid to the user's label values on the input's grid, slab by slab.

The order is the same everywhere: softmax or sigmoid -> mean over folds -> linear resampling -> arg-max or regions ->
uncrop -> inverse transpose -> inverse canonical orientation -> the user's values.
"""

import math
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


def fold_probabilities(logits: Tensor, scheme: LabelScheme) -> Tensor:
    """Softmax over the classes, or a sigmoid a region: (F, K, n, Y, X)."""
    return logits.sigmoid() if scheme.regions else logits.softmax(dim=1)


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
    def between(cls, n_in: int, n_out: int, nearest: bool) -> "Taps":
        position = ((torch.arange(n_out, dtype=torch.float64) + 0.5) * n_in / n_out - 0.5).clamp(0, n_in - 1)
        if nearest:
            position = torch.floor(position + 0.5).clamp(max=n_in - 1)
        lower = position.floor().long()
        weight = (position - lower).float()
        return cls(lower, (lower + 1).clamp(max=n_in - 1), weight)

    def apply(self, x: Tensor, axis: int) -> Tensor:
        """Interpolate ``x`` along ``axis`` (counted from the end)."""
        if len(self.lower) == x.shape[axis] and not self.weight.any():
            return x  # as many out as in, each its own
        weight = self.weight.reshape(-1, *[1] * (-axis - 1)).to(x)
        lower, upper = self.lower.to(x.device), self.upper.to(x.device)
        return torch.lerp(x.index_select(axis, lower), x.index_select(axis, upper), weight)


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
    return segmentation_on_input_grid(export(slabs, properties, preprocessing).decisions, properties, preprocessing)


@dataclass(frozen=True)
class Exported:
    """What the slabs became on the cropped grid, in plan order. Maps that were not asked for are None."""

    decisions: np.ndarray  # (Z, Y, X), for LabelScheme.decode
    probabilities: np.ndarray | None = None  # float16 (K, Z, Y, X)
    uncertainty: np.ndarray | None = None  # float32 (2, Z, Y, X): entropy and fold disagreement, both 0..1


def export(
    slabs: Iterable[Tensor],
    properties: CaseProperties,
    preprocessing: Preprocessing,
    *,
    probabilities: bool = False,
    uncertainty: bool = False,
) -> Exported:
    """Average, resample and decide slab by slab; keep the maps that are asked for."""
    scheme, shape = preprocessing.labels, properties.cropped_shape
    decisions = np.zeros(shape, np.min_scalar_type(len(scheme.known_values)))
    kept = np.zeros((scheme.outputs, *shape), np.float16) if probabilities else None
    doubts = np.zeros((2, *shape), np.float32) if uncertainty else None
    averaged = (_averaged(logits, scheme, uncertainty) for logits in slabs)
    done = 0
    for slab in resample_slabs(averaged, resampling_taps(properties, preprocessing)):
        place = slice(done, done + slab.shape[1])
        mean = slab[: scheme.outputs]
        decisions[place] = decide(mean, scheme).cpu().numpy()
        if kept is not None:
            kept[:, place] = mean.cpu().numpy()
        if doubts is not None:
            doubts[:, place] = slab[scheme.outputs :].cpu().numpy()
        done = place.stop
    return Exported(decisions, kept, doubts)


def _averaged(logits: Tensor, scheme: LabelScheme, uncertainty: bool) -> Tensor:
    """Mean probabilities (K, n, Y, X); the maps of doubt ride along as two more channels."""
    folds = fold_probabilities(logits, scheme)
    mean = folds.mean(dim=0)
    if not uncertainty:
        return mean
    return torch.cat([mean, entropy(mean, scheme)[None], disagreement(folds, mean, scheme)[None]])


def entropy(mean: Tensor, scheme: LabelScheme) -> Tensor:
    """Entropy of (K, ...) in parts of its largest value; with regions the mean over their binary entropies."""
    if scheme.regions:
        both = torch.stack([mean, 1 - mean])
        return -(torch.special.xlogy(both, both)).sum(dim=0).mean(dim=0) / math.log(2)
    return -torch.special.xlogy(mean, mean).sum(dim=0) / math.log(len(mean))


def disagreement(folds: Tensor, mean: Tensor, scheme: LabelScheme) -> Tensor:
    """Share of the folds (F, K, ...) that decide otherwise than their mean."""
    ensemble = decide(mean, scheme)
    return torch.stack([decide(fold, scheme) != ensemble for fold in folds]).float().mean(dim=0)


def resampling_taps(properties: CaseProperties, preprocessing: Preprocessing) -> tuple[Taps, Taps, Taps]:
    """Back from the preprocessed to the cropped grid; nearest along the axis that preprocessing resampled so."""
    spacing = properties.cropped_spacing_mm
    target = tuple(s if t is None else t for s, t in zip(spacing, preprocessing.spacing_mm, strict=True))
    nearest = separate_axis(spacing, target, preprocessing.separate_axis_ratio)
    z, y, x = (
        Taps.between(n_in, n_out, nearest == axis)
        for axis, (n_in, n_out) in enumerate(zip(properties.shape, properties.cropped_shape, strict=True))
    )
    return z, y, x


def segmentation_on_input_grid(
    decisions: np.ndarray, properties: CaseProperties, preprocessing: Preprocessing
) -> np.ndarray:
    """Decisions on the cropped grid in plan order -> the user's values (Z, Y, X) on the input's grid."""
    return on_input_grid(preprocessing.labels.decode(decisions), properties, preprocessing)


def on_input_grid(
    array: np.ndarray, properties: CaseProperties, preprocessing: Preprocessing, outside: float = 0
) -> np.ndarray:
    """Uncrop (Z, Y, X), filling with ``outside``, undo the transpose and the canonical orientation."""
    canonical_shape = reorder(properties.geometry.shape_zyx, properties.orientation.axes)
    whole = np.full(reorder(canonical_shape, preprocessing.transpose), outside, array.dtype)
    whole[tuple(slice(first, last) for first, last in properties.crop)] = array
    canonical = whole.transpose(np.argsort(preprocessing.transpose))
    return np.ascontiguousarray(from_canonical(canonical, properties.orientation))
