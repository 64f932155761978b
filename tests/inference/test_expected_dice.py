"""The expected Dice and its interval follow from the residuals of the cross-validation as CV+ says."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import expit, logit

from unetrpp.inference.expected_dice import DiceModel, ExpectedDice, FoldResiduals, Regression, summary_of, to_scale

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
    folds = {
        "0": FoldResiduals(regression=line(), residuals=(-1.0, 0.0, 1.0)),
        "1": FoldResiduals(regression=line(0.5), residuals=(0.2,)),
    }
    return DiceModel(folds=folds, always_there=always_there)


def test_the_expectation_is_the_mean_over_the_residuals_of_all_folds():
    found = model()({"0": np.array([2.0, 9.0]), "1": np.array([1.0, 0.0])})
    assert found is not None
    assert found.expected == pytest.approx(np.mean(expit([1.0, 2.0, 3.0, 1.7])), abs=1e-4)
    assert (found.low, found.high) == (0.0, 1.0)  # four values bound nothing


def test_a_fold_in_which_nothing_is_predicted_does_not_count():
    found = model()({"0": NOTHING, "1": np.array([1.0, 0.0])})
    assert found is not None
    assert found.expected == pytest.approx(expit(1.7), abs=1e-4)


def test_a_fold_without_residuals_does_not_count():
    only = DiceModel(folds={"1": model().folds["1"]}, always_there=True)
    rows = {"0": np.zeros(2), "1": np.array([1.0, 0.0])}
    assert only(rows) == only({"1": rows["1"]})


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
    values = np.random.default_rng(seed).normal(size=n)
    found = summary_of(values)
    k = (n + 1) // 20
    ordered = sorted(expit(values))
    assert found.low == (round(ordered[k - 1], 4) if k else 0.0)
    assert found.high == (round(ordered[n - k], 4) if k else 1.0)
    assert 0 <= found.low <= found.high <= 1


def test_intervals_of_exchangeable_values_cover_as_they_say():
    rng = np.random.default_rng(0)
    inside = []
    for _ in range(2000):
        *values, new = rng.standard_t(3, 60)
        found = summary_of(np.array(values))
        inside.append(found.low - 1e-4 <= expit(new) <= found.high + 1e-4)
    assert 0.9 <= np.mean(inside) <= 0.93
