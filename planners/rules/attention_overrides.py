"""The user's decisions about attention modules of single levels: ``--place gate@1=1.5 epa@2=off``."""

import re
from typing import Literal, NamedTuple, cast

import msgspec

from unetrpp.core.errors import UserError
from unetrpp.plans.architecture import Architecture, Level

Module = Literal["gate", "se", "epa"]


class Override(NamedTuple):
    """One module of one level (0 is full resolution). ``gamma`` None removes it."""

    module: Module
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
            f"{text!r} is not an attention override; write MODULE@LEVEL=GAMMA, such as gate@1=1.5, se@3=off, epa@2=on"
        )
    module, level, value = match.groups()
    gamma = None if value == "off" else 1.0 if value == "on" else float(value)
    if module == "epa" and value not in ("on", "off"):
        raise UserError(f"{text!r}: EPA has no gamma in the plans; write epa@{level}=on or epa@{level}=off")
    return Override(cast(Module, module), int(level), gamma)


def can_attend(architecture: Architecture, i: int) -> bool:
    """Whether level ``i`` may hold EPA blocks."""
    return architecture.network == "unetrpp" and i > 0


def require_possible(architecture: Architecture, override: Override) -> None:
    """
    Raises:
        UserError: this network has no such level, or cannot have this module there.
    """
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
    if module == "epa" and not can_attend(architecture, i):
        raise UserError(
            f"epa@{i}: only UNETR++ has EPA blocks, from level 1 on; in level {i} of {architecture.network} use gate or se"
        )


def overridden(level: Level, override: Override) -> Level:
    """The level with this decision applied."""
    if override.module == "gate":
        return msgspec.structs.replace(level, gate=override.gamma)
    if override.module == "se":
        return msgspec.structs.replace(level, squeeze_excitation=override.gamma)
    return msgspec.structs.replace(level, attention="conv" if override.gamma is None else "epa")
