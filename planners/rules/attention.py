"""Where attention goes and with which focal gamma: a rule on the labels alone, before any training (ours).

The abstract of Yeung et al. (arXiv 2111.00534) asks for a simple heuristic per dataset and model; this one is
docs/focal_attention.md's. A level's bits say how hard its foreground is to find; a gate goes where they rise.
"""

import re
from collections.abc import Sequence
from typing import Literal, NamedTuple

import msgspec

from unetrpp.core.errors import UserError
from unetrpp.planners.measure.occupancy import cell_strides, foreground_bits
from unetrpp.plans.architecture import Architecture, Level
from unetrpp.plans.plans import Decision

Mode = Literal["auto", "paper", "none", "all"]
LEAST_GAIN = 0.5  # bits against the last gate (or the bottleneck) that are worth a gate
GATE_GAMMAS = (0.5, 2.0)
LEAST_SHARE, LEAST_CHANNELS = 0.05, 64  # of foreground cells and of channels, for squeeze-and-excitation
FULL_SHARE = 0.9  # where nearly every cell is foreground, there is nothing for EPA to choose among


class Override(NamedTuple):
    """A user's decision about one module of one level (0 is full resolution). ``gamma`` None takes it away."""

    module: Literal["gate", "se", "epa"]
    level: int
    gamma: float | None


def parse_override(text: str) -> Override:
    """
    Raises:
        UserError: it is not of this form.

    >>> parse_override("gate@1=1.5"), parse_override("epa@2=off")
    (Override(module='gate', level=1, gamma=1.5), Override(module='epa', level=2, gamma=None))
    """
    match = re.fullmatch(r"(gate|se|epa)@(\d+)=(on|off|\d+(?:\.\d+)?)", text)
    if match is None:
        raise UserError(
            f"{text!r} is no attention override; write MODULE@LEVEL=GAMMA, such as gate@1=1.5, se@3=off, epa@2=on"
        )
    module, level, value = match.groups()
    gamma = None if value == "off" else 1.0 if value == "on" else float(value)
    if module == "epa" and value not in ("on", "off"):
        raise UserError(f"{text!r}: EPA has no gamma in the plans; write epa@{level}=on or epa@{level}=off")
    return Override(module, int(level), gamma)  # type: ignore[arg-type]


def place_attention(
    architecture: Architecture, mode: Mode, fractions: Sequence[float] = (), overrides: Sequence[Override] = ()
) -> tuple[Architecture, list[Decision]]:
    """The architecture with its modules placed, and a line of why for each.

    ``paper`` leaves the network as published, ``none`` takes all attention away, ``all`` puts every module with gamma 1,
    ``auto`` decides by ``fractions`` (:func:`unetrpp.planners.measure.occupancy.foreground_fractions`, one a level).

    Raises:
        UserError: an override names a level or a module that this network does not have.
    """
    if mode == "auto":
        levels, decisions = _by_rule(architecture, fractions)
    elif mode == "paper":
        levels, decisions = list(architecture.levels), [_decide("attention", "as published", "--attention paper")]
    else:
        place = _all_of if mode == "all" else _none_of
        levels = [place(architecture, i) for i in range(len(architecture.levels))]
        value = "every module, gamma 1" if mode == "all" else "no module"
        decisions = [_decide("attention", value, f"--attention {mode}")]
    for override in overrides:
        _require_possible(architecture, override)
        levels[override.level] = _overridden(levels[override.level], override)
        value = "none" if override.gamma is None else f"gamma {override.gamma:g}"
        decisions.append(_decide(f"{override.module} at level {override.level}", value, "asked for"))
    return msgspec.structs.replace(architecture, levels=tuple(levels)), decisions


def _by_rule(architecture: Architecture, fractions: Sequence[float]) -> tuple[list[Level], list[Decision]]:
    names = [" x ".join(map(str, stride)) for stride in cell_strides(architecture)]
    gammas, reasons = gate_gammas(foreground_bits(fractions), names)
    levels, decisions = (
        [],
        [_decide("attention", "by the rule", "--attention auto: from the labels of training patches")],
    )
    for i, (level, gamma, name) in enumerate(zip(architecture.levels, gammas, names, strict=True)):
        deepest = i == len(names) - 1
        if not deepest:
            value = "none" if gamma is None else f"focal gate, gamma {gamma:.2g}"
            decisions.append(_decide(f"skip at stride {name}", value, reasons[i]))
        level, excitation = _with_excitation(level, gamma, fractions[i], name)
        decisions.append(excitation)
        if level.attention == "epa":
            level, blocks = _with_blocks(level, deepest, fractions[i], name)
            decisions.append(blocks)
        levels.append(msgspec.structs.replace(level, gate=gamma))
    return levels, decisions


