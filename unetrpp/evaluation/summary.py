"""The scores of many cases: a record in the shape of nnU-Net's summary.json, as CSV, and as a table."""

import csv
import io
import logging
from collections.abc import Iterable, Sequence
from pathlib import Path, PureWindowsPath
from typing import ClassVar

import msgspec
from msgspec import UNSET, UnsetType

from unetrpp.core.digest import Derived
from unetrpp.core.errors import UserError
from unetrpp.core.files import Record, read_json, write_bytes, write_json
from unetrpp.core.text import format_score, text_table
from unetrpp.dataset.labels import LabelScheme
from unetrpp.evaluation.metrics import MetricOptions, ScoredClass, Scores, Unit, scored_classes
from unetrpp.evaluation.statistics import Interval, intervals

LOG = logging.getLogger(__name__)
MOST_ROWS = 20  # classes that a table for the terminal lists; of more, the lowest and highest EXTREMES
EXTREMES = 5
TABLE_METRICS = ("Dice", "Dice_published", "IoU", "HD95", "HD95_published", "NSD", "lesion_F1")


class CaseScores(Record, frozen=True, kw_only=True):
    """Scores of one case by class key; ``fold`` is its validation fold in a cross-validation."""

    case: str
    fold: int | None = None
    prediction_file: str
    reference_file: str
    metrics: dict[str, Scores]

    @property
    def prediction_name(self) -> str:
        """The prediction's file name, of a path that may have been written on Windows."""
        return PureWindowsPath(self.prediction_file).name

    @property
    def reference_name(self) -> str:
        """The reference's file name, likewise."""
        return PureWindowsPath(self.reference_file).name


class Counts(Record, frozen=True, kw_only=True):
    """Cases in which a class was scored, and those of them where a mask is empty."""

    cases: int
    undefined: int  # the class is in neither mask: left out of the means
    missed: int  # in the reference only
    invented: int  # in the prediction only


class Distances(Record, frozen=True, kw_only=True):
    """How surface distances were measured."""

    unit: Unit
    tolerance: float | None  # of NSD, in this unit; None: one voxel of each case's reference

    @property
    def spelled_tolerance(self) -> str:
        """
        >>> Distances(unit="mm", tolerance=2).spelled_tolerance, Distances(unit="pixels", tolerance=None).spelled_tolerance
        ('2 mm', '1 pixel')
        """
        if self.tolerance is None:
            return "1 pixel" if self.unit == "pixels" else "1 voxel"
        return f"{self.tolerance:g} {self.unit}"


class Summary(Derived, frozen=True, kw_only=True):
    """Means are over the cases where a metric is defined; ``foreground_mean`` is over the classes' means."""

    later_fields: ClassVar[frozenset[str]] = Derived.later_fields | {"distances"}
    format: int = 1
    classes: dict[str, str]  # key -> name
    foreground_mean: Scores
    mean: dict[str, Scores]
    counts: dict[str, Counts]
    metric_per_case: tuple[CaseScores, ...]
    # 95%, bootstrapped over cases; by class, and "foreground"
    intervals: dict[str, dict[str, Interval | None]] = msgspec.field(default_factory=dict)
    distances: Distances | UnsetType = UNSET  # where there are any; release 0.1.0 did not record it

    @property
    def options(self) -> MetricOptions:
        """Those that were scored with; of release 0.1.0, which recorded no tolerance, the default one."""
        if self.distances is UNSET:
            return MetricOptions(distances="HD95" in self.foreground_mean)
        return MetricOptions(distances=True, tolerance=self.distances.tolerance)

    def heading(self, metric: str) -> str:
        """The metric with its unit or tolerance, for the head of a column, such as ``NSD [1 voxel]``."""
        return f"{metric} [{unit}]" if (unit := self._unit(metric)) else metric

    def _unit(self, metric: str) -> str | None:
        if metric == "HD95_published":
            return "voxels"
        if metric.startswith("HD95"):
            return "mm" if self.distances is UNSET else self.distances.unit
        if metric == "NSD":
            return "tolerance not recorded" if self.distances is UNSET else self.distances.spelled_tolerance
        return None

    def defined(self, key: str, metric: str) -> int:
        """The number of cases in which a metric of a class is defined, which its mean is over."""
        return sum(case.metrics[key].get(metric) is not None for case in self.metric_per_case)


def summarize(cases: Iterable[CaseScores], scheme: LabelScheme, distances: Distances | None = None) -> Summary:
    """Means and counts over ``cases``, sorted by id; ``distances`` as they were measured."""
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
        distances=distances or UNSET,
    )


def mean_scores(scores: Sequence[Scores]) -> Scores:
    """Mean of every metric over the ``scores`` that define it; None if none does."""
    means: Scores = {}
    for metric in dict.fromkeys(name for score in scores for name in score):
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


