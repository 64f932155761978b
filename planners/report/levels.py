"""What every level of a planned network consists of, in words that the drawing and its table share."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from unetrpp.core.text import counted, format_shape
from unetrpp.planners.measure.occupancy import cell_strides
from unetrpp.plans.architecture import Architecture, Level
from unetrpp.plans.fingerprint import Fingerprint
from unetrpp.plans.plans import Configuration, Decision
from unetrpp.report.page import Rows

CONVOLUTIONAL = ("unet", "resunet")  # whose levels never hold EPA


@dataclass(frozen=True)
class Blocks:
    """The encoder's or the decoder's blocks of a level: what they are, how many, and their size."""

    kind: Literal["epa", "pooled", "convolution"]
    name: str
    detail: str


@dataclass(frozen=True, kw_only=True)
class LevelWords:
    """One level. An empty text stands for a module that it does not have."""

    stride: str
    size: str
    voxel: str  # its size in mm; empty where the files give none
    channels: str
    encoder: Blocks
    squeeze_excitation: str
    gate: str
    decoder: Blocks | None
    head: str
    decisions: tuple[Decision, ...]  # about its modules


def level_words(fingerprint: Fingerprint, configuration: Configuration) -> list[LevelWords]:
    """The levels of a configuration's network, full resolution first."""
    architecture, spacing = configuration.architecture, configuration.patch_spacing_mm
    unit = "pixels" if len(spacing) == 2 else "voxels"
    found = []
    for i, (level, size) in enumerate(zip(architecture.levels, architecture.sizes(), strict=True)):
        stride = architecture.stride(i)
        voxel = [f"{mm * step:.3g}" for mm, step in zip(spacing, stride, strict=True)]
        found.append(
            LevelWords(
                stride=format_shape(stride),
                size=f"{format_shape(size)} {unit}",
                voxel="" if fingerprint.in_pixels else f"{' x '.join(voxel)} mm",
                channels=counted(level.channels, "channel"),
                encoder=_blocks(architecture, i, decoder=False),
                squeeze_excitation=_gamma(level.squeeze_excitation),
                gate=_gate(architecture, i),
                decoder=_blocks(architecture, i, decoder=True) if i < len(architecture.levels) - 1 else None,
                head=("output" if i == 0 else "head") if i < architecture.supervised_levels else "",
                decisions=tuple(_decisions_of(configuration, i)),
            )
        )
    return found


def _gamma(gamma: float | None) -> str:
    """A focal module by its gamma; with gamma 0 it passes everything on.

    >>> _gamma(None), _gamma(0.5312), _gamma(0.0)
    ('', 'gamma 0.531', 'gamma 0 (off)')
    """
    return "" if gamma is None else f"gamma {gamma:.3g}" if gamma else "gamma 0 (off)"


def _gate(architecture: Architecture, i: int) -> str:
    """The gate on the skip of level ``i``; the deepest level has no skip."""
    if i == len(architecture.levels) - 1 or architecture.levels[i].gate is None:
        return ""
    return ("focus, " if architecture.gates == "focus" else "") + _gamma(architecture.levels[i].gate)


def _blocks(architecture: Architecture, i: int, *, decoder: bool) -> Blocks:
    level = architecture.levels[i]
    count = level.decoder_blocks if decoder else level.encoder_blocks
    if level.attention == "conv" or architecture.network in CONVOLUTIONAL or _is_entry(architecture, i):
        name = counted(count, _convolution(architecture, decoder=decoder))
        return Blocks("convolution", name, f"kernel {format_shape(level.kernel)}")
    if level.cell is not None:
        return Blocks("pooled", counted(count, "pooled EPA block"), _pooled(level.cell, level.token))
    return Blocks("epa", counted(count, "EPA block"), f"{_projected(level, decoder)} projected tokens")


def _is_entry(architecture: Architecture, i: int) -> bool:
    """Whether it is UNETR++'s level of full resolution, which is convolutional whatever it says of attention."""
    return architecture.network == "unetrpp" and i == 0


def _pooled(cell: Sequence[int], token: Sequence[int] | None) -> str:
    """What the queries, keys and values of a pooled EPA block are.

    >>> _pooled((2, 5, 5), None)
    'keys and values: means of 2 x 5 x 5 voxels'
    >>> _pooled((5, 5, 5), (1, 2, 2))
    'tokens: means of 1 x 2 x 2 voxels; keys and values: of 5 x 5 x 5 tokens'
    """
    if token is None:
        return f"keys and values: means of {format_shape(cell)} voxels"
    return f"tokens: means of {format_shape(token)} voxels; keys and values: of {format_shape(cell)} tokens"


def _projected(level: Level, decoder: bool) -> int:
    return level.decoder_projection if decoder else level.encoder_projection


def _convolution(architecture: Architecture, *, decoder: bool) -> str:
    """What the convolutional blocks of the built-in networks are; those of another package may be anything."""
    if architecture.network == "unetrpp":
        return "residual block"
    if architecture.network not in CONVOLUTIONAL:
        return "block"
    residual = architecture.residual_decoder if decoder else architecture.network == "resunet"
    return "residual block" if residual else "convolution"


def _decisions_of(configuration: Configuration, i: int) -> Iterator[Decision]:
    """The decisions about modules of level ``i``, which name its stride or its number (planners/rules/attention.py)."""
    stride = " x ".join(map(str, cell_strides(configuration.architecture)[i]))
    for decision in configuration.decisions:
        if decision.about.endswith((f" at stride {stride}", f" at level {i}")):
            yield decision


def attention_reason(configuration: Configuration) -> str:
    """What was decided about attention as a whole, and why; empty for plans that say nothing."""
    return " ".join(
        f"{d.about.capitalize()}: {d.value}; {d.why}." for d in configuration.decisions if d.about == "attention"
    )


def level_rows(levels: Sequence[LevelWords]) -> Rows:
    """The drawing as a table."""
    rows = [
        [
            "stride",
            "size",
            "channels",
            "encoder",
            "squeeze-and-excitation",
            "gate on the skip",
            "decoder",
            "head",
            "reasons",
        ]
    ]
    for level in levels:
        encoder, decoder = (f"{b.name}, {b.detail}" if b else "none" for b in (level.encoder, level.decoder))
        modules = [encoder, level.squeeze_excitation or "none", level.gate or "none", decoder, level.head or "none"]
        reasons = "; ".join(f"{d.about}: {d.value} ({d.why})" for d in level.decisions)
        size = f"{level.size} of {level.voxel}" if level.voxel else level.size
        rows.append([level.stride, size, level.channels, *modules, reasons])
    if not any(level.decisions for level in levels):
        rows = [row[:-1] for row in rows]
    return rows
