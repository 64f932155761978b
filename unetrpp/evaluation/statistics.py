"""Confidence intervals of means over cases, and the paired comparison of two models on the same cases."""

from collections.abc import Sequence
from typing import TypeAlias

import numpy as np

from unetrpp.core.files import Record
from unetrpp.evaluation.metrics import Scores

RESAMPLES = 2000
LEVEL = 0.95
SEED = 0  # fixed, so that the same cases give the same interval
INTERVAL_METRICS = ("Dice", "IoU", "HD95", "NSD")

Interval: TypeAlias = tuple[float, float]


class Difference(Record, frozen=True, kw_only=True):
    """Second minus first model, over the cases where both scores are defined."""

    cases: int
    first: float | None
    second: float | None
    difference: float | None
    interval: Interval | None
    p_value: float | None  # Wilcoxon's signed-rank test, two-sided; null below six cases that differ
    # Cases that are left out, because only one of the two has a score: the class is not in the reference, and that model predicts it.
    first_only: int = 0
    second_only: int = 0


def bootstrap_interval(values: np.ndarray) -> Interval | None:
    """Percentile bootstrap of the mean over cases: (low, high) at 95%; None below two defined cases.

    Args:
        values: (cases,) of one class, or (cases, classes), whose classes' means are averaged; NaN is undefined.
    """
    table = values.reshape(len(values), -1)
    if np.isfinite(table).any(axis=1).sum() < 2:
        return None
    table = table[:, np.isfinite(table).any(axis=0)]
    drawn = np.random.default_rng(SEED).integers(0, len(table), (RESAMPLES, len(table)))
    times = np.stack([np.bincount(cases, minlength=len(table)) for cases in drawn]).astype(float)
    defined = np.isfinite(table)
    sums, counts = times @ np.where(defined, table, 0), times @ defined
    classes = (counts > 0).sum(axis=1)  # those with a defined case in the draw; a draw without any is left out
    means = (sums / np.maximum(counts, 1)).sum(axis=1)[classes > 0] / classes[classes > 0]
    tail = (1 - LEVEL) / 2
    low, high = np.quantile(means, [tail, 1 - tail])
    return float(low), float(high)


def intervals(scores: Sequence[dict[str, Scores]]) -> dict[str, dict[str, Interval | None]]:
    """Intervals of ``INTERVAL_METRICS`` by class key, and under "foreground" of the mean over classes."""
    if not scores:
        return {}
    keys = list(scores[0])
    metrics = [m for m in INTERVAL_METRICS if m in scores[0][keys[0]]]
    tables = {metric: as_array([[case[key][metric] for key in keys] for case in scores]) for metric in metrics}
    result: dict[str, dict[str, Interval | None]] = {
        key: {metric: bootstrap_interval(table[:, i]) for metric, table in tables.items()} for i, key in enumerate(keys)
    }
    return result | {"foreground": {metric: bootstrap_interval(table) for metric, table in tables.items()}}


def as_array(values: Sequence[Sequence[float | None]]) -> np.ndarray:
    """None becomes NaN."""
    return np.array([[np.nan if v is None else v for v in row] for row in values], dtype=float)


def paired_difference(first: Sequence[float | None], second: Sequence[float | None]) -> Difference:
    """Compare two models' scores of the same cases, in the same order."""
    table = as_array(list(zip(first, second, strict=True))).reshape(-1, 2)
    defined = np.isfinite(table)
    alone = {
        name: int((defined[:, i] & ~defined[:, 1 - i]).sum()) for i, name in enumerate(("first_only", "second_only"))
    }
    table = table[defined.all(axis=1)]
    if not len(table):
        return Difference(cases=0, first=None, second=None, difference=None, interval=None, p_value=None, **alone)
    change = table[:, 1] - table[:, 0]
    means = table.mean(axis=0)
    return Difference(
        cases=len(table),
        first=float(means[0]),
        second=float(means[1]),
        difference=float(change.mean()),
        interval=bootstrap_interval(change),
        p_value=_wilcoxon(change),
        **alone,
    )


def _wilcoxon(change: np.ndarray) -> float | None:
    from scipy.stats import wilcoxon  # slow to import, and needed for comparisons only

    # With fewer than six differing cases no result can be significant at 5 %.
    return float(wilcoxon(change).pvalue) if np.count_nonzero(change) >= 6 else None
