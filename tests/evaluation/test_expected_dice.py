"""Expected Dice is fitted without the cases that it is checked on, and good features make it narrow."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.special import expit
from sklearn.linear_model import Ridge

from unetrpp.dataset.labels import LabelScheme
from unetrpp.evaluation.expected_dice import (
    FeaturesAndDice,
    check_dice_models,
    features_and_dice,
    fit_dice_model,
    fit_dice_models,
    fit_regression,
    left_out_expectations,
    worst_found,
)
from unetrpp.evaluation.summary import CaseScores
from unetrpp.inference.expected_dice import to_scale

SCHEME = LabelScheme(names=("background", "a", "b"), values=(0, 1, 2))


def cross_validation(noise=0.1, cases=100, folds=5, classes=1, seed=0):
    """Dice that follows from the first of three features; every fold's features have an offset of their own."""
    rng = np.random.default_rng(seed)
    features = rng.normal(size=(cases, classes, 3))
    dice = expit(1.5 + features[..., 0] + noise * rng.normal(size=(cases, classes)))
    fold = np.arange(cases) * folds // cases
    names = tuple(f"class {k}" for k in range(classes))
    return FeaturesAndDice(
        fold=fold.astype(str),
        part=np.arange(cases) % 10,
        features=features + 5.0 * fold[:, None, None],
        dice=dice,
        names=names,
        always_there=(True,) * classes,
    )


def test_a_regression_is_that_of_scikit_learn():
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(50, 3)) * 4 + 7
    scaled = rows[:, 0] + 0.1 * rng.normal(size=50)
    standard = (rows - rows.mean(axis=0)) / rows.std(axis=0)
    ridge = Ridge(alpha=1.0).fit(standard, scaled)  # the smallest penalty, with this little noise
    np.testing.assert_allclose(fit_regression(rows, scaled)(rows), ridge.predict(standard), rtol=1e-6)


@pytest.mark.parametrize("noise", [0.1, 1.0])
def test_intervals_cover_and_are_narrow_where_features_tell(noise):
    check = check_dice_models(cross_validation(noise, cases=400))
    assert check is not None
    found = check.classes["class 0"]
    assert found.cases == 400
    assert 0.87 <= found.coverage <= 0.94
    assert 0.87 <= found.constant_coverage <= 0.94
    assert found.width < (0.2 if noise == 0.1 else 0.9) * found.constant_width
    assert check.worst_found is not None
    assert check.worst_found >= (0.97 if noise == 0.1 else 0.5)


def test_features_that_tell_nothing_gain_nothing():
    found = cross_validation(cases=400)
    noise = np.random.default_rng(1).normal(size=found.features.shape)
    check = check_dice_models(replace(found, features=noise))
    assert check is not None
    assert 0.87 <= check.classes["class 0"].coverage <= 0.94
    assert check.classes["class 0"].width == pytest.approx(check.classes["class 0"].constant_width, rel=0.1)


def test_a_case_does_not_take_part_in_its_own_expectation():
    cases = cross_validation().of_class(0)
    before = left_out_expectations(cases)
    after = left_out_expectations(replace(cases, dice=np.where(cases.part == 2, 0.123, cases.dice)))
    for part, one, other in zip(cases.part, before, after, strict=True):
        assert (one == other) == (part == 2)


def test_regressions_have_not_seen_their_part():
    cases = cross_validation().of_class(0)
    changed = replace(cases, dice=np.where(cases.part == 2, 0.123, cases.dice))
    one, other = (fit_dice_model(each, always_there=True) for each in (cases, changed))
    assert [a == b for a, b in zip(one.regressions, other.regressions, strict=True)] == [i == 2 for i in range(10)]
    own = cases.part == 2
    relative = cases.features[own] - [one.folds[name].mean for name in cases.fold[own]]
    residuals = [r for f in one.folds.values() for part, r in zip(f.parts, f.residuals, strict=True) if part == 2]
    np.testing.assert_allclose(residuals, to_scale(cases.dice[own]) - one.regressions[2](relative), atol=1e-9)


def test_cases_without_a_prediction_or_a_dice_are_left_out():
    found = cross_validation(cases=30, classes=2)
    found.features[:25, 1] = np.nan
    found.dice[0, 0] = np.nan
    models = fit_dice_models(found)
    assert list(models) == ["class 0"]  # five cases are too few
    assert sum(len(fold.residuals) for fold in models["class 0"].folds.values()) == 29
    check = check_dice_models(found)
    assert check is not None
    assert check.classes["class 0"].cases == 29


def test_too_few_cases_give_nothing():
    assert fit_dice_models(cross_validation(cases=9)) == {}
    assert check_dice_models(cross_validation(cases=9)) is None


@pytest.mark.parametrize("parts", [[0] * 20, [0] * 10 + [1] * 10, [0] * 9 + [1] * 10 + [2]])
def test_two_patients_with_all_cases_give_nothing(parts):
    found = replace(cross_validation(cases=20), part=np.array(parts))
    assert fit_dice_models(found) == {}
    assert check_dice_models(found) is None


def test_the_fewest_that_are_left_are_fitted_without_a_warning():
    found = replace(cross_validation(cases=12), part=np.array([0] * 5 + [1] * 5 + [2, 3]))
    check = check_dice_models(found)
    assert check is not None
    assert check.classes["class 0"].cases == 12


def test_one_fold_is_enough():
    check = check_dice_models(cross_validation(folds=1))
    assert check is not None
    assert 0.85 <= check.classes["class 0"].coverage <= 0.96


def test_scores_become_arrays():
    def scores(dice, n_ref):
        return {"Dice": dice, "n_ref": n_ref}

    cases = [
        CaseScores(
            case="x", prediction_file="", reference_file="", metrics={"1": scores(0.5, 3), "2": scores(None, 0)}
        ),
        CaseScores(case="y", prediction_file="", reference_file="", metrics={"1": scores(0.0, 4), "2": scores(0.7, 9)}),
    ]
    scored = [("0", cases[0]), ("4", cases[1]), ("4", cases[0])]
    found = features_and_dice(SCHEME, np.zeros((3, 2, 3)), scored, {"x": "ann", "y": "ann"})
    assert found.part.tolist() == [0, 0, 0]  # of one patient
    found = features_and_dice(SCHEME, np.zeros((2, 2, 3)), scored[:2], {})
    assert found.part.tolist() == [0, 1]
    np.testing.assert_array_equal(found.dice, [[0.5, np.nan], [0.0, 0.7]])
    assert (found.fold.tolist(), found.always_there) == (["0", "4"], (True, False))


def test_the_worst_tenth_in_the_first_fifth():
    dice = np.linspace(0.9, 0.1, 20)[:, None]  # the last two are the worst
    assert worst_found(dice, dice) == 1
    assert worst_found(dice, -dice) == 0
    assert worst_found(dice, np.where(np.arange(20)[:, None] == 19, 0.0, -dice + 2)) == 0.5
    undefined = np.concatenate([dice, np.full((5, 1), np.nan)])
    assert worst_found(undefined, undefined) == 1
    assert worst_found(undefined[20:], undefined[20:]) is None