def _with_excitation(level: Level, gate: float | None, fraction: float, name: str) -> tuple[Level, Decision]:
    excited = gate is None and fraction >= LEAST_SHARE and level.channels >= LEAST_CHANNELS
    why = (
        f"{'no' if gate is None else 'a'} gate, {fraction:.0%} of the cells hold foreground, {level.channels} channels"
    )
    decision = _decide(f"squeeze-and-excitation at stride {name}", "gamma 1" if excited else "none", why)
    return msgspec.structs.replace(level, squeeze_excitation=1.0 if excited else None), decision


def _with_blocks(level: Level, deepest: bool, fraction: float, name: str) -> tuple[Level, Decision]:
    kept = deepest or fraction < FULL_SHARE
    where = "the deepest level" if deepest else f"{fraction:.0%} of the cells hold foreground"
    why = f"{where} (EPA below {FULL_SHARE:.0%})"
    decision = _decide(f"blocks at stride {name}", "EPA" if kept else "plain residual blocks", why)
    return msgspec.structs.replace(level, attention="epa" if kept else "conv"), decision


def gate_gammas(bits: Sequence[float], names: Sequence[str]) -> tuple[list[float | None], list[str]]:
    """The gamma of the gate on each level's skip (None: no gate) and why; the deepest level has no skip.

    From the bottleneck up, a gate goes where the foreground became at least half a bit harder to find since the last one.

    >>> gate_gammas([2.6, 1.0, 0.9], ["1", "4", "8"])[0]
    [1.7000000000000002, None, None]
    """
    gammas: list[float | None] = [None] * len(bits)
    reasons = [""] * len(bits)
    last, where = bits[-1], "the bottleneck"
    for i in range(len(bits) - 2, -1, -1):
        gain = bits[i] - last
        reasons[i] = (
            f"{bits[i]:.2f} bits to find the foreground, {last:.2f} at {where}: gain {gain:.2f} (a gate from {LEAST_GAIN})"
        )
        if gain >= LEAST_GAIN:
            gammas[i] = min(max(gain, GATE_GAMMAS[0]), GATE_GAMMAS[1])
            last, where = bits[i], f"stride {names[i]}"
    return gammas, reasons


def _all_of(architecture: Architecture, i: int) -> Level:
    """EPA where there is more than one token to choose among."""
    level, deepest = architecture.levels[i], i == len(architecture.levels) - 1
    epa = _can_attend(architecture, i) and architecture.tokens()[i] > 1
    return msgspec.structs.replace(
        level, gate=None if deepest else 1.0, squeeze_excitation=1.0, attention="epa" if epa else "conv"
    )


def _none_of(architecture: Architecture, i: int) -> Level:
    return msgspec.structs.replace(architecture.levels[i], gate=None, squeeze_excitation=None, attention="conv")


def _can_attend(architecture: Architecture, i: int) -> bool:
    return architecture.network == "unetrpp" and i > 0


def _require_possible(architecture: Architecture, override: Override) -> None:
    module, i, _ = override
    deepest = len(architecture.levels) - 1
    if i > deepest:
        raise UserError(
            f"{module}@{i}: the network has the levels 0 (full resolution) to {deepest}; choose one of them"
        )
    if module == "gate" and i == deepest:
        raise UserError(
            f"gate@{i}: the deepest level has no skip connection to gate; choose a level from 0 to {deepest - 1}"
        )
    if module == "epa" and not _can_attend(architecture, i):
        raise UserError(
            f"epa@{i}: EPA stands in UNETR++ from level 1 on, not here ({architecture.network}); use gate or se"
        )


def _overridden(level: Level, override: Override) -> Level:
    if override.module == "gate":
        return msgspec.structs.replace(level, gate=override.gamma)
    if override.module == "se":
        return msgspec.structs.replace(level, squeeze_excitation=override.gamma)
    return msgspec.structs.replace(level, attention="conv" if override.gamma is None else "epa")


def _decide(about: str, value: str, why: str) -> Decision:
    return Decision(about=about, value=value, why=why)
