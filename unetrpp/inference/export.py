"""Export: from logits on the network's grid to the user's label values on the input's grid, slab by slab.

The order is the same everywhere: softmax or sigmoid -> mean over folds -> linear resampling -> arg-max or regions ->
uncrop -> inverse transpose -> inverse orientation -> the user's values. Where a model says so (``averaging`` "logits", nnU-Net's
order), logits are averaged and resampled, and the softmax or sigmoid follows. The temperature is applied to the final mean: to what
maps show, and to decisions where there are thresholds.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import torch
from torch import Tensor

from unetrpp.inference.averaging import Averaging, disagreement, entropy, fold_probabilities, mean_logits
from unetrpp.inference.decisions import decided_slabs
from unetrpp.inference.expected_dice import ExpectedDice
from unetrpp.inference.memory import part_values
from unetrpp.inference.output_rule import OutputRule
from unetrpp.inference.segmentation import Segmentation
from unetrpp.inference.taps import Taps, resample_slabs
from unetrpp.preprocessing.grid import CaseGrid

Maps: TypeAlias = bool | tuple[int, ...]  # probability maps of all output channels, of none, or of these


@dataclass(frozen=True)
class Exported:
    """Decisions on the cropped grid, in plan order, and the requested maps (else None)."""

    decisions: np.ndarray  # (Z, Y, X), for LabelScheme.decode
    probabilities: np.ndarray | None = None  # float16 (K, Z, Y, X)
    uncertainty: np.ndarray | None = None  # float32 (2, Z, Y, X): entropy and fold disagreement, both 0 to 1
    expected_dice: Mapping[str, ExpectedDice | None] | None = None  # by class, of a calibrated model
    channels: tuple[int, ...] = ()  # of probabilities

    def to_input(self, grid: CaseGrid) -> Segmentation:
        """The user's label values and the maps on the input's grid. Outside the crop: background, uncertainty 0."""
        labels = grid.plan.labels
        array = grid.to_input(labels.decode(self.decisions))
        probabilities, entropy, disagreement = None, None, None
        if self.probabilities is not None:
            certain = [0.0 if labels.overlapping or k else 1.0 for k in self.channels or range(len(self.probabilities))]
            pairs = zip(self.probabilities, certain, strict=True)
            probabilities = np.stack([grid.to_input(probability, outside) for probability, outside in pairs])
        if self.uncertainty is not None:
            entropy, disagreement = (grid.to_input(values) for values in self.uncertainty)
        return Segmentation(
            array,
            grid.properties.geometry,
            probabilities=probabilities,
            entropy=entropy,
            disagreement=disagreement,
            expected_dice=self.expected_dice,
            names={target.value: target.name for target in labels.targets},
            channels=self.channels,
        )


def export(
    slabs: Iterable[Tensor],
    grid: CaseGrid,
    *,
    averaging: Averaging = "probabilities",
    rule: OutputRule | None = None,
    probabilities: Maps = False,
    uncertainty: bool = False,
) -> Exported:
    """Average, resample and decide slab by slab; keep the requested maps.

    Args:
        slabs: logits (F, K, n, Y, X) on the network's grid in z order, as ``SlidingWindow.slabs`` yields them.
            ``[logits[None]]`` for one network's logits of the whole volume.
        averaging: what is averaged over folds (``Configuration.averaging``).
        rule: the temperature and the thresholds; by default neither.
        probabilities: whether to keep the maps, or the output channels whose maps are kept.

    Memory grows with the classes of a slab, not of the volume.
    """
    rule = rule or OutputRule(grid.plan.labels)
    if probabilities or uncertainty or rule.thresholds:
        averaged = averaged_slabs(slabs, grid, averaging=averaging, uncertainty=uncertainty, rule=rule)
        return collect(averaged, rule, grid, probabilities=probabilities, uncertainty=uncertainty)
    decisions = _no_decisions(grid)
    done = 0
    for slab in decided_slabs(split_slabs(slabs), resampling_taps(grid), grid.plan.labels, averaging=averaging):
        decisions[done : done + len(slab)] = slab.cpu().numpy()
        done += len(slab)
    return Exported(decisions)


def split_slabs(slabs: Iterable[Tensor]) -> Iterator[Tensor]:
    """The same slabs (F, K, n, Y, X) in parts of bounded size, as float32 (views where they are)."""
    most = 0
    for slab in slabs:
        most = most or part_values(slab.device)
        slices = max(1, most * slab.shape[2] // slab.numel())
        for part in torch.split(slab, slices, dim=2):
            yield part.float()


def averaged_slabs(
    slabs: Iterable[Tensor],
    grid: CaseGrid,
    *,
    averaging: Averaging = "probabilities",
    uncertainty: bool = False,
    rule: OutputRule | None = None,
) -> Iterator[Tensor]:
    """Mean probabilities of the folds on the cropped grid, slab by slab (K, m, Y, X): what maps and ensembles need.

    They are before the temperature. With ``uncertainty``, entropy (after the temperature of ``rule``) and fold disagreement
    follow as two more channels.
    """
    scheme = grid.plan.labels
    of = (rule or OutputRule(scheme)) if uncertainty else None
    if averaging == "logits":
        yield from _probabilities_of_mean_logits(slabs, grid, of)
        return

    def averaged(logits: Tensor) -> Tensor:
        folds = fold_probabilities(logits, scheme)
        mean = folds.mean(dim=0)
        return append_uncertainty(mean, folds, of) if of else mean

    yield from resample_slabs(map(averaged, split_slabs(slabs)), resampling_taps(grid))


def _probabilities_of_mean_logits(
    slabs: Iterable[Tensor], grid: CaseGrid, uncertainty_of: OutputRule | None
) -> Iterator[Tensor]:
    """As :func:`averaged_slabs`: mean logits, resampled, then softmax or sigmoid."""
    scheme = grid.plan.labels

    def averaged(logits: Tensor) -> Tensor:
        mean = mean_logits(logits)
        if uncertainty_of is None:
            return mean
        folds, both = fold_probabilities(logits, scheme), fold_probabilities(mean[None], scheme)[0]
        return torch.cat([mean, disagreement(folds, both, scheme)[None]])

    for slab in resample_slabs(map(averaged, split_slabs(slabs)), resampling_taps(grid)):
        mean = fold_probabilities(slab[None, : scheme.outputs].half().float(), scheme)[0]
        if uncertainty_of is not None:
            mean = torch.cat([mean, entropy(uncertainty_of.calibrated(mean), scheme)[None], slab[scheme.outputs :]])
        yield mean


def append_uncertainty(mean: Tensor, members: Tensor, rule: OutputRule) -> Tensor:
    """``mean`` (K, ...), then the entropy after the temperature, and the share of ``members`` (F, K, ...) that decide otherwise
    without thresholds: (K + 2, ...)."""
    scheme = rule.scheme
    return torch.cat([mean, entropy(rule.calibrated(mean), scheme)[None], disagreement(members, mean, scheme)[None]])


def collect(
    slabs: Iterable[Tensor], rule: OutputRule, grid: CaseGrid, *, probabilities: Maps, uncertainty: bool
) -> Exported:
    """Decide slabs of mean probabilities on the cropped grid and keep the requested maps."""
    scheme, shape = grid.plan.labels, grid.properties.cropped_shape
    decisions = _no_decisions(grid)
    channels = probabilities if isinstance(probabilities, tuple) else tuple(range(scheme.outputs)) * probabilities
    kept = np.zeros((len(channels), *shape), np.float16) if channels else None
    uncertain = np.zeros((2, *shape), np.float32) if uncertainty else None
    done = 0
    for slab in slabs:
        place = slice(done, done + slab.shape[1])
        mean = slab[: scheme.outputs]
        decisions[place] = rule.decide(mean).cpu().numpy()
        if kept is not None:
            kept[:, place] = rule.calibrated(mean)[list(channels)].half().cpu().numpy()
        if uncertain is not None:
            uncertain[:, place] = slab[scheme.outputs :].cpu().numpy()
        done = place.stop
    return Exported(decisions, kept, uncertain, channels=channels)


def _no_decisions(grid: CaseGrid) -> np.ndarray:
    return np.zeros(grid.properties.cropped_shape, np.min_scalar_type(len(grid.plan.labels.known_values)))


def resampling_taps(grid: CaseGrid) -> tuple[Taps, Taps, Taps]:
    """Linear interpolation from the network's to the cropped grid; nearest along an axis that was resampled so before."""
    nearest = grid.nearest_axis_back
    z, y, x = (
        Taps.between(n_in, n_out, nearest == axis)
        for axis, (n_in, n_out) in enumerate(zip(grid.properties.shape, grid.properties.cropped_shape, strict=True))
    )
    return z, y, x
