"""Where attention modules go: EPA blocks, gates and squeeze-and-excitation, as published or by rules.

The abstract of Yeung et al. (arXiv 2111.00534) asks for a simple heuristic per dataset and model. These are ours
(docs/focal_attention.md): EPA by the planned network, the other modules by the labels, before any training. gate_gamma.py
chooses the gamma of gates.
"""

from collections.abc import Sequence

import msgspec

from unetrpp.core.text import counted
from unetrpp.networks.design import with_pooled_attention
from unetrpp.planners.measure.occupancy import cell_strides, foreground_bits
from unetrpp.planners.options import AttentionMode, Options
from unetrpp.planners.rules.attention_overrides import (
    Override,
    can_attend,
    overridden,
    parse_override,
    require_possible,
)
from unetrpp.planners.rules.gate_gamma import gate_gammas
from unetrpp.plans.architecture import Architecture, Level
from unetrpp.plans.plans import Decision

LEAST_SHARE, LEAST_CHANNELS = 0.05, 64  # of foreground cells and of channels, for squeeze-and-excitation


def attention_mode(network: Architecture, options: Options) -> AttentionMode:
    """The mode that is asked for; else the rule decides, and presets and networks without EPA are as published."""
    has_blocks = any(level.attention == "epa" for level in network.levels)
    return options.attention or ("auto" if has_blocks and options.published is None else "paper")


def largest_placement(architecture: Architecture, options: Options) -> Architecture:
    """The network with every module that :func:`place_attention` may give it, whatever the labels: what has to fit the GPU."""
    mode = attention_mode(architecture, options)
    if mode == "focal":  # a gate at every skip: squeeze-and-excitation in place of one needs less
        *skips, deepest = architecture.levels
        gated = [msgspec.structs.replace(level, gate=1.0) for level in skips]
        excited = msgspec.structs.replace(deepest, squeeze_excitation=1.0)
        architecture, mode = msgspec.structs.replace(architecture, levels=(*gated, excited)), "auto"
    overrides = [parse_override(text) for text in options.place]
    return place_attention(architecture, mode, overrides=overrides)[0]


def place_attention(
    architecture: Architecture,
    mode: AttentionMode,
    fractions: Sequence[float] = (),
    overrides: Sequence[Override] = (),
) -> tuple[Architecture, list[Decision]]:
    """The architecture with its modules placed, and a decision about each.

    ``auto`` keeps EPA, pooled, at the finest of its levels alone. ``focal`` adds gates and squeeze-and-excitation where foreground
    is hard to find, by ``fractions`` (:func:`unetrpp.planners.measure.occupancy.foreground_fractions`, one per level). ``paper``
    leaves the network as published, ``pooled`` keeps its EPA blocks and makes them independent of the patch, ``none`` removes
    all attention, ``all`` places every module with gamma 1.

    Raises:
        UserError: an override names a level or a module that this network does not have.
    """
    if mode in ("auto", "focal"):
        levels, decisions = _at_the_finest(architecture)
        if mode == "auto":
            why = "they gained nothing in our trial; --attention focal places them, and squeeze-and-excitation, by the labels"
            decisions.append(_decide("gates", "none", why))
        else:
            levels, more = _with_focal_modules(architecture, levels, fractions)
            decisions += more
    elif mode in ("paper", "pooled"):
        levels, decisions = list(architecture.levels), [_kept(architecture, mode)]
    else:
        place = _all_of if mode == "all" else _none_of
        levels = [place(architecture, i) for i in range(len(architecture.levels))]
        value = "every module, gamma 1" if mode == "all" else "no module"
        decisions = [_decide("attention", value, f"asked for with --attention {mode}")]
    for override in overrides:
        require_possible(architecture, override)
        levels[override.level] = overridden(levels[override.level], override)
        value = "none" if override.gamma is None else f"gamma {override.gamma:g}"
        decisions.append(_decide(f"{override.module} at level {override.level}", value, "asked for"))
    placed = msgspec.structs.replace(architecture, levels=tuple(levels))
    return with_pooled_attention(placed) if mode in ("auto", "focal", "pooled") else placed, decisions


