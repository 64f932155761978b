"""The scores of a cross-validation as tables of the model report; above 15 classes they become heat maps."""

from collections.abc import Sequence

from unetrpp.core.text import format_score
from unetrpp.evaluation.cross_validation import CrossValidation, fold_rows
from unetrpp.evaluation.metrics import Scores
from unetrpp.evaluation.summary import TABLE_METRICS, CaseScores, Summary
from unetrpp.report.colors import shade
from unetrpp.report.page import Rows, Shaded

MOST_CLASSES = 15  # in a table without colours, and with one column per class
MOST_COLUMNS = 5  # classes with a column of their own in the table of cases
MOST_NAMED = 6  # classes named in a sentence
ENDS, MIDDLE = 5, 3  # cases in the table of cases: the lowest and the highest, and those in the middle

IN_MM = ("HD95", "HD95_pooled", "HD95_or_diagonal")  # lower is better, from 0 on
VOXEL_METRICS = ("HD95_published",)


def fold_scores(result: CrossValidation) -> Rows | Shaded:
    """Dice by fold and class: one row per fold, or, above 15 classes, one row per class with the values as colours."""
    classes = result.summary.classes
    if len(classes) <= MOST_CLASSES:
        return fold_rows(result)
    values = [[fold.mean[key].get("Dice") for fold in result.folds] for key in classes]
    mean = [*(fold.foreground_mean.get("Dice") for fold in result.folds), result.mean_over_folds.get("Dice")]
    scores = [mean, *([*row, _mean(row)] for row in values)]
    rows = [["class", *(f"fold {fold.fold}\n{_cases(fold.cases)}" for fold in result.folds), "mean"]]
    rows += [[name, *map(format_score, row)] for name, row in zip(["mean", *classes.values()], scores, strict=True)]
    return Shaded(rows, [["", *(shade(value, 0, 1) for value in row)] for row in scores])


def class_scores(summary: Summary, *, unit: str = "mm") -> Rows | Shaded:
    """Every metric by class, with its unit, and their means; a mean over fewer values than there are says over how many.

    Args:
        unit: of distances: mm, or pixels for photographs.
    """
    metrics = [m for m in TABLE_METRICS if m in summary.foreground_mean]
    header = ["class", *(_head(metric, unit) for metric in metrics), "95 % interval of Dice"]
    rows = [[*header, "cases", "undefined", "missed", "invented"]]
    for key, name in summary.classes.items():
        counts = summary.counts[key]
        cells = [_mean_cell(summary, key, metric) for metric in metrics]
        numbers = [counts.cases, counts.undefined, counts.missed, counts.invented]
        rows.append([name, *cells, _interval(summary, key), *map(str, numbers)])
    means = [_class_mean_cell(summary, metric) for metric in metrics]
    mean = ["mean", *means, _interval(summary, "foreground"), "", "", "", ""]
    if len(summary.classes) <= MOST_CLASSES:
        return [*rows, mean]
    shades = [
        _shades([summary.foreground_mean[m], *(scores[m] for scores in summary.mean.values())], m) for m in metrics
    ]
    return Shaded([rows[0], mean, *rows[1:]], [["", *row, *[""] * 5] for row in zip(*shades, strict=True)])


def _head(metric: str, unit: str) -> str:
    if metric in VOXEL_METRICS:
        return f"{metric} voxels"
    return f"{metric} {unit}" if metric in IN_MM else metric


def _mean_cell(summary: Summary, key: str, metric: str) -> str:
    defined = sum(case.metrics[key].get(metric) is not None for case in summary.metric_per_case)
    expected = summary.counts[key].cases - summary.counts[key].undefined
    text = format_score(summary.mean[key][metric])
    return text if defined in (0, expected) else f"{text} ({defined} of {expected})"


def _class_mean_cell(summary: Summary, metric: str) -> str:
    defined = sum(scores[metric] is not None for scores in summary.mean.values())
    text = format_score(summary.foreground_mean[metric])
    return text if defined in (0, len(summary.mean)) else f"{text} ({defined} of {len(summary.mean)} classes)"


def _shades(values: Sequence[float | None], metric: str) -> list[str]:
    if metric in (*IN_MM, *VOXEL_METRICS):
        return [shade(value, max((v for v in values if v is not None), default=1), 0) for value in values]
    return [shade(value, 0, 1) for value in values]


def _interval(summary: Summary, key: str) -> str:
    interval = summary.intervals.get(key, {}).get("Dice")
    return "-" if interval is None else f"{interval[0]:.3f} to {interval[1]:.3f}"


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


def case_rows(summary: Summary, cases: Sequence[CaseScores]) -> Rows:
    """A header and one row per case: its Dice of every class, or above five classes its mean and its lowest class."""
    few = len(summary.classes) <= MOST_COLUMNS
    names = [f"Dice {name}" for name in summary.classes.values()] if few else ["lowest class", "Dice of this class"]
    means = ["mean Dice"] if len(summary.classes) > 1 else []
    rows = [["case", "fold", *means, *names]]
    for case in cases:
        dice = {key: case.metrics[key]["Dice"] for key in summary.classes}
        cells = list(map(format_score, dice.values())) if few else _lowest_cells(summary, dice)
        rows.append([case.case, str(case.fold), *([format_score(mean_dice(case))] if means else []), *cells])
    return rows


def _lowest_cells(summary: Summary, dice: dict[str, float | None]) -> list[str]:
    lowest = _lowest(dice)
    return [summary.classes[lowest[0]], format_score(dice[lowest[0]])] if lowest else ["-", "-"]


def _lowest(dice: dict[str, float | None]) -> list[str]:
    """The keys of the classes with a Dice, from the lowest on."""
    defined = {key: value for key, value in dice.items() if value is not None}
    return sorted(defined, key=lambda key: defined[key])


def typical_rows(summary: Summary) -> list[CaseScores]:
    """The five lowest cases, three in the middle and the five highest; all where there are no more than fifteen."""
    ranked = ranked_cases(summary)
    if len(ranked) <= 2 * ENDS + MIDDLE + 2:
        return ranked
    middle = (len(ranked) - MIDDLE) // 2
    return ranked[:ENDS] + ranked[middle : middle + MIDDLE] + ranked[-ENDS:]


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


def _cases(count: int) -> str:
    return f"{count} case{'s' if count != 1 else ''}"
