"""calibration.json: the temperature of a model's probabilities, fitted on its cross-validation, and how good they are.

``unetrpp_evaluate --model MODEL --calibrate`` writes it. A model without it has a temperature of 1: an imported one, and one that
was never fitted.
"""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, TypeAlias

import msgspec

from unetrpp.core.digest import Derived, digest, file_digest, read_current
from unetrpp.core.errors import UserError
from unetrpp.core.files import Record
from unetrpp.dataset.labels import LabelScheme
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


class Calibration(Derived, frozen=True, kw_only=True):
    """The content of calibration.json; ``made_from`` is the :func:`calibration_basis`."""

    format: int = 1
    temperatures: Temperatures
    folds: tuple[str, ...]
    mirroring: bool
    voxels: int  # of the sample that everything is estimated on
    log_loss_before: float  # mean negative log likelihood over the voxels, in nats
    log_loss_after: float
    thresholds: tuple[float, ...]
    classes: dict[str, ClassCalibration]  # by name, those that are scored


def validated_folds(model: ModelFolder) -> list[str]:
    """The trained folds of the cross-validation that have scores."""
    return [
        fold
        for fold in model.trained()
        if re.fullmatch(r"\d+", fold) and (model.path / f"fold_{fold}" / "validation" / "summary.json").is_file()
    ]


def calibration_basis(model: ModelFolder) -> str:
    """Digest of what a calibration rests on: the weights, and the validation's voxels that are right and wrong, of all validated folds.

    Distances and lesions, which ``unetrpp_evaluate --model --distances`` adds to the scores later, are none of it.
    """
    folds = validated_folds(model)
    found = {fold: _counted(model.path / f"fold_{fold}" / "validation" / "summary.json") for fold in folds}
    return digest(model.digest(folds), found)


class _Case(msgspec.Struct):
    case: str
    metrics: dict[str, dict[str, float | None]]


class _Scores(msgspec.Struct):
    """Of summary.json what a calibration rests on; the record itself is of the evaluation."""

    metric_per_case: list[_Case]


def _counted(path: Path) -> list[object]:
    """By case and class the numbers of voxels in the scores; of scores that cannot be read, their bytes."""
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
    found = read_current(path, Calibration, calibration_basis(model))
    if found is None:
        raise UserError(
            f"{path} was fitted to other weights or validation scores than are there now; "
            f"fit it again (unetrpp_evaluate --model {model.path} --calibrate), or delete it for a temperature of 1"
        )
    return found


def temperature_count(scheme: LabelScheme) -> int:
    """One for each region, or one for the softmax."""
    return len(scheme.regions) or 1


def temperatures_of(model: ModelFolder, folds: Sequence[str], checkpoint: str) -> tuple[Temperatures, Uncalibrated]:
    """The temperatures for the mean of ``folds``; where they are 1 because nothing else was fitted, also why.

    Raises:
        UserError: as :func:`read_calibration`.
    """
    ones = (1.0,) * temperature_count(model.plans.labels)
    if not (model.path / FILE).is_file():
        return ones, "never fitted"
    if checkpoint != "final":
        return ones, "not the final checkpoint"
    found = read_calibration(model)
    if found is None or not set(folds) <= set(found.folds):
        return ones, "a fold that was not fitted"
    return found.temperatures, ""
