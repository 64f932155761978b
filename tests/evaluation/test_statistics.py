"""Bootstrap intervals against the normal approximation, and paired differences against scipy."""

import warnings

import numpy as np
import pytest
from scipy import stats

from unetrpp.dataset.labels import LabelScheme
from unetrpp.evaluation.statistics import RESAMPLES, SEED, bootstrap_interval, paired_difference

SCHEME = LabelScheme(names=("background", "ball"), values=(0, 1))


def test_the_interval_is_near_the_normal_one_for_many_cases():
    values = np.random.default_rng(1).normal(0.8, 0.1, 400)
    low, high = bootstrap_interval(values) or (0, 0)
    error = values.std() / np.sqrt(400)
    assert (low, high) == pytest.approx(
        (values.mean() - 1.96 * error, values.mean() + 1.96 * error), abs=0.1 * error * 3
    )


def test_the_interval_equals_that_of_the_means_of_drawn_tables():
    table = np.random.default_rng(3).random((12, 4))
    table[table < 0.3] = np.nan
    drawn = np.random.default_rng(SEED).integers(0, 12, (RESAMPLES, 12))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a class without a defined case in a draw
        means = [np.nanmean(np.nanmean(table[cases], axis=0)) for cases in drawn]
    assert bootstrap_interval(table) == pytest.approx(np.quantile(means, [0.025, 0.975]))


def test_undefined_scores_are_left_out():
    values = np.array([0.5, 0.7, np.nan, 0.9])
    assert bootstrap_interval(values) == pytest.approx(bootstrap_interval(values), abs=0)
    low, high = bootstrap_interval(values) or (0, 0)
    assert 0.5 <= low < 0.7 < high <= 0.9
    assert bootstrap_interval(np.array([0.5])) is None
    assert bootstrap_interval(np.full(5, np.nan)) is None
    assert bootstrap_interval(np.array([0.812, *[np.nan] * 19])) is None
    both = np.stack([values, np.full(4, 0.1)], axis=1)
    assert bootstrap_interval(both) == pytest.approx(((low + 0.1) / 2, (high + 0.1) / 2), abs=0.02)


def test_paired_difference():
    rng = np.random.default_rng(0)
    first = rng.uniform(0.6, 0.8, 30)
    second = first + rng.normal(0.05, 0.01, 30)
    result = paired_difference([*first, None], [*second, 0.5])
    assert result.cases == 30
    assert result.difference == pytest.approx((second - first).mean())
    assert result.interval is not None
    assert result.interval[0] > 0.04
    assert result.p_value == pytest.approx(stats.wilcoxon(second - first).pvalue)
    assert paired_difference([0.5, 0.6], [0.5, 0.7]).p_value is None
    assert paired_difference([None], [0.5]).cases == 0
