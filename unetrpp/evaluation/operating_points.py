"""Thresholds for a wanted recall or precision of a class, over voxels or lesions, chosen on the cross-validation."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec

from unetrpp.core.errors import UserError
from unetrpp.core.text import format_score, listed, quoted, text_table
from unetrpp.dataset.labels import LabelScheme
from unetrpp.evaluation.lesion_points import count_lesions_of_folds
from unetrpp.inference.calibration import FILE, Calibration, ClassCalibration, read_calibration
from unetrpp.model.folder import ModelFolder


class OperatingPoint(msgspec.Struct, frozen=True):
    """A class is predicted where its calibrated probability is at least ``threshold``; over all voxels, or lesions, of the
    cross-validation."""

    threshold: float
    precision: float
    recall: float

    @property
    def dice(self) -> float:
        """Of all voxels of all cases together, not the mean over cases; of lesions it is their F1.

        >>> OperatingPoint(0.5, 0.5, 1.0).dice
        0.6666666666666666
        """
        both = self.precision + self.recall
        return 2 * self.precision * self.recall / both if both else 0.0


def choose_thresholds(
    model: Path | str,
    *,
    recall: Mapping[str, float] | None = None,
    precision: Mapping[str, float] | None = None,
    lesions: bool = False,
    device: str = "auto",
) -> dict[str, OperatingPoint]:
    """By class: the threshold for a wanted recall or precision, as ``unetrpp_evaluate --model --recall`` prints it.

    For a recall it is the highest threshold that has it, so the one with the fewest false voxels; for a precision the lowest.

    Args:
        model: a calibrated model folder.
        recall: class or region -> the share of its voxels that are to be found.
        precision: class or region -> the share of the predicted voxels that are to be right.
        lesions: count connected components in place of voxels, as lesion_sensitivity and lesion_precision do. The validation cases
            are predicted again, and what was counted is kept in calibration.json.
        device: where they are predicted: auto, cpu, cuda, cuda:1 or mps.

    Raises:
        UserError: the model is not calibrated, there is no such class, no threshold reaches what is wanted, or both a recall
            and a precision of a class are given.
    """
    opened = ModelFolder.open(Path(model))
    require_classes(opened.plans.labels, recall or {}, precision or {})
    found = read_calibration(opened)
    if found is None:
        raise UserError(f"{opened.path} has no {FILE}; add --calibrate, which writes it")
    if lesions:
        counted = count_lesions_of_folds(opened, found, [*(recall or {}), *(precision or {})], device=device)
        points = {name: _defined(each.thresholds, each.precision, each.recall) for name, each in counted.items()}
    else:
        points = {name: operating_points(found, scored) for name, scored in found.classes.items()}
    recalls = {name: _for_recall(points[name], name, wanted) for name, wanted in (recall or {}).items()}
    return recalls | {name: _for_precision(points[name], name, wanted) for name, wanted in (precision or {}).items()}


def require_classes(scheme: LabelScheme, recall: Mapping[str, float], precision: Mapping[str, float]) -> None:
    """
    Raises:
        UserError: there is no such class or region, or both a recall and a precision of one are given.
    """
    names = [target.name for target in scheme.targets]
    if unknown := next((name for name in (*recall, *precision) if name not in names), None):
        raise UserError(f"there is no class {unknown!r}; the model has {listed(names, 20)}")
    if both := sorted(set(recall) & set(precision)):
        raise UserError(f"{both[0]!r} is given a recall and a precision, but has one threshold; leave one of them out")


def _for_recall(points: list[OperatingPoint], name: str, wanted: float) -> OperatingPoint:
    fit = [point for point in points if point.recall >= wanted]
    if not fit:
        raise _unreached("recall", name, wanted, max((point.recall for point in points), default=None))
    return fit[-1]


def _for_precision(points: list[OperatingPoint], name: str, wanted: float) -> OperatingPoint:
    fit = [point for point in points if point.precision >= wanted]
    if not fit:
        raise _unreached("precision", name, wanted, max((point.precision for point in points), default=None))
    return fit[0]


def _unreached(what: str, name: str, wanted: float, best: float | None) -> UserError:
    return UserError(
        f"no threshold gives {name!r} a {what} of {wanted:g} on the cross-validation; the highest is "
        f"{format_score(best)}, so ask for less"
    )


def operating_points(found: Calibration, scored: ClassCalibration) -> list[OperatingPoint]:
    """Those of all thresholds at which precision and recall are defined, in ascending order."""
    return _defined(found.thresholds, scored.precision, scored.recall)


def _defined(
    thresholds: Sequence[float], precision: Sequence[float | None], recall: Sequence[float | None]
) -> list[OperatingPoint]:
    rows = zip(thresholds, precision, recall, strict=True)
    return [OperatingPoint(t, p, r) for t, p, r in rows if p is not None and r is not None]


def best_dice(found: Calibration, scored: ClassCalibration) -> OperatingPoint | None:
    """The threshold of the highest Dice over all voxels; None where the class is nowhere."""
    return max(operating_points(found, scored), key=lambda point: point.dice, default=None)


def points_table(points: Mapping[str, OperatingPoint], *, lesions: bool = False) -> str:
    """One line per class, and the option that predicts so."""
    rows = [["class", "threshold", "precision", "recall", "F1 of all lesions" if lesions else "Dice of all voxels"]]
    rows += [[name, *point_cells(point)] for name, point in points.items()]
    option = " ".join(quoted(f"{name}={point.threshold:g}") for name, point in points.items())
    return f"{text_table(rows)}\nunetrpp_predict ... --threshold {option}"


def point_cells(point: OperatingPoint | None) -> list[str]:
    """Threshold, precision, recall and Dice."""
    if point is None:
        return ["-"] * 4
    return [f"{point.threshold:.2f}", *map(format_score, (point.precision, point.recall, point.dice))]
