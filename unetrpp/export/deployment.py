"""model.json: everything besides the networks that a program without unetrpp needs to predict as unetrpp does."""

from collections.abc import Sequence
from typing import ClassVar, Literal

import msgspec

from unetrpp import __version__
from unetrpp.core.files import Record
from unetrpp.dataset.labels import label_table, output_table
from unetrpp.inference.tiles import SIGMA
from unetrpp.model.folder import Checkpoint, ModelFolder
from unetrpp.plans.plans import Configuration, Normalization, Preprocessing
from unetrpp.preprocessing.normalize import SMALLEST_STD
from unetrpp.preprocessing.resample import CUBIC, LINEAR, NEAREST

FILE = "model.json"
INPUT, OUTPUT = "image", "logits"
STEP = 0.5  # the default of unetrpp_predict
FIRST_STAGE = "first_stage"  # folder of a cascade's first stage, an export of its own

STEPS = (
    "read the channels as one array (C, Z, Y, X) in the given order",
    "transpose and flip its axes so that z, y and x run to the patient's head, back and left (LPS)",
    "transpose by `transpose`; from here on axes are counted in that order",
    "crop to the box outside which every channel holds its background: the value all eight corners share, else one that fills an outer "
    "plane (0 before others), else 0",
    "normalise every channel by its numbers, or by those of the cropped image",
    "resample to round(n * spacing / spacing_mm) voxels with cubic splines and clip to the range before; with zero_outside_mask, set "
    "masked channels to 0 where the mask's linear interpolation is one half or less",
    "pad with 0 on both sides to at least one patch, and cut tiles",
    "average the logits over mirrored passes and over tiles with Gaussian weights",
    "softmax or sigmoid, then the mean over the networks",
    "resample the probabilities linearly back to the cropped grid",
    "the largest class, or the last region above the threshold; its value; 0 outside the crop",
    "undo the transposes and flips",
)

REPLACED = {  # by number of the step: what differs in a model with the rules of nnU-Net
    1: "leave the axes as they are in the file (orientation file), or turn them so that z, y and x run to the patient's head, front and "
    "right (RAS)",
    3: "crop to the box outside which every channel is 0",
    5: "resample to round(spacing / spacing_mm * n) voxels with cubic splines and clip to the range before",
    7: "average the logits over mirrored passes and over tiles; a weight is 10 times the Gaussian with its peak on voxel patch // 2 in "
    "float16, the smallest such number instead of 0; the sums of weighted logits and of weights are rounded to float16 after every tile",
    8: "the mean of the logits over the networks; their sum and the mean are rounded to float16",
    9: "resample them linearly back to the cropped grid, rounded to float16; for the separate axis spacing_mm counts before the "
    "image's spacing",
    10: "softmax or sigmoid; the largest class, or the last region above the threshold; its value; 0 outside the crop",
}
FIRST_STAGE_STEP = (
    "predict the image with the export in `first_stage`; crop its labels and resample them to the same voxels: the class with the "
    "largest linearly interpolated share, of equal ones the lower; append a channel for each of `values`, 1 where it is the label, else 0"
)
NNUNET_FIRST_STAGE_STEP = (
    "predict the image with the export in `first_stage`; crop its labels and resample them to the same voxels: the class whose "
    "linearly interpolated share is one half or more, of two the later in `values`; append a channel for each of `values`, 1 where it is "
    "the label, else 0"
)
RESAMPLED = 6  # steps until an image is on the network's grid


class ExportedNetwork(Record, frozen=True, kw_only=True):
    """One fold. ``largest_difference`` is that of its logits from PyTorch's on random numbers, measured at export."""

    fold: str
    file: str
    sha256: str
    largest_difference: float


class Channel(Record, frozen=True, kw_only=True):
    """How one channel is scaled.

    ct: clip, then (v - mean) / std with the given numbers. zscore: the image's own mean and std; where ``masked``, those
    of the voxels that are not background, holes filled, and 0 elsewhere. rescale_0_1: the image's own range. rgb_to_0_1:
    v / 255. A std is at least ``smallest_std``.
    """

    name: str
    scheme: Literal["ct", "zscore", "none", "rescale_0_1", "rgb_to_0_1"]
    masked: bool = False
    clip: tuple[float, float] | None = None
    mean: float | None = None
    std: float | None = None


class Resampling(Record, frozen=True, kw_only=True):
    """Spline orders of images and probabilities, voxel centres at half-integers, edges repeated.

    Along an axis that is more than ``separate_axis_ratio`` times as coarse as the finest, both take the nearest voxel, and
    each slice along it is clipped to the range of its source. The axis is the image's, else the target grid's.
    """

    spacing_mm: tuple[float | None, float | None, float | None]  # null keeps the image's own
    separate_axis_ratio: float
    image_order: int = CUBIC
    probability_order: int = LINEAR
    separate_axis_order: int = NEAREST


class Tiles(Record, frozen=True, kw_only=True):
    """Along n voxels, ceil((n - patch) / (step * patch)) + 1 tiles are evenly spaced, first voxels rounded half to even.

    A patch of two axes is cut from every slice along the first axis. ``sigma`` is given in patch lengths.
    """

    patch: tuple[int, ...]
    step: float = STEP
    sigma: float = SIGMA


