"""The calibration of a model as a table: for the terminal and for the report. Imports no torch."""

from unetrpp.core.text import text_table
from unetrpp.evaluation.operating_points import best_dice, point_cells
from unetrpp.inference.calibration import Calibration
from unetrpp.inference.expected_dice import FEWEST_CASES, DiceCheck
from unetrpp.model.folds import spell_folds


def calibration_rows(found: Calibration) -> list[list[str]]:
    """A header, and one row per class: errors before and after the temperature, and the threshold of the best Dice."""
    rows = [
        [
            "class",
            "temperature",
            "ECE before",
            "after",
            "Brier before",
            "after",
            "threshold of best Dice",
            "precision",
            "recall",
            "Dice of all voxels",
        ]
    ]
    temperatures = found.temperatures if len(found.temperatures) > 1 else found.temperatures * len(found.classes)
    for (name, scored), temperature in zip(found.classes.items(), temperatures, strict=True):
        errors = [f"{part.expected_calibration_error:.4f}" for part in (scored.before, scored.after)]
        brier = [f"{part.brier_score:.4f}" for part in (scored.before, scored.after)]
        rows.append([name, f"{temperature:.3f}", *errors, *brier, *point_cells(best_dice(found, scored))])
    return rows


def expected_dice_rows(check: DiceCheck) -> list[list[str]]:
    """A header, and one row per class: intervals of cases that nothing was fitted to, and those made without features."""
    header = [
        "class",
        "cases",
        "Dice in its interval",
        "mean width",
        "without features",
        "mean width",
        "mean error of expected Dice",
    ]
    rows = [
        [
            name,
            str(found.cases),
            f"{found.coverage:.0%}",
            f"{found.width:.3f}",
            f"{found.constant_coverage:.0%}",
            f"{found.constant_width:.3f}",
            f"{found.error:.3f}",
        ]
        for name, found in check.classes.items()
    ]
    return [header, *rows]


def expected_dice_table(found: Calibration) -> str:
    """How good the expected Dice was on the cross-validation, or why there is none."""
    if found.dice_check is None:
        return f"no expected Dice: that takes {FEWEST_CASES} validated cases with a class, of more than two patients"
    worst = found.dice_check.worst_found
    share = (
        ""
        if worst is None
        else f"\nof the worst tenth of the cases, {worst:.0%} are in the first fifth of the review order"
    )
    return f"expected Dice, of cases left out of its fit:\n{text_table(expected_dice_rows(found.dice_check))}{share}"


def calibration_table(found: Calibration) -> str:
    """The rows, and what they were measured on."""
    folds = f"{'fold' if len(found.folds) == 1 else 'folds'} {spell_folds(found.folds)}"
    told = (
        f"temperature fitted on {found.voxels:,} sampled voxels of {folds}: log loss "
        f"{found.log_loss_before:.4f} before and {found.log_loss_after:.4f} after it, on the same voxels"
    )
    return f"calibration:\n{text_table(calibration_rows(found))}\n{told}\n\n{expected_dice_table(found)}"
