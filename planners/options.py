"""What a user may fix of a plan, and what the rules work on."""

from dataclasses import dataclass

from unetrpp.io.geometry import Axes, Spacing
from unetrpp.planners.rules.attention import Mode
from unetrpp.planners.rules.storage import StoredType

FLAT = 2  # a median image with fewer voxels along an axis is two-dimensional


@dataclass(frozen=True)
class Options:
    """None leaves it to the rules. Spacing in mm, canonical (z, y, x); patch in plan order."""

    batch_size: int | None = None
    width: float = 1.0
    gpu_memory_gb: float | None = None
    spacing: Spacing | None = None
    patch: tuple[int, ...] | None = None
    preset: str | None = None  # of networks/presets: patch and network as published
    mirror: str = "auto"  # or exchange, all, none, axes (planners/rules/mirroring.py)
    attention: Mode = "paper"  # docs/focal_attention.md
    store: StoredType = "float32"  # of preprocessed images on disk
    place: tuple[str, ...] = ()  # attention of single levels, such as gate@1=1.5

    def as_text(self) -> dict[str, str]:
        """Those that differ from the default, as the plans record them.

        >>> Options(batch_size=2).as_text()
        {'batch_size': '2'}
        """
        return {key: str(value) for key, value in vars(self).items() if value != getattr(Options, key)}


@dataclass(frozen=True)
class Measures:
    """The target grid in plan order: the coarsest axis first."""

    order: Axes  # canonical axes in plan order
    spacing: Spacing
    shape: tuple[float, float, float]  # median over the cases at that spacing
    cases: int

    @property
    def flat(self) -> bool:
        return self.shape[0] < FLAT
