"""Builds the loss that the plans describe."""

from collections.abc import Callable, Sequence

from torch import nn

from unetrpp.core.errors import UserError
from unetrpp.dataset.labels import LabelScheme
from unetrpp.losses.deep_supervision import DeepSupervision
from unetrpp.losses.dice import DiceAndCrossEntropy
from unetrpp.losses.distance import BoundaryWeights
from unetrpp.losses.truth import TruthEncoder
from unetrpp.losses.unified_focal import UnifiedFocal
from unetrpp.plans.plans import LossPlan


def build_loss(
    plan: LossPlan, labels: LabelScheme, head_strides: Sequence[Sequence[int]], spacing_mm: Sequence[float]
) -> DeepSupervision:
    """The loss over all heads: ``loss(outputs, target) -> scalar``.

    Args:
        head_strides: of every supervised output against the patch (``Architecture.head_strides()``).
        spacing_mm: one value for every axis of the patch.

    Raises:
        UserError: the distance penalty lacks a scale for a class or region.
    """
    make = LOSSES[plan.name]
    losses = [make(plan, labels, [s * n for s, n in zip(spacing_mm, stride, strict=True)]) for stride in head_strides]
    return DeepSupervision(losses, head_strides, TruthEncoder(labels))


def _dice_ce(plan: LossPlan, labels: LabelScheme, spacing_mm: Sequence[float]) -> nn.Module:
    return DiceAndCrossEntropy(regions=labels.overlapping, batch_dice=plan.batch_dice)


def _unified_focal(plan: LossPlan, labels: LabelScheme, spacing_mm: Sequence[float]) -> UnifiedFocal:
    return UnifiedFocal(
        gamma=plan.gamma,
        delta=plan.delta,
        weight=plan.weight,
        symmetric=plan.symmetric,
        regions=labels.overlapping,
        batch_dice=plan.batch_dice,
    )


def _unified_focal_distance(plan: LossPlan, labels: LabelScheme, spacing_mm: Sequence[float]) -> UnifiedFocal:
    """The Unified Focal loss with the distance penalty.

    Raises:
        UserError: not one distance scale for every foreground class or region.
    """
    needed = len(labels.targets)
    if len(plan.distance_scale_mm) != needed or min(plan.distance_scale_mm) <= 0:
        raise UserError(
            f"the distance penalty needs {needed} scales above 0 mm (one for each class or region), "
            f"but the plans have {list(plan.distance_scale_mm)}; correct distance_scale_mm in the plans"
        )
    loss = _unified_focal(plan, labels, spacing_mm)
    loss.boundary = BoundaryWeights(
        plan.distance_scale_mm,
        spacing_mm,
        strength=plan.distance_strength,
        gamma=plan.distance_gamma,
        mode=plan.distance_mode,
    )
    return loss


# name in the plans -> the loss of one head at a spacing
LOSSES: dict[str, Callable[[LossPlan, LabelScheme, Sequence[float]], nn.Module]] = {
    "dice_ce": _dice_ce,
    "unified_focal": _unified_focal,
    "unified_focal_distance": _unified_focal_distance,
}
