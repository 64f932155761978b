"""Where attention modules go: EPA blocks, gates and squeeze-and-excitation, as published or by rules on the labels.

The abstract of Yeung et al. (arXiv 2111.00534) asks for a simple heuristic per dataset and model. These are ours
(docs/focal_attention.md); they look at labels alone, before any training. gate_gamma.py chooses the gamma of gates.
"""

import math
import statistics
from collections.abc import Sequence

import msgspec

from unetrpp.dataset.labels import LabelScheme
from unetrpp.networks.design import with_pooled_attention
from unetrpp.planners.measure.occupancy import cell_strides, foreground_bits
from unetrpp.planners.options import AttentionMode
from unetrpp.planners.rules.attention_overrides import Override, can_attend, overridden, require_possible
from unetrpp.planners.rules.gate_gamma import gate_gammas
from unetrpp.plans.architecture import Architecture, Level
from unetrpp.plans.fingerprint import CaseFingerprint, Fingerprint
from unetrpp.plans.plans import Decision

LEAST_ACROSS = 32  # voxels of the median structure, from which on EPA gains more than its time costs
LEAST_SHARE, LEAST_CHANNELS = 0.05, 64  # of foreground cells and of channels, for squeeze-and-excitation


def place_attention(
    architecture: Architecture,
    mode: AttentionMode,
    *,
    across: float = 0.0,
    fractions: Sequence[float] = (),
    overrides: Sequence[Override] = (),
) -> tuple[Architecture, list[Decision]]:
    """The architecture with its modules placed, and a decision about each.

    ``auto`` keeps EPA, pooled, at the finest of its levels if structures are large, and else nowhere. ``focal`` adds gates and
    squeeze-and-excitation where foreground is hard to find. ``paper`` leaves the network as published, ``pooled`` keeps its EPA
    blocks and makes them independent of the patch, ``none`` removes all attention, ``all`` places every module with gamma 1.

    Args:
        across: voxels of the median structure (:func:`voxels_across`), for ``auto`` and ``focal``.
        fractions: of foreground, one per level (:func:`unetrpp.planners.measure.occupancy.foreground_fractions`), for ``focal``.

    Raises:
        UserError: an override names a level or a module that this network does not have.
    """
    levels, decisions = list(architecture.levels), list[Decision]()
    if mode in ("auto", "focal"):
        levels, decisions = _by_size(architecture, across)
    if mode == "auto":
        why = "gates and squeeze-and-excitation gained nothing on four datasets; --attention focal places them by the labels"
        decisions.append(_decide("gates", "none", why))
    elif mode == "focal":
        levels, more = _with_focal_modules(architecture, levels, fractions)
        decisions += more
    elif mode in ("paper", "pooled"):
        decisions = [_kept(architecture, mode)]
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


def voxels_across(fingerprint: Fingerprint, labels: LabelScheme, spacing_mm: Sequence[float]) -> float:
    """How many voxels of the training grid the median structure is across, along the grid's finest axis; 0 without foreground.

    A structure is the largest component of a class in a case. Its diameter is that of the sphere of equal volume, or of the disc of
    equal area where a case is a single slice.
    """
    names = [labels.names[index] for index in labels.foreground]
    diameters = [
        _diameter_mm(case, case.classes[name].component_radii_mm[0])
        for case in fingerprint.cases
        for name in names
        if name in case.classes and case.classes[name].component_radii_mm
    ]
    return statistics.median(diameters) / min(spacing_mm) if diameters else 0.0


def _diameter_mm(case: CaseFingerprint, radius_mm: float) -> float:
    if case.shape[0] > 1:
        return 2 * radius_mm
    area = 4 / 3 * math.pi * radius_mm**3 / case.spacing_mm[0]
    return 2 * math.sqrt(area / math.pi)


def _by_size(architecture: Architecture, across: float) -> tuple[list[Level], list[Decision]]:
    """EPA at the finest of its levels for large structures: the deeper ones gave nothing beside it."""
    having = [i for i, level in enumerate(architecture.levels) if level.attention == "epa"]
    kept = having[:1] if across >= LEAST_ACROSS else []
    levels = list(architecture.levels)
    for i in set(having) - set(kept):
        levels[i] = msgspec.structs.replace(levels[i], attention="conv")
    value = f"pooled EPA at stride {_stride_names(architecture)[kept[0]]} alone" if kept else "no EPA"
    why = f"the median structure is {across:.0f} voxels across; "
    if kept:
        why += f"from {LEAST_ACROSS} on, EPA gained more than its time costs, and deeper levels added nothing to its finest one"
    else:
        why += f"below {LEAST_ACROSS}, EPA did not gain as much as its time costs"
    if not having:
        why = "this network has no levels with EPA blocks"
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
    why = f"a network keeps its published modules, here {has}; --attention auto plans them from the labels"
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
