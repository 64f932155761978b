"""Comparison of two models on the same cases: mean difference of every class, its interval, and a significance test."""

import logging
from pathlib import Path

from unetrpp.core.errors import UserError
from unetrpp.core.files import read_json
from unetrpp.core.text import counted, escaped, format_score, listed, text_table
from unetrpp.evaluation.cross_validation import CrossValidation
from unetrpp.evaluation.statistics import Difference, paired_difference
from unetrpp.evaluation.summary import EXTREMES, MOST_ROWS, Summary, mean_scores

LOG = logging.getLogger(__name__)


def compare_models(first: Path | str, second: Path | str) -> dict[str, Difference]:
    """Difference in Dice by class name, and "mean" over classes, as `unetrpp_evaluate --compare` prints it.

    Args:
        first: a summary.json or crossval_summary.json.
        second: one of another model, on the same cases.

    Raises:
        UserError: a file is neither of the two, or as :func:`compare_summaries`.
    """
    return compare_summaries(read_summary(Path(first)), read_summary(Path(second)))


def read_summary(path: Path) -> Summary:
    """A summary.json, or the pooled cases of a crossval_summary.json.

    Raises:
        UserError: the file is neither of the two.
    """
    if path.name.startswith("crossval"):
        return read_json(path, CrossValidation, hint="write it again with unetrpp_evaluate --model").summary
    return read_json(path, Summary, hint="score the predictions with unetrpp_evaluate")


def compare_summaries(first: Summary, second: Summary, metric: str = "Dice") -> dict[str, Difference]:
    """Differences by class name, and under "mean" of the mean over the classes of every case.

    Classes are matched by name: the same class may have another label value in each summary.

    Raises:
        UserError: the summaries have other classes, two classes of one have the same name, or no case is in both.
    """
    keys, their_keys = _key_by_name(first), _key_by_name(second)
    if keys.keys() != their_keys.keys():
        alone = ", ".join(sorted(keys.keys() ^ their_keys.keys()))
        raise UserError(
            f"the two summaries have different classes ({alone}: in only one of them), but classes are compared by name; "
            "compare predictions of one dataset, or give classes the same names in dataset.json and score again"
        )
    ours = {case.case: case.metrics for case in first.metric_per_case}
    theirs = {case.case: case.metrics for case in second.metric_per_case}
    cases = sorted(ours.keys() & theirs.keys())
    if not cases or not keys:
        raise UserError(
            f"the two summaries share {counted(len(cases), 'case')} and {counted(len(keys), 'class', 'classes')}; "
            "compare predictions of one dataset"
        )
    for which, left in (("first", ours.keys() - theirs.keys()), ("second", theirs.keys() - ours.keys())):
        if left:
            named = listed([escaped(case) for case in sorted(left)])
            LOG.warning(
                "warning: only in the %s summary and not compared: %s (%s)", which, counted(len(left), "case"), named
            )

    def values(name: str) -> tuple[list[float | None], list[float | None]]:
        mine, other = keys[name], their_keys[name]
        return [ours[case][mine].get(metric) for case in cases], [theirs[case][other].get(metric) for case in cases]

    result = {name: paired_difference(*values(name)) for name in keys}
    over_classes = [
        [mean_scores([{metric: scores[case][key].get(metric)} for key in by_name.values()])[metric] for case in cases]
        for scores, by_name in ((ours, keys), (theirs, their_keys))
    ]
    return result | {"mean": paired_difference(*over_classes)}


def _key_by_name(summary: Summary) -> dict[str, str]:
    keys = {name: key for key, name in summary.classes.items()}
    if len(keys) < len(summary.classes):
        raise UserError(
            f"two classes of one summary have the same name ({', '.join(summary.classes.values())}), and classes are "
            "compared by name; name each differently in dataset.json and score again"
        )
    return keys


def comparison_table(differences: dict[str, Difference], metric: str = "Dice") -> str:
    """One line per class, and their mean; of many classes those that lose and gain most."""
    rows = [["class", "cases", f"{metric} first", f"{metric} second", "difference", "95% CI", "p (Wilcoxon)"]]
    shown, note = _shown(differences)
    for name, d in shown.items():
        difference = "-" if d.difference is None else f"{d.difference:+.3f}"
        interval = "-" if d.interval is None else f"{d.interval[0]:+.3f} .. {d.interval[1]:+.3f}"
        p_value = "-" if d.p_value is None else f"{d.p_value:.2g}"
        rows.append([name, str(d.cases), format_score(d.first), format_score(d.second), difference, interval, p_value])
    return "\n".join([f"{note}{text_table(rows)}", *_left_out(shown)])


def _left_out(differences: dict[str, Difference]) -> list[str]:
    """A line for every row of which cases are left out: no difference tells about such false positives."""
    return [
        f"{name}: left out are {counted(d.first_only + d.second_only, 'case')} without it in the reference, where one model predicts "
        f"it and the other does not (the first in {d.first_only}, the second in {d.second_only})"
        for name, d in differences.items()
        if name != "mean" and d.first_only + d.second_only
    ]


def _shown(differences: dict[str, Difference]) -> tuple[dict[str, Difference], str]:
    """The differences that a table shows, and the line above it that says which these are, where some are left out."""
    classes = {name: d for name, d in differences.items() if name != "mean"}
    if len(classes) <= MOST_ROWS:
        return differences, ""
    change = {name: d.difference for name, d in classes.items() if d.difference is not None}
    order = sorted(change, key=lambda name: change[name])
    chosen = dict.fromkeys((*order[:EXTREMES], *order[-EXTREMES:], "mean"))
    left = len(differences) - len(chosen)
    note = f"the {EXTREMES} classes that lose and the {EXTREMES} that gain most; {left} others are not shown\n"
    return {name: differences[name] for name in chosen}, note
