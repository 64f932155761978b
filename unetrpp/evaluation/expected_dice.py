"""Fitting the expected Dice (``unetrpp.inference.expected_dice``) to the cross-validation, and checking it there."""

import math
from collections.abc import Mapping, Sequence
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
    FoldCases,
    Regression,
    to_scale,
)

PENALTIES = np.logspace(0, 4, 17)  # of the ridge regression; leave-one-out chooses
PARTS = 10
FEWEST_FITTED = 2  # cases; leave-one-out takes two


@dataclass(frozen=True)
class FeaturesAndDice:
    """Of the cases of the cross-validation, each predicted by the fold that held it out.

    Attributes:
        fold: (n,), names of the folds.
        part: (n,), numbers from 0; each has cases of all folds, and all cases of a patient.
        features: (n, classes, P), NaN where nothing of the class is predicted.
        dice: (n, classes), NaN where it is not defined.
        names: of the classes.
        always_there: of each class, whether every reference has it.
    """

    fold: np.ndarray
    part: np.ndarray
    features: np.ndarray
    dice: np.ndarray
    names: tuple[str, ...]
    always_there: tuple[bool, ...]

    def usable(self) -> np.ndarray:
        """(n, classes) bool: something of the class is predicted, and its Dice is defined."""
        usable: np.ndarray = np.isfinite(self.dice) & np.isfinite(self.features).all(axis=2)
        return usable

    def of_class(self, k: int) -> "ClassCases":
        """The usable cases of class ``k``."""
        usable = self.usable()[:, k]
        return ClassCases(self.fold[usable], self.part[usable], self.features[usable, k], self.dice[usable, k])


@dataclass(frozen=True)
class ClassCases:
    """Of one class, the cases that can be used: fold and part (n,), features (n, P), Dice (n,)."""

    fold: np.ndarray
    part: np.ndarray
    features: np.ndarray
    dice: np.ndarray

    @property
    def enough(self) -> bool:
        """Whether there is something to fit to when two parts are left out, which a few patients with many cases each would prevent."""
        largest = np.sort(np.bincount(self.part))[-2:].sum()
        return len(self.dice) >= FEWEST_CASES and len(self.dice) - int(largest) >= FEWEST_FITTED

    def where(self, chosen: np.ndarray) -> "ClassCases":
        return ClassCases(self.fold[chosen], self.part[chosen], self.features[chosen], self.dice[chosen])

    def without_features(self) -> "ClassCases":
        """The same with one feature that is alike for all."""
        return ClassCases(self.fold, self.part, np.zeros((len(self.dice), 1)), self.dice)


def features_and_dice(
    scheme: LabelScheme, features: np.ndarray, cases: Sequence[tuple[str, CaseScores]], groups: Mapping[str, str]
) -> FeaturesAndDice:
    """The features (n, classes, P) of ``cases``, each with its fold's name, beside their scores.

    Args:
        groups: case -> patient, where patients are known.
    """
    scored = scored_classes(scheme)
    values = [[case.metrics[each.key] for each in scored] for _, case in cases]
    dice = [[np.nan if metrics["Dice"] is None else metrics["Dice"] for metrics in case] for case in values]
    patients = [groups.get(case.case, case.case) for _, case in cases]
    number = {patient: i for i, patient in enumerate(dict.fromkeys(patients))}
    return FeaturesAndDice(
        fold=np.array([fold for fold, _ in cases]),
        part=np.array([number[patient] % PARTS for patient in patients]),
        features=features,
        dice=np.array(dice, np.float64),
        names=tuple(each.name for each in scored),
        always_there=tuple(all(case[k]["n_ref"] for case in values) for k in range(len(scored))),
    )


def fit_dice_models(found: FeaturesAndDice) -> dict[str, DiceModel]:
    """The model of every class that has enough cases."""
    models = {}
    for k, name in enumerate(found.names):
        cases = found.of_class(k)
        if cases.enough:
            models[name] = fit_dice_model(cases, always_there=found.always_there[k])
    return models


