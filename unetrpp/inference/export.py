"""From logits on the preprocessed grid to the user's label values on the input's grid, slab by slab.

The order is the same everywhere: softmax or sigmoid -> mean over folds -> linear resampling -> arg-max or regions ->
uncrop -> inverse transpose -> inverse canonical orientation -> the user's values.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from unetrpp.dataset.labels import LabelScheme
from unetrpp.inference.averaging import decide, disagreement, entropy, fold_probabilities
from unetrpp.inference.decisions import decided_slabs
from unetrpp.inference.taps import Taps, resample_slabs
from unetrpp.io.geometry import from_canonical, reorder
from unetrpp.plans.plans import Preprocessing
from unetrpp.preprocessing.case import CaseProperties
from unetrpp.preprocessing.resample import separate_axis

PART_VALUES = 1 << 23  # logits worked on at once: temporaries stay small, whatever the slab


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
    if probabilities or uncertainty:
        averaged = averaged_slabs(slabs, properties, preprocessing, uncertainty)
        return collect(averaged, shape, scheme, probabilities, uncertainty)
    decisions = np.zeros(shape, np.min_scalar_type(len(scheme.known_values)))
    done = 0
    for slab in decided_slabs(thin(slabs), resampling_taps(properties, preprocessing), scheme):
        decisions[done : done + len(slab)] = slab.cpu().numpy()
        done += len(slab)
    return Exported(decisions)


def thin(slabs: Iterable[Tensor]) -> Iterator[Tensor]:
    """The same slabs (F, K, n, Y, X) in parts of bounded size, float32 (views where they are)."""
    for slab in slabs:
        slices = max(1, PART_VALUES * slab.shape[2] // slab.numel())
        for part in slab.split(slices, dim=2):
            yield part.float()


def averaged_slabs(
    slabs: Iterable[Tensor], properties: CaseProperties, preprocessing: Preprocessing, uncertainty: bool = False
) -> Iterator[Tensor]:
    """Mean probabilities of the folds on the cropped grid, slab by slab (K, m, Y, X): what maps and ensembles need.

    With ``uncertainty``, entropy and fold disagreement ride along as two more channels.
    """
    scheme = preprocessing.labels

    def averaged(logits: Tensor) -> Tensor:
        folds = fold_probabilities(logits, scheme)
        mean = folds.mean(dim=0)
        return with_doubts(folds, mean, scheme) if uncertainty else mean

    yield from resample_slabs(map(averaged, thin(slabs)), resampling_taps(properties, preprocessing))


def with_doubts(members: Tensor, mean: Tensor, scheme: LabelScheme) -> Tensor:
    """``mean`` (K, ...), then its entropy and the share of ``members`` (F, K, ...) that decide otherwise."""
    return torch.cat([mean, entropy(mean, scheme)[None], disagreement(members, mean, scheme)[None]])


def collect(
    slabs: Iterable[Tensor], shape: tuple[int, int, int], scheme: LabelScheme, probabilities: bool, uncertainty: bool
) -> Exported:
    """Decide slabs of mean probabilities on the cropped grid and keep the maps that are asked for."""
    decisions = np.zeros(shape, np.min_scalar_type(len(scheme.known_values)))
    kept = np.zeros((scheme.outputs, *shape), np.float16) if probabilities else None
    doubts = np.zeros((2, *shape), np.float32) if uncertainty else None
    done = 0
    for slab in slabs:
        place = slice(done, done + slab.shape[1])
        mean = slab[: scheme.outputs]
        decisions[place] = decide(mean, scheme).cpu().numpy()
        if kept is not None:
            kept[:, place] = mean.cpu().numpy()
        if doubts is not None:
            doubts[:, place] = slab[scheme.outputs :].cpu().numpy()
        done = place.stop
    return Exported(decisions, kept, doubts)


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
