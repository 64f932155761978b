"""What the panel does besides drawing: opening a model, predicting, and what to say about the result."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from unetrpp.core.text import three_digits
from unetrpp.export.model_zip import import_model
from unetrpp.inference.guards import check_input, check_sizes, class_voxels, volumes_ml
from unetrpp.inference.notices import lines_of
from unetrpp.inference.predictor import Predictor
from unetrpp.inference.segmentation import Segmentation
from unetrpp.inference.sliding_window import OnProgress
from unetrpp.io.images import Volume
from unetrpp.model.folder import ModelFolder


@dataclass(frozen=True)
class Result:
    """A segmentation and the lines to show about it."""

    segmentation: Segmentation
    lines: tuple[str, ...]


def open_model(path: Path, unpack_into: Path) -> ModelFolder:
    """A model folder, given as such or by its plans.json, or a zip of unetrpp_export, which is unpacked.

    Raises:
        UserError: it is none of them, or damaged.
    """
    if path.suffix.lower() == ".zip":
        return ModelFolder.open(import_model(path, workspace=unpack_into, overwrite=True))
    return ModelFolder.open(path.parent if path.name == "plans.json" else path)


def segment(predictor: Predictor, volume: Volume, case: str, *, uncertainty: bool, on_progress: OnProgress) -> Result:
    """Segment an image, and say how it and the result compare with the training cases.

    Args:
        case: what messages call the image.
        on_progress: as :meth:`Predictor.__call__` takes it.

    Raises:
        UserError: the image does not fit the model.
    """
    segmentation = predictor(volume, case, uncertainty=uncertainty, on_progress=on_progress)
    return Result(segmentation, about(predictor, volume, segmentation))


def about(predictor: Predictor, volume: Volume, segmentation: Segmentation) -> tuple[str, ...]:
    """A line for the size of each class and for its expected Dice, and one for each warning."""
    sizes, expected = _sizes(predictor, segmentation), _expected(predictor, segmentation)
    return (*sizes, *expected, *_warnings(predictor, volume, segmentation))


def _sizes(predictor: Predictor, segmentation: Segmentation) -> Iterator[str]:
    voxels = class_voxels(segmentation.array, predictor.model.plans.labels)
    volumes = volumes_ml(voxels, segmentation.geometry)
    for name, count in voxels.items():
        yield f"{name}: {three_digits(volumes[name])} ml" if volumes else f"{name}: {count} pixels"


def _expected(predictor: Predictor, segmentation: Segmentation) -> Iterator[str]:
    if segmentation.expected_dice is None:
        yield f"no expected Dice: {predictor.why_no_expected_dice}"
        return
    for name, dice in segmentation.expected_dice.items():
        known = "unknown" if dice is None else f"{dice.expected:.2f} ({dice.low:.2f} to {dice.high:.2f})"
        yield f"{name}: expected Dice {known}"


def _warnings(predictor: Predictor, volume: Volume, segmentation: Segmentation) -> Iterator[str]:
    model = predictor.model
    labels, geometry = model.plans.labels, segmentation.geometry
    channels = model.plans.channel_names if model.description.check_modality else ()
    notices = check_input(volume, channels, model.fingerprint, model.configuration.preprocessing.orientation)
    notices += check_sizes(class_voxels(segmentation.array, labels), geometry, labels, model.fingerprint)
    for line in lines_of(notices, len(labels.foreground)):
        yield f"warning: {line}"
