"""calibration.json: the temperature of a model's probabilities, fitted on its cross-validation, and how good they are.

``unetrpp_evaluate --model MODEL --calibrate`` writes it. A model without it has a temperature of 1: an imported one, and one that
was never fitted.
"""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal, TypeAlias

import msgspec

from unetrpp.core.digest import Derived, digest, file_digest, read_current
from unetrpp.core.errors import UserError
from unetrpp.core.files import Record, read_json
from unetrpp.core.text import quoted
from unetrpp.dataset.labels import LabelScheme
from unetrpp.inference.expected_dice import FEWEST_CASES, DiceCheck, DiceModel
from unetrpp.inference.options import InferenceOptions
from unetrpp.model.folder import ModelFolder

FILE = "calibration.json"
COUNTS = ("TP", "n_pred", "n_ref")  # of voxels, in the scores of a class
Temperatures: TypeAlias = tuple[float, ...]  # one for a softmax, one for each region

Uncalibrated: TypeAlias = Literal["", "never fitted", "not the final checkpoint", "a fold that was not fitted"]


class Reliability(Record, frozen=True, kw_only=True):
    """How the probabilities of a class compare with how often it is there, over the voxels of the cross-validation.

    The bins have equal width from 0 to 1; an empty one has neither mean nor frequency.
    """

    share: tuple[float, ...]  # of the voxels, by bin
    mean_probability: tuple[float | None, ...]
    frequency: tuple[float | None, ...]
    expected_calibration_error: float
    brier_score: float


class ClassCalibration(Record, frozen=True, kw_only=True):
    """Of one class or region. ``precision`` and ``recall`` are those of ``Calibration.thresholds``, after the temperature."""

    before: Reliability
    after: Reliability
    precision: tuple[float | None, ...]  # None: no voxel reaches the threshold
    recall: tuple[float | None, ...]  # None: no voxel is of the class


class LesionPoints(Record, frozen=True, kw_only=True):
    """Of one class or region: precision and sensitivity (recall) over all lesions of the cross-validation, by threshold."""

    thresholds: tuple[float, ...]
    precision: tuple[float | None, ...]  # None: nothing is predicted
    recall: tuple[float | None, ...]  # None: there is no lesion


class Calibration(Derived, frozen=True, kw_only=True):
    """The content of calibration.json; ``made_from`` is the :func:`calibration_basis`."""

    later_fields = Derived.later_fields | {"lesions"}

    format: int = 1
    temperatures: Temperatures
    folds: tuple[str, ...]
    mirroring: bool
    voxels: int  # of the sample that everything is estimated on
    log_loss_before: float  # mean negative log likelihood over the voxels, in nats
    log_loss_after: float
    thresholds: tuple[float, ...]
    classes: dict[str, ClassCalibration]  # by name, those that are scored
    expected_dice: dict[str, DiceModel]  # by name, those with enough cases
    dice_check: DiceCheck | None  # None: too few cases for it
    lesions: dict[str, LesionPoints] = msgspec.field(
        default_factory=dict
    )  # by name, those that thresholds were asked for


def validated_folds(model: ModelFolder) -> list[str]:
    """The trained folds of the cross-validation that have scores."""
    return [
        fold
        for fold in model.trained()
        if re.fullmatch(r"\d+", fold) and (model.path / f"fold_{fold}" / "validation" / "summary.json").is_file()
    ]


def calibration_basis(model: ModelFolder, folds: Sequence[str]) -> str:
    """Digest of what a calibration of ``folds`` rests on: their weights, and the voxels that are right and wrong in their validation.

    Distances and lesions, which ``unetrpp_evaluate --model --distances`` adds to the scores later, are none of it. A copy without
    the validation has the weights alone.
    """
    paths = {fold: model.path / f"fold_{fold}" / "validation" / "summary.json" for fold in folds}
    return digest(model.digest(folds), {fold: voxel_counts(path) for fold, path in paths.items() if path.is_file()})


class _Case(msgspec.Struct):
    case: str
    metrics: dict[str, dict[str, float | None]]


class _Scores(msgspec.Struct):
    """Of summary.json what a calibration rests on; the record itself is of the evaluation."""

    metric_per_case: list[_Case]


