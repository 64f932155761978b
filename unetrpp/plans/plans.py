"""The record of what was decided: everything training and prediction need, and the reason for every decision.

planners/ writes it; preprocessing, trainers and inference read it. Per-axis values are in plan order: the canonical
frame (z, y, x) transposed by ``Preprocessing.transpose``, so that the coarsest axis comes first.
"""

from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal

import msgspec

from unetrpp.core.digest import digest
from unetrpp.core.errors import UserError
from unetrpp.core.files import Record, read_edited_json
from unetrpp.core.workspace import NO_PLANS
from unetrpp.dataset.description import DatasetDescription
from unetrpp.dataset.labels import LabelScheme
from unetrpp.io.geometry import Spacing
from unetrpp.plans.architecture import Architecture, as_3d
from unetrpp.plans.fingerprint import IntensityStatistics

if TYPE_CHECKING:
    from unetrpp.plotting.picture import Picture

FORMAT = 1
CASCADE = "3d_cascade"
CONFIGURATIONS = ("3d_fullres", "2d", "3d_lowres", CASCADE)  # names of all that can be planned

NormalizationScheme = Literal["ct", "zscore", "none", "rescale_0_1", "rgb_to_0_1"]


class Decision(Record, frozen=True, kw_only=True):
    """``about`` was set to ``value`` because of ``why`` (one line, with its numbers)."""

    about: str
    value: str
    why: str


class Normalization(Record, frozen=True, kw_only=True):
    """How one channel's intensities are scaled (planning.md's rule by channel name)."""

    channel: str
    scheme: NormalizationScheme
    statistics: IntensityStatistics
    masked: bool = False  # z-score over the non-zero mask only; outside it the value is 0


class Preprocessing(Record, frozen=True, kw_only=True):
    """Everything that determines the voxels of a preprocessed case; its hash is stored with every case.

    ``orientation`` is the frame that images are turned into before ``transpose``: the canonical one, that of readers of
    nnU-Net which reorient (RAS), or the file's own axes. With ``rules`` "nnunet", what ours and nnU-Net 2.8.1 do differently is done
    as there: background is 0, sizes are rounded from the ratio of the spacings, a ratio of spacings counts as it stands, labels
    are resampled by a share of one half, and tiles are blended with its weights.
    """

    later_fields: ClassVar[frozenset[str]] = frozenset({"rules", "zero_outside_mask"})
    orientation: Literal["LPS", "RAS", "file"] = "LPS"
    rules: Literal["unetrpp", "nnunet"] = "unetrpp"
    transpose: tuple[int, int, int]
    spacing_mm: tuple[float | None, float | None, float | None]  # plan order; None keeps the case's own (2D slices)
    normalization: tuple[Normalization, ...]
    labels: LabelScheme
    zero_outside_mask: bool = False  # masked channels also after resampling; neither 0.1.0 nor nnU-Net do so
    separate_axis_ratio: float = 3.0  # above it the coarse axis is resampled with nearest neighbours
    dtype: Literal["float32", "float16"] = "float32"  # of stored images; they are read as float32
    store_format: int = 1
    chunk: tuple[int, int, int]

    def target_spacing(self, own: Spacing) -> Spacing:
        """Spacing in mm to resample a case of spacing ``own`` to, both in plan order."""
        z, y, x = (mm if planned is None else planned for mm, planned in zip(own, self.spacing_mm, strict=True))
        return z, y, x

    def digest(self) -> str:
        """Hash of what determines the voxels; equal digests mean equal preprocessed cases.

        The chunk is left out: it only decides how fast cases are read, so they stay current when the patch changes.
        """
        content = msgspec.structs.replace(self, chunk=(0, 0, 0))
        return digest(content)


class LossPlan(Record, frozen=True, kw_only=True):
    """``dice_ce``, or the Unified Focal loss and its boundary-weighted form (docs/focal_attention.md).

    Planning sets ``name``, ``batch_dice``, ``gamma`` and ``distance_scale_mm`` (planners/rules/loss.py). No option
    of a command sets the others: losses/build.py reads them, and a user may edit them in the plans' file.
    """

    name: Literal["dice_ce", "unified_focal", "unified_focal_distance"] = "dice_ce"
    batch_dice: bool = False
    gamma: float = 0.5
    delta: float = 0.6  # of foreground and false negatives; background and false positives weigh 1 - delta
    weight: float = 0.5  # of the focal Tversky loss; the focal cross-entropy has 1 - weight
    symmetric: bool = False  # gamma on foreground and background alike
    distance_scale_mm: tuple[float, ...] = ()  # tau, one per foreground class, or one per region
    distance_strength: float = 1.0  # kappa
    distance_gamma: float = 1.0  # power on the distance's Phi; 0 is no penalty
    distance_mode: Literal["near", "far"] = "near"  # weight voxels near the boundary, or those far from it


class AugmentationPlan(Record, frozen=True, kw_only=True):
    """The limits of augmentation that depend on the patch; the other constants are in unetrpp/augmentation."""

    rotation_degrees: tuple[float, ...]  # largest angle about each plan axis; zeros switch rotation about that axis off
    scale: tuple[float, float] = (0.7, 1.4)
    in_plane_only: bool = False  # no rotation or scaling along the first plan axis (anisotropic patches)