class Mirroring(Record, frozen=True, kw_only=True):
    """Every subset of ``axes`` (of the patch) is mirrored before the network and back after it.

    Where the subset holds ``swap_axis`` (in the file: exchange_axis), channel k of the logits is taken from channel
    ``exchanged_outputs[k]``, and in a cascade channel k of the input from ``exchanged_inputs[k]``.
    """

    later_fields: ClassVar[frozenset[str]] = frozenset({"exchanged_inputs"})
    axes: tuple[int, ...]
    swap_axis: int | None = msgspec.field(default=None, name="exchange_axis")
    exchanged_outputs: tuple[int, ...] = ()
    exchanged_inputs: tuple[int, ...] = ()


class FirstStage(Record, frozen=True, kw_only=True):
    """Of a cascade's second stage: the export whose labels are further channels of its input, one for each of ``values``."""

    folder: str = FIRST_STAGE
    hash: str  # as that in its model.json
    values: tuple[int, ...]


class Output(Record, frozen=True, kw_only=True):
    """A channel of the logits: a class, or a region that may overlap others; ``value`` is its label in the output."""

    name: str
    value: int


class Deployment(Record, frozen=True, kw_only=True):
    """model.json. Per-axis values are in plan order: (z, y, x) in ``orientation``, transposed by ``transpose``.

    ``rules`` and ``averaging`` are those of the plans; ``steps`` say what they mean.
    """

    later_fields: ClassVar[frozenset[str]] = frozenset({"rules", "averaging", "zero_outside_mask", "first_stage"})
    format: int = 1
    version: str  # of unetrpp
    dataset: str
    model: str
    hash: str  # of plans and checkpoints, the same as in predictions.json
    networks: tuple[ExportedNetwork, ...]
    input: str = INPUT  # float32 (batch, channels, *patch)
    output: str = OUTPUT  # float32 (batch, outputs, *patch)
    steps: tuple[str, ...] = STEPS
    channels: tuple[Channel, ...]
    smallest_std: float = SMALLEST_STD
    zero_outside_mask: bool = False
    rules: Literal["unetrpp", "nnunet"] = "unetrpp"
    averaging: Literal["probabilities", "logits"] = "probabilities"
    orientation: Literal["LPS", "RAS", "file"] = "LPS"
    transpose: tuple[int, int, int]
    resampling: Resampling
    tiles: Tiles
    mirroring: Mirroring
    activation: Literal["softmax", "sigmoid"]
    threshold: float | None  # of regions
    outputs: tuple[Output, ...]
    first_stage: FirstStage | None = None  # of a cascade


def describe(
    model: ModelFolder, folds: Sequence[str], checkpoint: Checkpoint, networks: Sequence[ExportedNetwork]
) -> Deployment:
    """The record of these ``networks`` of ``model``."""
    configuration = model.configuration
    preprocessing, scheme = configuration.preprocessing, configuration.preprocessing.labels
    return Deployment(
        version=__version__,
        dataset=model.dataset,
        model=f"{model.plans.name}__{model.configuration_name}",
        hash=model.digest(folds, checkpoint),
        networks=tuple(networks),
        steps=_steps(configuration),
        rules=preprocessing.rules,
        zero_outside_mask=preprocessing.zero_outside_mask,
        averaging=configuration.averaging,
        channels=tuple(_channel(normalization) for normalization in preprocessing.normalization),
        orientation=preprocessing.orientation,
        transpose=preprocessing.transpose,
        resampling=Resampling(
            spacing_mm=preprocessing.spacing_mm, separate_axis_ratio=preprocessing.separate_axis_ratio
        ),
        tiles=Tiles(patch=configuration.patch),
        mirroring=_mirroring(configuration),
        activation="sigmoid" if scheme.overlapping else "softmax",
        threshold=0.5 if scheme.overlapping else None,
        outputs=_outputs(preprocessing),
        first_stage=_first_stage(model, folds),
    )


def _steps(configuration: Configuration) -> tuple[str, ...]:
    nnunet = configuration.preprocessing.rules == "nnunet"
    steps = [REPLACED.get(number, step) if nnunet else step for number, step in enumerate(STEPS)]
    if configuration.first_stage is not None:
        steps.insert(RESAMPLED, NNUNET_FIRST_STAGE_STEP if nnunet else FIRST_STAGE_STEP)
    return tuple(steps)


def _first_stage(model: ModelFolder, folds: Sequence[str]) -> FirstStage | None:
    first, scheme = model.first_stage, model.configuration.preprocessing.labels
    if first is None:
        return None
    values = tuple(scheme.values[index] for index in scheme.foreground)
    return FirstStage(hash=first.digest(first.source_folds(folds)), values=values)


def _channel(plan: Normalization) -> Channel:
    if plan.scheme != "ct":
        return Channel(name=plan.channel, scheme=plan.scheme, masked=plan.masked)
    statistics = plan.statistics
    return Channel(
        name=plan.channel,
        scheme="ct",
        clip=(statistics.percentile_00_5, statistics.percentile_99_5),
        mean=statistics.mean,
        std=statistics.std,
    )


def _mirroring(configuration: Configuration) -> Mirroring:
    if configuration.swap_axis is None:
        return Mirroring(axes=configuration.mirror_axes)
    scheme = configuration.preprocessing.labels
    labels, channels = label_table(scheme, configuration.swapped_labels), len(configuration.preprocessing.normalization)
    first_stage = [channels + labels[index] - 1 for index in scheme.foreground]
    return Mirroring(
        axes=configuration.mirror_axes,
        swap_axis=configuration.swap_axis,
        exchanged_outputs=output_table(scheme, labels),
        exchanged_inputs=(*range(channels), *first_stage) if configuration.first_stage else (),
    )


def _outputs(preprocessing: Preprocessing) -> tuple[Output, ...]:
    return tuple(Output(name=channel.name, value=channel.value) for channel in preprocessing.labels.output_channels)
