"""Fitting the expected Dice (``unetrpp.inference.expected_dice``) to the cross-validation, and checking it there."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from sklearn.linear_model import RidgeCV
from sklearn.preprocessing import StandardScaler

from unetrpp.dataset.labels import LabelScheme
from unetrpp.evaluation.metrics import scored_classes
from unetrpp.evaluation.summary import CaseScores
from unetrpp.inference.expected_dice import (
    FEWEST_CASES,
    ClassCheck,
    DiceCheck,
    DiceModel,
    ExpectedDice,
    FoldResiduals,
    Regression,
    to_scale,
)

PENALTIES = np.logspace(-1, 4, 21)  # of the ridge regression; leave-one-out chooses


@dataclass(frozen=True)
class FeaturesAndDice:
    """Of the cases of the cross-validation, each predicted by the fold that held it out.

    Attributes:
        fold: (n,), names of the folds.
        features: (n, classes, P), NaN where nothing of the class is predicted.
        dice: (n, classes), NaN where it is not defined.
        names: of the classes.
        always_there: of each class, whether every reference has it.
    """

    fold: np.ndarray
    features: np.ndarray
    dice: np.ndarray
    names: tuple[str, ...]
    always_there: tuple[bool, ...]

    def usable(self) -> np.ndarray:
        """(n, classes) bool: something of the class is predicted, and its Dice is defined."""
        usable: np.ndarray = np.isfinite(self.dice) & np.isfinite(self.features).all(axis=2)
        return usable


def features_and_dice(
    scheme: LabelScheme, features: np.ndarray, cases: Sequence[tuple[str, CaseScores]]
) -> FeaturesAndDice:
    """The features (n, classes, P) of ``cases``, each with its fold's name, beside their scores."""
    scored = scored_classes(scheme)
    values = [[case.metrics[each.key] for each in scored] for _, case in cases]
    dice = [[np.nan if metrics["Dice"] is None else metrics["Dice"] for metrics in case] for case in values]
    return FeaturesAndDice(
        fold=np.array([fold for fold, _ in cases]),
        features=features,
        dice=np.array(dice, np.float64),
        names=tuple(each.name for each in scored),
        always_there=tuple(all(case[k]["n_ref"] for case in values) for k in range(len(scored))),
    )


def fit_dice_models(found: FeaturesAndDice) -> dict[str, DiceModel]:
    """The model of every class that has enough cases, in two folds or more."""
    models = {}
    for k, name in enumerate(found.names):
        usable = found.usable()[:, k]
        fold, features, dice = found.fold[usable], found.features[usable, k], found.dice[usable, k]
        folds = sorted(set(fold.tolist()))
        if len(dice) >= FEWEST_CASES and len(folds) > 1:
            residuals = {each: fold_residuals(fold, features, dice, of=each) for each in folds}
            models[name] = DiceModel(folds=residuals, always_there=found.always_there[k])
    return models


def fold_residuals(
    fold: np.ndarray, features: np.ndarray, dice: np.ndarray, *, of: str, without: str = ""
) -> FoldResiduals:
    """Of the cases of the fold ``of``, from the regression that was fitted to those of all other folds; also ``without`` one more."""
    own, others = fold == of, (fold != of) & (fold != without)
    regression = fit_regression(features[others], dice[others])
    residuals = to_scale(dice[own]) - regression(features[own])
    return FoldResiduals(regression=regression, residuals=tuple(residuals.tolist()))


def fit_regression(features: np.ndarray, dice: np.ndarray) -> Regression:
    """Ridge regression of log(Dice / (1 - Dice)) (n,) on standardised features (n, P)."""
    scaler = StandardScaler().fit(features)
    ridge = RidgeCV(PENALTIES).fit(scaler.transform(features), to_scale(dice))
    return Regression(
        centre=tuple(scaler.mean_.tolist()),
        scale=tuple(scaler.scale_.tolist()),
        lowest=tuple(features.min(axis=0).tolist()),
        highest=tuple(features.max(axis=0).tolist()),
        weights=tuple(ridge.coef_.tolist()),
        intercept=float(ridge.intercept_),
    )


def check_dice_models(found: FeaturesAndDice) -> DiceCheck | None:
    """How expectations and intervals compare with the Dice of cases that nothing was fitted to: each fold in turn is left out,
    residuals included. None where no class has enough cases in three folds."""
    expected, classes = np.full(found.dice.shape, np.nan), {}
    for k, name in enumerate(found.names):
        usable = found.usable()[:, k]
        if usable.sum() < FEWEST_CASES or len(set(found.fold[usable])) < 3:
            continue
        predicted = left_out_expectations(found.fold[usable], found.features[usable, k], found.dice[usable, k])
        expected[usable, k] = [each.expected for each in predicted]
        classes[name] = check_class(found.dice[usable, k], predicted)
    return DiceCheck(classes=classes, worst_found=worst_found(found.dice, expected)) if classes else None


def left_out_expectations(fold: np.ndarray, features: np.ndarray, dice: np.ndarray) -> list[ExpectedDice]:
    """Of every case, from the cases of other folds alone."""
    found: list[ExpectedDice | None] = [None] * len(dice)
    folds = sorted(set(fold.tolist()))
    for left_out in folds:
        others = [fold_residuals(fold, features, dice, of=f, without=left_out) for f in folds if f != left_out]
        model = DiceModel(folds={str(i): other for i, other in enumerate(others)}, always_there=False)
        for i in np.flatnonzero(fold == left_out):
            found[i] = model(dict.fromkeys(model.folds, features[i]))
    return [each for each in found if each is not None]


def check_class(dice: np.ndarray, predicted: Sequence[ExpectedDice]) -> ClassCheck:
    inside = sum(each.low <= value <= each.high for value, each in zip(dice.tolist(), predicted, strict=True))
    return ClassCheck(
        cases=len(dice),
        coverage=inside / len(dice),
        width=float(np.mean([each.high - each.low for each in predicted])),
        constant_width=narrowest(dice, inside),
        error=float(np.mean([abs(each.expected - value) for value, each in zip(dice, predicted, strict=True)])),
    )


def narrowest(values: np.ndarray, count: int) -> float:
    """Width of the narrowest interval that holds ``count`` of the values.

    >>> narrowest(np.array([0.1, 0.8, 0.7, 0.9]), 3)
    0.2
    """
    ordered = np.sort(values)
    return round(float((ordered[count - 1 :] - ordered[: len(ordered) - count + 1]).min()), 10) if count else 0.0


def worst_found(dice: np.ndarray, expected: np.ndarray) -> float | None:
    """Share of the worst tenth of the cases, by mean Dice (n, classes), that is in the first fifth by the expected one."""
    both = np.isfinite(dice) & np.isfinite(expected)
    dice, expected = (
        np.nanmean(np.where(both, values, np.nan)[both.any(axis=1)], axis=1) for values in (dice, expected)
    )
    if not len(dice):
        return None
    worst = set(np.argsort(dice, kind="stable")[: math.ceil(len(dice) / 10)].tolist())
    first = np.argsort(expected, kind="stable")[: math.ceil(len(dice) / 5)].tolist()
    return len(worst.intersection(first)) / len(worst)