def keep_foreign(folder: Path) -> None:
    """Rename a summary.json of another program, such as nnU-Net's of its own validation, before ours takes its place."""
    path = folder / "summary.json"
    try:
        read_json(path, Summary)
    except UserError:
        if path.is_file():
            kept = path.with_name("summary_of_another_program.json")
            path.replace(kept)
            LOG.info("%s is of another program, and is now called %s", path, kept.name)


def remove_outlived(folder: Path) -> None:
    """Remove the scores in ``folder`` if none of the predictions that they are of is there any more."""
    try:
        cases = read_json(folder / "summary.json", Summary).metric_per_case
    except UserError:
        return  # none, or another program's file of this name
    if not any((folder / case.prediction_name).exists() for case in cases):
        remove_summary(folder)


def as_csv(summary: Summary) -> str:
    """One line per case and class; undefined values are empty. Units and tolerances stand in the head."""
    lines = io.StringIO()
    writer = csv.writer(lines, lineterminator="\n")
    metrics = list(next(iter(summary.mean.values()), {}))
    with_folds = any(case.fold is not None for case in summary.metric_per_case)
    writer.writerow(["case", *(["fold"] if with_folds else []), "label", "class", *map(summary.heading, metrics)])
    for case in summary.metric_per_case:
        for key, scores in case.metrics.items():
            fold = [case.fold] if with_folds else []
            writer.writerow([case.case, *fold, key, summary.classes[key], *(_cell(scores.get(m)) for m in metrics)])
    return lines.getvalue()


def _cell(value: float | None) -> str:
    """Counts of voxels with all their digits.

    >>> _cell(1491992), _cell(0.123456789), _cell(None)
    ('1491992', '0.123457', '')
    """
    return "" if value is None else f"{value:.0f}" if value == int(value) else f"{value:.6g}"


def as_table(summary: Summary) -> str:
    """A table for the terminal: scores by class and their mean. Of many classes, those with the lowest and highest Dice."""
    header, *classes, mean = as_rows(summary)
    lines: list[str] = []
    if len(classes) > MOST_ROWS:
        order = _by_dice(summary)
        classes = [classes[i] for i in dict.fromkeys((*order[:EXTREMES], *order[-EXTREMES:]))]
        hidden = f"{len(order) - len(classes)} between them"
        if undefined := len(summary.classes) - len(order):
            hidden += f" and {undefined} that no case has"
        lines.append(f"the {EXTREMES} classes of lowest and the {EXTREMES} of highest Dice; {hidden} are not shown")
    lines.append(text_table([header, *classes, mean]))
    lines.append("Each value is the mean over the cases where it is defined, the last line the mean over classes.")
    return "\n".join(lines)


def _by_dice(summary: Summary) -> list[int]:
    """Places of the classes whose mean Dice is defined, lowest first."""
    dice = [summary.mean[key]["Dice"] for key in summary.classes]
    return sorted((i for i, value in enumerate(dice) if value is not None), key=lambda i: dice[i] or 0.0)


def as_rows(summary: Summary) -> list[list[str]]:
    """A header, one row per class, and their mean.

    A mean over fewer cases than the row's Dice says over how many, and so does the last row where a class has none.
    """
    metrics = [m for m in TABLE_METRICS if m in summary.foreground_mean]
    header = [
        "class",
        *map(summary.heading, metrics),
        "95% CI of Dice",
        "cases",
        "undefined",
        "missed",
        "invented",
    ]
    rows = [header]
    for key, name in summary.classes.items():
        counts = summary.counts[key]
        numbers = [counts.cases, counts.undefined, counts.missed, counts.invented]
        means = [_class_mean(summary, key, metric) for metric in metrics]
        rows.append([name, *means, _interval(summary, key), *map(str, numbers)])
    return [*rows, ["mean", *(_mean(summary, m) for m in metrics), _interval(summary, "foreground"), "", "", "", ""]]


def _class_mean(summary: Summary, key: str, metric: str) -> str:
    cases, counts = summary.defined(key, metric), summary.counts[key]
    present, mean = counts.cases - counts.undefined, format_score(summary.mean[key].get(metric))
    return mean if cases in (0, counts.cases, present) else f"{mean} ({cases} of {present})"


def _mean(summary: Summary, metric: str) -> str:
    classes = sum(summary.mean[key].get(metric) is not None for key in summary.classes)
    mean = format_score(summary.foreground_mean[metric])
    return mean if classes in (0, len(summary.classes)) else f"{mean} ({classes} of {len(summary.classes)} classes)"


def _interval(summary: Summary, key: str) -> str:
    interval = summary.intervals.get(key, {}).get("Dice")
    return "-" if interval is None else f"{interval[0]:.3f}..{interval[1]:.3f}"