class Configuration(Record, frozen=True, kw_only=True):
    """One way to train on the dataset, e.g. ``3d_fullres``.

    ``averaging`` is what is averaged over folds: the probabilities, or the logits, which are then resampled before the softmax as
    in nnU-Net.
    """

    later_fields: ClassVar[frozenset[str]] = frozenset({"averaging"})
    preprocessing: Preprocessing
    architecture: Architecture
    batch_size: int
    mirror_axes: tuple[int, ...]  # plan axes (of the patch) that training and prediction mirror
    swap_axis: int | None = msgspec.field(
        default=None, name="exchange_axis"
    )  # of the patch: when it is mirrored, the labels below are swapped
    swapped_labels: tuple[tuple[int, int], ...] = msgspec.field(
        default=(), name="exchanged_labels"
    )  # training indices (left, right)
    augmentation: AugmentationPlan
    loss: LossPlan = LossPlan()
    foreground_fraction: float = 1 / 3  # share of patches centred on a foreground class
    training_memory_bytes: int  # estimate for one step
    first_stage: str | None = msgspec.field(
        default=None, name="previous_stage"
    )  # of a cascade: its segmentation comes as one channel per foreground class
    averaging: Literal["probabilities", "logits"] = "probabilities"
    decisions: tuple[Decision, ...]

    @property
    def patch(self) -> tuple[int, ...]:
        """Voxels of the patch (z, y, x), or (y, x) for 2D."""
        return self.architecture.patch

    @property
    def first_stage_classes(self) -> int:
        """Input channels for the first stage's segmentation, one per foreground class; 0 outside a cascade."""
        return 0 if self.first_stage is None else len(self.preprocessing.labels.foreground)

    @property
    def patch_3d(self) -> tuple[int, int, int]:
        """Voxels of the patch (z, y, x); a 2D patch is one slice."""
        return as_3d(self.patch)

    @property
    def patch_spacing_mm(self) -> tuple[float, ...]:
        """Spacing of the training grid, one per axis of the patch; 1 along an axis where cases keep their own."""
        return tuple(1.0 if mm is None else mm for mm in self.preprocessing.spacing_mm[-len(self.patch) :])


class Plans(Record, frozen=True, kw_only=True):
    """All decisions about one dataset: the content of ``preprocessed/DATASET/PLANS.json``."""

    later_fields: ClassVar[frozenset[str]] = frozenset({"made_from"})
    format: int = FORMAT
    made_from: str = ""  # digest of the cases; release 0.1.0 did not write it
    dataset: str
    name: str  # of the plans: unetrpp, unet, resunet or the user's
    planner: str
    options: dict[str, str] = msgspec.field(default_factory=dict)  # what the user requested
    channel_names: tuple[str, ...]
    labels: LabelScheme
    file_ending: str
    configurations: dict[str, Configuration]
    warnings: tuple[str, ...] = ()
    decisions: tuple[Decision, ...]  # that hold for every configuration

    def configuration(self, name: str) -> Configuration:
        """
        Raises:
            UserError: there is none of this name.
        """
        if name not in self.configurations:
            plan = f"unetrpp_plan_and_preprocess -c {name}"
            repair = f"plan it with {plan}" if name in CONFIGURATIONS else f"there are only {', '.join(CONFIGURATIONS)}"
            raise UserError(
                f"configuration {name!r} is not in the plans {self.name!r}, which have {', '.join(self.configurations)}; {repair}"
            )
        return self.configurations[name]

    def differences(self, description: DatasetDescription) -> list[str]:
        """What a dataset.json says otherwise than these plans; networks and preprocessed cases do not fit it then."""
        same = {
            "labels": self.labels == description.labels,
            "channels": self.channel_names == description.channel_names,
            "file ending": self.file_ending == description.file_ending,
        }
        return [what for what, equal in same.items() if not equal]

    def show(self) -> "Picture":
        """Draw patches and memory of all configurations above a table of their numbers.

        The result is a matplotlib figure. A notebook shows it; a script saves it with ``savefig``. The plan report
        (:func:`unetrpp.write_plan_report`) draws more, and has the reasons.
        """
        from unetrpp.plans.picture import draw_plans  # here, for matplotlib takes half a second

        return draw_plans(self)


def read_plans(path: Path) -> Plans:
    """
    Raises:
        UserError: missing, malformed, or written by a newer release.
    """
    plans = read_edited_json(path, Plans, hint=_hint(path))
    if plans.format > FORMAT:
        raise UserError(f"{path} has format {plans.format}, this release reads up to {FORMAT}; install a newer unetrpp")
    return plans


def _hint(path: Path) -> str:
    """What to do about plans that are missing or malformed; names those that exist beside a missing file."""
    if path.is_file() and b'"plans_name"' in path.read_bytes():
        return (
            "this is nnU-Net's file: unetrpp_import takes its trained models, and unetrpp_plan_and_preprocess makes plans of "
            "our own (as nnU-Net's with --planner unet or --preset resenc-l)"
        )
    others = sorted(p.stem for p in path.parent.glob("[!.]*.json") if p.stem not in NO_PLANS)
    if path.exists() or not others:
        return "run unetrpp_plan_and_preprocess"
    return f"the plans there are called {', '.join(others)} (--plans-name), or make others with unetrpp_plan_and_preprocess"
