"""From the plans to the loss that training calls."""

from collections.abc import Callable, Sequence

from torch import nn

from unetrpp.labels import LabelScheme
from unetrpp.losses.deep_supervision import DeepSupervision
from unetrpp.losses.dice import DiceAndCrossEntropy
from unetrpp.losses.truth import TruthEncoder
from unetrpp.plans import LossPlan


def build_loss(
    plan: LossPlan, labels: LabelScheme, head_strides: Sequence[Sequence[int]], spacing_mm: Sequence[float]
) -> DeepSupervision:
    """The loss over all heads: ``loss(outputs, target) -> scalar``.

    ``head_strides`` (``Architecture.head_strides()``) and ``spacing_mm`` have one value for every axis of the patch.
    """
    make = LOSSES[plan.name]
    losses = [make(plan, labels, [s * n for s, n in zip(spacing_mm, stride, strict=True)]) for stride in head_strides]
    return DeepSupervision(losses, head_strides, TruthEncoder(labels))


def _dice_ce(plan: LossPlan, labels: LabelScheme, spacing_mm: Sequence[float]) -> nn.Module:
    return DiceAndCrossEntropy(regions=bool(labels.regions), batch_dice=plan.batch_dice)


# name in the plans -> the loss of one head at a spacing
LOSSES: dict[str, Callable[[LossPlan, LabelScheme, Sequence[float]], nn.Module]] = {"dice_ce": _dice_ce}
