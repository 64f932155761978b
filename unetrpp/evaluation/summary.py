"""The scores of many cases: a record in the shape of nnU-Net's summary.json, as CSV, and as a table."""

import csv
import io
from collections.abc import Iterable, Sequence
from pathlib import Path

import msgspec

from unetrpp.core.digest import Derived
from unetrpp.core.errors import UserError
from unetrpp.core.files import Record, read_json, write_bytes, write_json
from unetrpp.core.text import format_score, text_table
from unetrpp.dataset.labels import LabelScheme
from unetrpp.evaluation.metrics import ScoredClass, Scores, scored_classes
from unetrpp.evaluation.statistics import Interval, intervals

TABLE_METRICS = ("Dice", "Dice_published", "IoU", "HD95", "HD95_published", "NSD", "lesion_F1")


class CaseScores(Record, frozen=True, kw_only=True):
    """Scores of one case by class key; ``fold`` is its validation fold in a cross-validation."""

    case: str
    fold: int | None = None
    prediction_file: str
    reference_file: str
    metrics: dict[str, Scores]


class Counts(Record, frozen=True, kw_only=True):
    """Cases in which a class was scored, and those of them where a mask is empty."""

    cases: int
    undefined: int  # the class is in neither mask: left out of the means
    missed: int  # in the reference only
    invented: int  # in the prediction only


class Summary(Derived, frozen=True, kw_only=True):
    """Means are over the cases where a metric is defined; ``foreground_mean`` is over the classes' means."""

    format: int = 1
    classes: dict[str, str]  # key -> name
    foreground_mean: Scores
    mean: dict[str, Scores]
    counts: dict[str, Counts]
    metric_per_case: tuple[CaseScores, ...]
    # 95 %, bootstrapped over cases; by class, and "foreground"
    intervals: dict[str, dict[str, Interval | None]] = msgspec.field(default_factory=dict)


def summarize(cases: Iterable[CaseScores], scheme: LabelScheme) -> Summary:
    """Means and counts over ``cases``, sorted by id."""
    cases = tuple(sorted(cases, key=lambda case: case.case))
    classes = scored_classes(scheme)
    means = {scored.key: mean_scores([case.metrics[scored.key] for case in cases]) for scored in classes}
    return Summary(
        classes={scored.key: scored.name for scored in classes},
        foreground_mean=mean_scores(list(means.values())),
        mean=means,
        counts={scored.key: _counts(scored, cases) for scored in classes},
        metric_per_case=cases,
        intervals=intervals([case.metrics for case in cases]),
    )


def mean_scores(scores: Sequence[Scores]) -> Scores:
    """Mean of every metric over the ``scores`` that define it; None if none does."""
    means: Scores = {}
    for metric in scores[0] if scores else ():
        defined = [value for score in scores if (value := score.get(metric)) is not None]
        means[metric] = sum(defined) / len(defined) if defined else None
    return means


def _counts(scored: ScoredClass, cases: Sequence[CaseScores]) -> Counts:
    present = [(bool(case.metrics[scored.key]["n_pred"]), bool(case.metrics[scored.key]["n_ref"])) for case in cases]
    return Counts(
        cases=len(present),
        undefined=present.count((False, False)),
        missed=present.count((False, True)),
        invented=present.count((True, False)),
    )


def write_summary(folder: Path, summary: Summary, stem: str = "summary") -> None:
    """``summary.json`` and ``summary.csv`` (one line per case and class) in ``folder``."""
    write_bytes(folder / f"{stem}.csv", as_csv(summary).encode())
    write_json(folder / f"{stem}.json", summary)


def remove_summary(folder: Path, stem: str = "summary") -> None:
    """Remove what :func:`write_summary` wrote, where it is there."""
    for ending in (".json", ".csv"):
        (folder / f"{stem}{ending}").unlink(missing_ok=True)


def remove_outlived(folder: Path) -> None:
    """Remove the scores in ``folder`` if none of the predictions that they are of is there any more."""
    try:
        cases = read_json(folder / "summary.json", Summary).metric_per_case
    except UserError:
        return  # none, or another program's file of this name
    if not any((folder / Path(case.prediction_file).name).exists() for case in cases):
        remove_summary(folder)


def as_csv(summary: Summary) -> str:
    """One line per case and class; undefined values are empty."""
    lines = io.StringIO()
    writer = csv.writer(lines, lineterminator="\n")
    metrics = list(next(iter(summary.mean.values()), {}))
    with_folds = any(case.fold is not None for case in summary.metric_per_case)
    writer.writerow(["case", *(["fold"] if with_folds else []), "label", "class", *metrics])
    for case in summary.metric_per_case:
        for key, scores in case.metrics.items():
            fold = [case.fold] if with_folds else []
            writer.writerow([case.case, *fold, key, summary.classes[key], *(_cell(scores.get(m)) for m in metrics)])
    return lines.getvalue()


def _cell(value: float | None) -> str:
    return "" if value is None else f"{value:.6g}"


def as_table(summary: Summary) -> str:
    """A table for the terminal: scores by class, and their mean."""
    return text_table(as_rows(summary))


def as_rows(summary: Summary) -> list[list[str]]:
    """A header, one row per class, and their mean."""
    metrics = [m for m in TABLE_METRICS if m in summary.foreground_mean]
    rows = [["class", *metrics, "95 % of Dice", "cases", "undefined", "missed", "invented"]]
    for key, name in summary.classes.items():
        counts = summary.counts[key]
        numbers = [counts.cases, counts.undefined, counts.missed, counts.invented]
        means = [format_score(summary.mean[key][m]) for m in metrics]
        rows.append([name, *means, _interval(summary, key), *map(str, numbers)])
    means = [format_score(summary.foreground_mean[m]) for m in metrics]
    return [*rows, ["mean", *means, _interval(summary, "foreground"), "", "", "", ""]]


def _interval(summary: Summary, key: str) -> str:
    interval = summary.intervals.get(key, {}).get("Dice")
    return "-" if interval is None else f"{interval[0]:.3f}..{interval[1]:.3f}"
