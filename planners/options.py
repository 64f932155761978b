"""What a user may set in the plans; the rules in planners/rules decide the rest."""

from dataclasses import dataclass
from typing import Literal, get_args

from unetrpp.core.errors import UserError
from unetrpp.io.geometry import Spacing
from unetrpp.networks.presets import PRESETS

AttentionMode = Literal["auto", "pooled", "paper", "none", "focal", "all"]
LossMode = Literal["dice_ce", "unified_focal", "unified_focal_distance", "auto"]
StoredType = Literal["float32", "float16"]
PresetName = Literal["synapse", "acdc", "tumor", "lung", "resenc-m", "resenc-l", "resenc-xl"]


@dataclass(frozen=True, kw_only=True)
class Options:
    """None leaves a value to the rules.

    Raises:
        UserError: a value is not above 0, or not one of its choices.
    """

    batch_size: int | None = None
    width: float = 1.0  # factor on all channel counts
    gpu_memory_gb: float | None = None
    spacing: Spacing | None = None  # mm, canonical (z, y, x)
    patch: tuple[int, ...] | None = None  # voxels, in plan order
    # Patch and network as published for UNETR++ (unetrpp/networks/presets.py), or by nnU-Net's rule (rules/element_budget.py).
    preset: str | None = None
    mirror: str = "auto"  # or exchange, all, none, axes (planners/rules/mirroring.py)
    attention: AttentionMode | None = None  # docs/focal_attention.md; None: rules.attention.attention_mode
    loss: LossMode = "dice_ce"  # planners/rules/loss.py
    store: StoredType = "float32"  # of preprocessed images on disk
    checkpointing: bool = False  # everywhere; False: only where planners/rules/checkpointing.py needs it
    place: tuple[str, ...] = ()  # attention of single levels, such as gate@1=1.5

    def __post_init__(self) -> None:
        for name in ("batch_size", "width", "gpu_memory_gb", "spacing", "patch"):
            given = getattr(self, name)
            numbers = given if isinstance(given, tuple) else () if given is None else (given,)
            if any(number <= 0 for number in numbers):
                raise UserError(f"{name} must be above 0, but is {given}")
        for name, kind in (("attention", AttentionMode), ("loss", LossMode), ("store", StoredType)):
            if getattr(self, name) not in (*get_args(kind), getattr(Options, name)):
                raise UserError(f"{name} is {getattr(self, name)!r}; choose among {', '.join(get_args(kind))}")

    @property
    def published(self) -> str | None:
        """The preset, if patch and network are as published."""
        return self.preset if self.preset in PRESETS else None

    @property
    def by_labels(self) -> list[str]:
        """The options that ask for what preprocessed labels decide, as they are given on the command line."""
        by_labels = [f"--attention {self.attention}"] if self.attention == "focal" else []
        return by_labels + ([f"--loss {self.loss}"] if self.loss != "dice_ce" else [])

    def as_text(self) -> dict[str, str]:
        """The options that differ from their defaults, as the plans record them.

        >>> Options(batch_size=2).as_text()
        {'batch_size': '2'}
        """
        return {key: str(value) for key, value in vars(self).items() if value != getattr(Options, key)}