def fit_dice_model(cases: ClassCases, *, always_there: bool) -> DiceModel:
    """The model of one class."""
    parts = sorted(set(cases.part.tolist()))
    means = {name: cases.features[cases.fold == name].mean(axis=0) for name in sorted(set(cases.fold.tolist()))}
    features = cases.features - np.stack([means[name] for name in cases.fold])
    scaled, residuals, regressions = to_scale(cases.dice), np.zeros(len(cases.dice)), []
    for part in parts:
        own = cases.part == part
        regressions.append(fit_regression(features[~own], scaled[~own]))
        residuals[own] = scaled[own] - regressions[-1](features[own])
    folds = {}
    for name, mean in means.items():
        held_out = cases.fold == name
        folds[name] = FoldCases(
            mean=tuple(mean.tolist()),
            parts=tuple(parts.index(part) for part in cases.part[held_out].tolist()),
            residuals=tuple(residuals[held_out].tolist()),
        )
    return DiceModel(regressions=tuple(regressions), folds=folds, always_there=always_there)


def fit_regression(features: np.ndarray, scaled: np.ndarray) -> Regression:
    """Ridge regression of log(Dice / (1 - Dice)) (n,) on standardised features (n, P)."""
    scaler = StandardScaler().fit(features)
    ridge = RidgeCV(PENALTIES).fit(scaler.transform(features), scaled)
    return Regression(
        centre=tuple(scaler.mean_.tolist()),
        scale=tuple(scaler.scale_.tolist()),
        lowest=tuple(features.min(axis=0).tolist()),
        highest=tuple(features.max(axis=0).tolist()),
        weights=tuple(ridge.coef_.tolist()),
        intercept=float(ridge.intercept_),
    )


def check_dice_models(found: FeaturesAndDice) -> DiceCheck | None:
    """How expectations and intervals compare with the Dice of cases that nothing was fitted to: each part in turn is left out,
    residuals included. None where no class has enough cases."""
    expected, classes = np.full(found.dice.shape, np.nan), {}
    for k, name in enumerate(found.names):
        cases = found.of_class(k)
        if not cases.enough:
            continue
        predicted, constant = left_out_expectations(cases), left_out_expectations(cases.without_features())
        expected[found.usable()[:, k], k] = [each.expected for each in predicted]
        classes[name] = check_class(cases.dice, predicted, constant)
    return DiceCheck(classes=classes, worst_found=worst_found(found.dice, expected)) if classes else None


def left_out_expectations(cases: ClassCases) -> list[ExpectedDice]:
    """Of every case, by a model of the cases of other parts alone, from its own fold's features.

    A new case has the features of every fold; a validation case only those of the fold that held it out, which here stand for all.
    """
    found: list[ExpectedDice | None] = [None] * len(cases.dice)
    for part in sorted(set(cases.part.tolist())):
        model = fit_dice_model(cases.where(cases.part != part), always_there=True)
        for i in np.flatnonzero(cases.part == part):
            own = model.folds.get(str(cases.fold[i]))
            relative = cases.features[i] - (own.mean if own else cases.features.mean(axis=0))
            found[i] = model({name: relative + fold.mean for name, fold in model.folds.items()})
    return [each for each in found if each is not None]


def check_class(dice: np.ndarray, predicted: Sequence[ExpectedDice], constant: Sequence[ExpectedDice]) -> ClassCheck:
    """Args:
    constant: of the same cases, from the same residuals without features.
    """
    return ClassCheck(
        cases=len(dice),
        coverage=coverage(dice, predicted),
        width=float(np.mean([each.high - each.low for each in predicted])),
        constant_coverage=coverage(dice, constant),
        constant_width=float(np.mean([each.high - each.low for each in constant])),
        error=float(np.mean([abs(each.expected - value) for value, each in zip(dice, predicted, strict=True)])),
    )


def coverage(dice: np.ndarray, intervals: Sequence[ExpectedDice]) -> float:
    """Share of the values that lie in their interval."""
    pairs = zip(dice.tolist(), intervals, strict=True)
    inside = sum(round(each.low, 4) <= round(value, 4) <= round(each.high, 4) for value, each in pairs)
    return float(inside / len(dice))


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
