"""The expected Dice and its interval follow from the residuals of the cross-validation as CV+ says."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import expit, logit

from unetrpp.inference.expected_dice import DiceModel, ExpectedDice, FoldCases, Regression, summary_of, to_scale

NOTHING = np.full(2, np.nan)


def line(intercept=0.0, weights=(1.0, 0.0)):
    return Regression(
        centre=(0.0, 0.0),
        scale=(1.0, 1.0),
        lowest=(-3.0, -3.0),
        highest=(3.0, 3.0),
        weights=weights,
        intercept=intercept,
    )


def model(always_there=True):
    """Four cases: two parts, two folds, of which the second has larger features."""
    folds = {
        "0": FoldCases(mean=(0.0, 0.0), parts=(0, 1, 0), residuals=(-1.0, 0.0, 1.0)),
        "1": FoldCases(mean=(10.0, 0.0), parts=(1,), residuals=(0.2,)),
    }
    return DiceModel(regressions=(line(), line(0.5)), folds=folds, always_there=always_there)


def test_the_expectation_is_the_mean_over_the_cases_by_their_folds_and_parts():
    found = model()({"0": np.array([2.0, 9.0]), "1": np.array([11.0, 0.0])})
    assert found is not None
    assert found.expected == pytest.approx(np.mean(expit([2 - 1, 2.5, 2 + 1, 1.5 + 0.2])), abs=1e-4)
    assert (found.low, found.high) == (0.0, 1.0)  # four values bound nothing


def test_a_fold_in_which_nothing_is_predicted_does_not_count():
    found = model()({"0": NOTHING, "1": np.array([11.0, 0.0])})
    assert found is not None
    assert found.expected == pytest.approx(expit(1.7), abs=1e-4)


def test_a_fold_without_cases_does_not_count():
    rows = {"2": np.zeros(2), "1": np.array([11.0, 0.0])}
    assert model()(rows) == model()({"1": rows["1"]})


def test_where_nothing_is_predicted():
    assert model()({"0": NOTHING, "1": NOTHING}) == ExpectedDice(expected=0.0, low=0.0, high=0.0)
    assert model(always_there=False)({"0": NOTHING, "1": NOTHING}) is None


def test_features_are_not_extrapolated():
    known = line()(np.array([[3.0, 0.0], [-3.0, 0.0]]))
    np.testing.assert_array_equal(line()(np.array([[50.0, 0.0], [-50.0, 7.0]])), known)


def test_standardised():
    scaled = Regression(
        centre=(2.0, 1.0), scale=(4.0, 0.5), lowest=(-9.0, -9.0), highest=(9.0, 9.0), weights=(1.0, 3.0), intercept=0.5
    )
    assert scaled(np.array([[6.0, 2.0]])) == pytest.approx([1 + 6 + 0.5])


def test_dice_of_0_and_1_are_finite_on_the_scale():
    assert np.isfinite(to_scale(np.array([0.0, 1.0]))).all()
    assert to_scale(np.array([0.3])) == pytest.approx(logit(0.3))


@given(st.integers(1, 200), st.integers(0, 1000))
def test_the_interval_is_between_order_statistics(n, seed):
    rng = np.random.default_rng(seed)
    centres, residuals = rng.normal(size=(2, n))
    found = summary_of(centres, residuals)
    k = (n + 1) // 10
    lower = sorted(expit(centres - abs(residuals)))
    upper = sorted(expit(centres + abs(residuals)))
    assert found.low == (round(lower[k - 1], 4) if k else 0.0)
    assert found.high == (round(upper[n - k], 4) if k else 1.0)


def test_intervals_of_exchangeable_values_cover_as_they_say():
    rng = np.random.default_rng(0)
    inside = []
    for _ in range(2000):  # 59 cases: k is 6
        *residuals, new = rng.standard_t(3, 60)
        found = summary_of(np.zeros(59), np.array(residuals))
        inside.append(found.low - 1e-4 <= expit(new) <= found.high + 1e-4)
    assert 0.88 <= np.mean(inside) <= 0.93
