"""The last stage of planning: a configuration gets its attention and, by the rule, its loss (stage A, no training)."""

from collections.abc import Sequence

import msgspec

from unetrpp.dataset.labels import LabelScheme
from unetrpp.planners.measure.occupancy import cell_strides, foreground_bits, foreground_fractions, training_patches
from unetrpp.planners.rules.attention import Mode, Override, place_attention
from unetrpp.planners.rules.focal_loss import focal_loss
from unetrpp.planners.rules.memory import step_bytes
from unetrpp.plans.fingerprint import Fingerprint
from unetrpp.plans.plans import Configuration, Decision
from unetrpp.preprocessing.store import StoredCase


def with_attention(
    configuration: Configuration,
    cases: Sequence[StoredCase],
    fingerprint: Fingerprint,
    labels: LabelScheme,
    mode: Mode,
    overrides: Sequence[Override] = (),
) -> Configuration:
    """The configuration with attention placed by ``mode`` and its reasons; ``auto`` also chooses the focal loss.

    The rule looks at labels on the training grid, so ``cases`` are preprocessed ones (other modes need none). Nothing
    that preprocessing depends on changes.

    Raises:
        UserError: an override is impossible for this network, or no case has any foreground.
    """
    architecture, loss = configuration.architecture, configuration.loss
    fractions: tuple[float, ...] = ()
    reasons: list[Decision] = []
    if mode == "auto":
        patches = training_patches(cases, configuration.patch, configuration.foreground_fraction, labels.ignore_index)
        fractions = foreground_fractions(patches, cell_strides(architecture), labels.ignore_index)
        spacing = [s for s in configuration.preprocessing.spacing_mm[-architecture.dimensions :] if s is not None]
        loss, reasons = focal_loss(foreground_bits(fractions)[0], fingerprint, labels, spacing, loss.batch_dice)
    placed, decisions = place_attention(architecture, mode, fractions, overrides)
    memory = configuration.training_memory_bytes
    if placed != architecture:
        fixed, a_patch = step_bytes(placed)
        memory = round(fixed + a_patch * configuration.batch_size)
    return msgspec.structs.replace(
        configuration,
        architecture=placed,
        loss=loss,
        training_memory_bytes=memory,
        decisions=(*configuration.decisions, *decisions, *reasons),
    )