def _at_the_finest(architecture: Architecture) -> tuple[list[Level], list[Decision]]:
    """EPA at the finest of its levels alone."""
    having = [i for i, level in enumerate(architecture.levels) if level.attention == "epa"]
    levels = list(architecture.levels)
    for i in having[1:]:
        levels[i] = msgspec.structs.replace(levels[i], attention="conv")
    if not having:
        return levels, [_decide("attention", "no EPA", "this network has no levels with EPA blocks")]
    value = f"pooled EPA at stride {_stride_names(architecture)[having[0]]}"
    why = (
        f"the finest of {counted(len(having), 'published level')} with EPA; on average over four datasets it alone was level with all of "
        "them for the same number of steps, in 0.79 of the time. Its weights do not depend on the patch, because keys and values are "
        "means over cells"
    )
    return levels, [_decide("attention", value, why)]


def _with_focal_modules(
    architecture: Architecture, levels: Sequence[Level], fractions: Sequence[float]
) -> tuple[list[Level], list[Decision]]:
    """Gates and squeeze-and-excitation, level by level, with the reasons."""
    names = _stride_names(architecture)
    gammas, reasons = gate_gammas(foreground_bits(fractions), names)
    placed, decisions = [], []
    for i, (level, gamma, name) in enumerate(zip(levels, gammas, names, strict=True)):
        deepest = i == len(names) - 1
        if not deepest:
            value = "none" if gamma is None else f"focal gate, gamma {gamma:.2g}"
            decisions.append(_decide(f"skip at stride {name}", value, reasons[i]))
        level, excitation = _with_excitation(level, gamma, fractions[i], name)
        decisions.append(excitation)
        placed.append(msgspec.structs.replace(level, gate=gamma))
    return placed, decisions


def _stride_names(architecture: Architecture) -> list[str]:
    return [" x ".join(map(str, stride)) for stride in cell_strides(architecture)]


def _kept(architecture: Architecture, mode: AttentionMode) -> Decision:
    """Why a network keeps its modules."""
    blocks = sum(level.attention == "epa" for level in architecture.levels)
    has = f"EPA blocks at {blocks} of {len(architecture.levels)} levels" if blocks else "no attention modules"
    if mode == "pooled":
        why = (
            f"{has}, where keys and values are means over cells, so that no parameter depends on the patch; "
            "asked for with --attention pooled"
        )
        return _decide("attention", "as published, but pooled", why)
    why = f"a network keeps its published modules, here {has}; --attention focal places others by the labels"
    return _decide("attention", "as published", why)


def _with_excitation(level: Level, gate: float | None, fraction: float, name: str) -> tuple[Level, Decision]:
    excited = gate is None and fraction >= LEAST_SHARE and level.channels >= LEAST_CHANNELS
    why = (
        f"{'no' if gate is None else 'a'} gate (a level with a gate gets none), {fraction:.0%} of the cells hold foreground "
        f"(at least {LEAST_SHARE:.0%}), {level.channels} channels (at least {LEAST_CHANNELS})"
    )
    decision = _decide(f"squeeze-and-excitation at stride {name}", "gamma 1" if excited else "none", why)
    return msgspec.structs.replace(level, squeeze_excitation=1.0 if excited else None), decision


def _all_of(architecture: Architecture, i: int) -> Level:
    """Every module, with gamma 1; EPA where there is more than one token to choose among."""
    level, deepest = architecture.levels[i], i == len(architecture.levels) - 1
    epa = can_attend(architecture, i) and architecture.tokens()[i] > 1
    return msgspec.structs.replace(
        level, gate=None if deepest else 1.0, squeeze_excitation=1.0, attention="epa" if epa else "conv"
    )


def _none_of(architecture: Architecture, i: int) -> Level:
    return msgspec.structs.replace(architecture.levels[i], gate=None, squeeze_excitation=None, attention="conv")


def _decide(about: str, value: str, why: str) -> Decision:
    return Decision(about=about, value=value, why=why)
