"""The scores of a cross-validation as tables of the model report; above 15 classes they become heat maps."""

from collections.abc import Sequence

from unetrpp.core.text import counted, format_score
from unetrpp.evaluation.cross_validation import CrossValidation, fold_mean_cells, fold_rows
from unetrpp.evaluation.metrics import Scores
from unetrpp.evaluation.summary import TABLE_METRICS, CaseScores, Summary, as_rows
from unetrpp.plotting.colors import shade
from unetrpp.report.page import Rows, Shaded

MOST_CLASSES = 15  # in a table without colours, and with one column per class
MOST_NAMED = 6  # classes named in a sentence


def fold_scores(result: CrossValidation) -> Rows | Shaded:
    """Dice by fold and class: one row per fold, or, above 15 classes, one row per class with the values as colours."""
    classes = result.summary.classes
    if len(classes) <= MOST_CLASSES:
        return fold_rows(result)
    values = [[fold.mean[key].get("Dice") for fold in result.folds] for key in classes]
    mean = [*(fold.foreground_mean.get("Dice") for fold in result.folds), result.mean_over_folds.get("Dice")]
    scores = [mean, *([*row, _mean(row)] for row in values)]
    rows = [["class", *(f"fold {fold.fold}\n{counted(fold.cases, 'case')}" for fold in result.folds), "mean"]]
    rows += [["mean", *fold_mean_cells(result)]]
    rows += [[name, *map(format_score, row)] for name, row in zip(classes.values(), scores[1:], strict=True)]
    return Shaded(rows, [["", *(shade(value, 0, 1) for value in row)] for row in scores])


def class_scores(summary: Summary) -> Rows | Shaded:
    """Every metric by class, and the means; above 15 classes with colours, the means first."""
    header, *rows, mean = as_rows(summary)
    if len(summary.classes) <= MOST_CLASSES:
        return [header, *rows, mean]
    shades = [
        _shades([summary.foreground_mean[m], *(scores[m] for scores in summary.mean.values())], m)
        for m in TABLE_METRICS
        if m in summary.foreground_mean
    ]
    return Shaded([header, mean, *rows], [["", *row, *[""] * 5] for row in zip(*shades, strict=True)])


def _shades(values: Sequence[float | None], metric: str) -> list[str]:
    if metric.startswith("HD95"):  # lower is better, from 0 on
        return [shade(value, max((v for v in values if v is not None), default=1), 0) for value in values]
    return [shade(value, 0, 1) for value in values]


def mean_dice(case: CaseScores) -> float | None:
    """Mean Dice of a case over the classes where it is defined."""
    return _mean([scores["Dice"] for scores in case.metrics.values()])


def _mean(values: Sequence[float | None]) -> float | None:
    defined = [value for value in values if value is not None]
    return sum(defined) / len(defined) if defined else None


def ranked_cases(summary: Summary) -> list[CaseScores]:
    """The cases from the lowest to the highest mean Dice; last those in which no class has one."""
    return sorted(summary.metric_per_case, key=lambda case: (*_rank(mean_dice(case)), case.case))


def _rank(dice: float | None) -> tuple[bool, float]:
    return dice is None, dice or 0.0


def lowest_class(summary: Summary, case: CaseScores) -> tuple[str, float] | None:
    """Name and Dice of the class with the lowest Dice in a case; None where no class has one."""
    dice = {key: case.metrics[key]["Dice"] for key in summary.classes}
    defined = {key: value for key, value in dice.items() if value is not None}
    lowest = _lowest(dice)
    return (summary.classes[lowest[0]], defined[lowest[0]]) if lowest else None


def _lowest(dice: dict[str, float | None]) -> list[str]:
    """The keys of the classes with a Dice, from the lowest on."""
    defined = {key: value for key, value in dice.items() if value is not None}
    return sorted(defined, key=lambda key: defined[key])


def dice_sentence(summary: Summary, metrics: dict[str, Scores]) -> str:
    """The Dice of one case: of every class, or above six their mean and the lowest three."""
    dice = {key: metrics[key]["Dice"] for key in summary.classes}
    if len(dice) <= MOST_NAMED:
        return "Dice: " + ", ".join(f"{summary.classes[key]} {format_score(value)}" for key, value in dice.items())
    ordered = _lowest(dice)
    if not ordered:
        return "Neither the reference nor the prediction of this case has any class."
    lowest = ", ".join(f"{summary.classes[key]} {format_score(dice[key])}" for key in ordered[:3])
    return f"Mean Dice {format_score(_mean(list(dice.values())))} over {len(ordered)} classes; the lowest: {lowest}."


def dice_rows(summary: Summary, metrics: dict[str, Scores]) -> Rows:
    """Class and Dice of one case, from the lowest on; nothing where the sentence has them all."""
    if len(summary.classes) <= MOST_NAMED:
        return []
    dice = {key: metrics[key]["Dice"] for key in summary.classes}
    absent = [key for key in dice if dice[key] is None]
    return [["class", "Dice"], *([summary.classes[key], format_score(dice[key])] for key in [*_lowest(dice), *absent])]