def voxel_counts(path: Path) -> list[object]:
    """By case and class the numbers of voxels in a summary.json, which distances that are measured later do not change; of scores that
    cannot be read, a digest of their bytes."""
    try:
        scores = msgspec.json.decode(path.read_bytes(), type=_Scores)
    except msgspec.DecodeError:
        return [file_digest(path).hex()]
    return [
        [case.case, {key: [values.get(name) for name in COUNTS] for key, values in case.metrics.items()}]
        for case in scores.metric_per_case
    ]


def read_calibration(model: ModelFolder) -> Calibration | None:
    """The calibration of a model; None where it was never fitted.

    Raises:
        UserError: the weights or validation scores have changed since, or the file is malformed.
    """
    path = model.path / FILE
    if not path.is_file():
        return None
    found = current_calibration(model)
    if found is None:
        raise UserError(
            f"{path} was fitted to other weights or validation scores than are there now; "
            f"fit it again (unetrpp_evaluate --model {quoted(model.path)} --calibrate), or delete it for a temperature of 1"
        )
    return found


def current_calibration(model: ModelFolder) -> Calibration | None:
    """The calibration of a model where it rests on the folds, weights and validation scores that are there; else None."""
    path = model.path / FILE
    try:
        folds = read_json(path, Calibration).folds
    except UserError:
        return None
    if not set(validated_folds(model)) <= set(folds) <= set(model.trained()):
        return None
    return read_current(path, Calibration, calibration_basis(model, folds))


def calibration_of_copy(model: ModelFolder, folds: Sequence[str], weights: str) -> Calibration | None:
    """The calibration for a copy of ``folds`` without their validation, whose :meth:`ModelFolder.digest` is ``weights``; None where the
    model has none that is current for all of them."""
    found = current_calibration(model)
    if found is None or not set(folds) <= set(found.folds):
        return None
    return msgspec.structs.replace(found, folds=tuple(folds), made_from=digest(weights, {}))


def temperature_count(scheme: LabelScheme) -> int:
    """One for each region, or one for the softmax."""
    return len(scheme.regions) or 1


def find_calibration(model: ModelFolder) -> Calibration | UserError | None:
    """What :func:`read_calibration` returns or raises."""
    try:
        return read_calibration(model)
    except UserError as error:
        return error


def temperatures_of(
    found: Calibration | UserError | None, scheme: LabelScheme, folds: Sequence[str], checkpoint: str
) -> tuple[Temperatures, Uncalibrated]:
    """The temperatures for the mean of ``folds``; where they are 1 because nothing else was fitted, also why.

    Args:
        found: by :func:`find_calibration`.

    Raises:
        UserError: as :func:`read_calibration`.
    """
    ones = (1.0,) * temperature_count(scheme)
    if found is None:
        return ones, "never fitted"
    if checkpoint != "final":
        return ones, "not the final checkpoint"
    if isinstance(found, UserError):
        raise found
    if not set(folds) <= set(found.folds):
        return ones, "a fold that was not fitted"
    return found.temperatures, ""


def dice_models_of(
    found: Calibration | UserError | None, model: ModelFolder, folds: Sequence[str], options: InferenceOptions
) -> tuple[Mapping[str, DiceModel], str]:
    """How the Dice of each class can be expected of a prediction by ``folds``; where it cannot, why.

    It can where a prediction runs as the validation did that the calibration rests on.
    """
    if found is None:
        how = f" (unetrpp_evaluate --model {quoted(model.path)} --calibrate)" if validated_folds(model) else ""
        return {}, f"the model was not calibrated{how}"
    if isinstance(found, UserError):
        return {}, str(found)
    mirrored = options.mirroring and bool(model.configuration.mirror_axes)
    differing = {
        "the checkpoint": options.checkpoint != "final",
        "the folds": not set(folds) <= set(found.folds),
        "mirroring": mirrored != (found.mirroring and bool(model.configuration.mirror_axes)),
        "the step": options.step != InferenceOptions().step,
        "thresholds": bool(options.threshold),
        "the export order": options.export_order != InferenceOptions().export_order,
    }
    others = [what for what, differs in differing.items() if differs]
    if others:
        return {}, f"it was fitted to the validation, from which this prediction differs by {' and '.join(others)}"
    few = f"the validation has too few cases (it takes {FEWEST_CASES} with a class, of more than two patients)"
    return found.expected_dice, "" if found.expected_dice else few
