"""Expected Dice is fitted without the cases that it is checked on, and good features make it narrow."""

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import expit
from sklearn.linear_model import Ridge

from unetrpp.dataset.labels import LabelScheme
from unetrpp.evaluation.expected_dice import (
    FeaturesAndDice,
    check_dice_models,
    features_and_dice,
    fit_dice_models,
    fit_regression,
    left_out_expectations,
    narrowest,
    worst_found,
)
from unetrpp.evaluation.summary import CaseScores
from unetrpp.inference.expected_dice import to_scale

SCHEME = LabelScheme(names=("background", "a", "b"), values=(0, 1, 2))


def cross_validation(noise=0.1, cases=100, folds=5, classes=1, seed=0):
    """Dice that follows from the first of three features."""
    rng = np.random.default_rng(seed)
    features = rng.normal(size=(cases, classes, 3))
    dice = expit(1.5 + features[..., 0] + noise * rng.normal(size=(cases, classes)))
    names = tuple(f"class {k}" for k in range(classes))
    return FeaturesAndDice(np.array([str(i % folds) for i in range(cases)]), features, dice, names, (True,) * classes)


def test_a_regression_is_that_of_scikit_learn():
    found = cross_validation()
    regression = fit_regression(found.features[:, 0], found.dice[:, 0])
    rows = found.features[:, 0]
    standard = (rows - rows.mean(axis=0)) / rows.std(axis=0)
    ridge = Ridge(alpha=0.1).fit(standard, to_scale(found.dice[:, 0]))  # the smallest penalty, with this little noise
    np.testing.assert_allclose(regression(rows), ridge.predict(standard), rtol=1e-6)


@pytest.mark.parametrize("noise", [0.1, 1.0])
def test_intervals_cover_and_are_narrow_where_features_tell(noise):
    check = check_dice_models(cross_validation(noise, cases=400))
    assert check is not None
    found = check.classes["class 0"]
    assert found.cases == 400
    assert 0.87 <= found.coverage <= 0.94
    assert found.width < (0.25 if noise == 0.1 else 0.95) * found.constant_width
    assert check.worst_found is not None
    assert check.worst_found >= (1.0 if noise == 0.1 else 0.5)


def test_features_that_tell_nothing_gain_nothing():
    found = cross_validation(cases=400)
    check = check_dice_models(
        FeaturesAndDice(
            found.fold, np.random.default_rng(1).normal(size=found.features.shape), found.dice, found.names, (True,)
        )
    )
    assert check is not None
    assert 0.87 <= check.classes["class 0"].coverage <= 0.94
    assert check.classes["class 0"].width > 0.95 * check.classes["class 0"].constant_width


def test_a_case_does_not_take_part_in_its_own_expectation():
    found = cross_validation()
    before = left_out_expectations(found.fold, found.features[:, 0], found.dice[:, 0])
    changed = np.where(found.fold == "2", 0.123, found.dice[:, 0])
    after = left_out_expectations(found.fold, found.features[:, 0], changed)
    for fold, one, other in zip(found.fold, before, after, strict=True):
        assert (one == other) == (fold == "2")


def test_regressions_have_not_seen_their_fold():
    found = cross_validation()
    changed = np.where(found.fold[:, None] == "2", 0.123, found.dice)
    one = fit_dice_models(found)["class 0"].folds["2"]
    other = fit_dice_models(FeaturesAndDice(found.fold, found.features, changed, found.names, (True,)))[
        "class 0"
    ].folds["2"]
    assert one.regression == other.regression
    assert one.residuals != other.residuals


def test_cases_without_a_prediction_or_a_dice_are_left_out():
    found = cross_validation(cases=30, classes=2)
    found.features[:25, 1] = np.nan
    found.dice[0, 0] = np.nan
    models = fit_dice_models(found)
    assert list(models) == ["class 0"]  # five cases are too few
    assert sum(len(fold.residuals) for fold in models["class 0"].folds.values()) == 29


def test_one_fold_gives_nothing_and_two_cannot_be_checked():
    assert fit_dice_models(cross_validation(folds=1)) == {}
    assert len(fit_dice_models(cross_validation(folds=2))) == 1
    assert check_dice_models(cross_validation(folds=2)) is None


def test_scores_become_arrays():
    def scores(dice, n_ref):
        return {"Dice": dice, "n_ref": n_ref}

    cases = [
        CaseScores(
            case="x", prediction_file="", reference_file="", metrics={"1": scores(0.5, 3), "2": scores(None, 0)}
        ),
        CaseScores(case="y", prediction_file="", reference_file="", metrics={"1": scores(0.0, 4), "2": scores(0.7, 9)}),
    ]
    found = features_and_dice(SCHEME, np.zeros((2, 2, 3)), [("0", cases[0]), ("4", cases[1])])
    np.testing.assert_array_equal(found.dice, [[0.5, np.nan], [0.0, 0.7]])
    assert (found.fold.tolist(), found.always_there) == (["0", "4"], (True, False))


@given(st.lists(st.floats(0, 1), min_size=1, max_size=8), st.data())
def test_the_narrowest_interval(values, data):
    count = data.draw(st.integers(1, len(values)))
    widths = [max(chosen) - min(chosen) for chosen in combinations(values, count)]
    assert narrowest(np.array(values), count) == pytest.approx(min(widths), abs=1e-9)


def test_the_worst_tenth_in_the_first_fifth():
    dice = np.linspace(0.9, 0.1, 20)[:, None]  # the last two are the worst
    assert worst_found(dice, dice) == 1
    assert worst_found(dice, -dice) == 0
    assert worst_found(dice, np.where(np.arange(20)[:, None] == 19, 0.0, -dice + 2)) == 0.5
    undefined = np.concatenate([dice, np.full((5, 1), np.nan)])
    assert worst_found(undefined, undefined) == 1
    assert worst_found(undefined[20:], undefined[20:]) is None
