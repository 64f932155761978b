"""The last step of planning: attention modules and focal loss, from the labels of preprocessed cases, before training."""

from collections.abc import Sequence
from pathlib import Path

import msgspec

from unetrpp.core.errors import UserError
from unetrpp.core.files import write_json
from unetrpp.core.workspace import Workspace
from unetrpp.networks.training_memory import training_memory
from unetrpp.planners.measure.occupancy import cell_strides, foreground_bits, foreground_fractions, training_patches
from unetrpp.planners.options import AttentionMode, LossMode, Options
from unetrpp.planners.rules.attention import attention_mode, place_attention
from unetrpp.planners.rules.attention_overrides import Override, parse_override, require_possible
from unetrpp.planners.rules.loss import plan_focal_loss
from unetrpp.plans.fingerprint import Fingerprint
from unetrpp.plans.plans import Configuration, Decision, LossPlan, Plans
from unetrpp.preprocessing.store import Store, StoredCase


def plan_attention(
    plans: Plans,
    path: Path,
    fingerprint: Fingerprint,
    *,
    workspace: Workspace,
    options: Options,
    unprepared: bool = False,
) -> Plans:
    """Attention and loss of every preprocessed configuration without a decision on attention; rewrites ``path`` if there is one.

    It comes after preprocessing, because the rules need labels on the training grid. Preprocessed cases stay current.

    Args:
        path: of the plans in the workspace.
        unprepared: also of configurations that are not preprocessed; ``options`` may then ask for nothing by labels.
    """
    overrides = [parse_override(text) for text in options.place]
    decided = dict(plans.configurations)
    for name, configuration in plans.configurations.items():
        store = Store(workspace.store(path.parent.name, path.stem, name))
        cases = [store.open(case) for case in store.cases()]
        if (cases or unprepared) and not any(decision.about == "attention" for decision in configuration.decisions):
            mode = attention_mode(configuration.architecture, options)
            decided[name] = with_attention(
                configuration, cases, fingerprint, mode=mode, overrides=overrides, loss=options.loss
            )
    if decided != plans.configurations:
        plans = msgspec.structs.replace(plans, configurations=decided)
        write_json(path, plans)
    return plans


def require_possible_attention(plans: Plans, options: Options) -> None:
    """
    Raises:
        UserError: an override names a module that a network of the plans cannot have, or the mode is about EPA blocks and none has any.
    """
    networks = [configuration.architecture for configuration in plans.configurations.values()]
    has_blocks = any(level.attention == "epa" for network in networks for level in network.levels)
    if options.attention in ("auto", "pooled") and not has_blocks:
        what = f"--attention {options.attention} is about EPA blocks, of which {networks[0].network} has none"
        raise UserError(f"{what}; leave it out, or --attention focal places gates and squeeze-and-excitation")
    for network in networks:
        for text in options.place:
            require_possible(network, parse_override(text))


def with_attention(
    configuration: Configuration,
    cases: Sequence[StoredCase],
    fingerprint: Fingerprint,
    *,
    mode: AttentionMode,
    overrides: Sequence[Override] = (),
    loss: LossMode = "dice_ce",
) -> Configuration:
    """The configuration with attention placed by ``mode`` and the loss chosen by ``loss``, with the reasons.

    Args:
        cases: preprocessed; only attention ``focal`` and focal losses look at them.
        loss: ``dice_ce`` leaves the loss as it is.

    Raises:
        UserError: an override is impossible for this network, or no case has any foreground.
    """
    architecture = configuration.architecture
    focal = loss != "dice_ce"
    fractions = training_foreground(configuration, cases) if focal or mode == "focal" else ()
    placed, decisions = place_attention(architecture, mode, fractions, overrides)
    planned_loss, reasons = configuration.loss, list[Decision]()
    if focal:
        planned_loss, reasons = focal_loss_of(configuration, fractions, fingerprint, mode=loss)
    memory = configuration.training_memory_bytes
    if placed != architecture:
        memory = round(training_memory(placed).of(configuration.batch_size))
    return msgspec.structs.replace(
        configuration,
        architecture=placed,
        loss=planned_loss,
        training_memory_bytes=memory,
        decisions=(*configuration.decisions, *decisions, *reasons),
    )


def training_foreground(configuration: Configuration, cases: Sequence[StoredCase]) -> tuple[float, ...]:
    """The share of cells with foreground at every level of the network, in patches drawn as training draws them."""
    ignore = configuration.preprocessing.labels.ignore_index
    patches = training_patches(cases, configuration.patch, configuration.foreground_fraction, ignore)
    return foreground_fractions(patches, cell_strides(configuration.architecture), ignore)


def focal_loss_of(
    configuration: Configuration, fractions: Sequence[float], fingerprint: Fingerprint, *, mode: LossMode = "auto"
) -> tuple[LossPlan, list[Decision]]:
    """The focal loss for ``fractions`` (:func:`training_foreground`) on the training grid."""
    return plan_focal_loss(
        foreground_bits(fractions)[0],
        fingerprint,
        configuration.preprocessing.labels,
        configuration.patch_spacing_mm,
        batch_dice=configuration.loss.batch_dice,
        mode=mode,
    )
