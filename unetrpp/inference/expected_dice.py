"""The Dice that a segmentation can be expected to have, with an interval: cross-conformal prediction on the cross-validation.

Every validation case was predicted by a fold that did not train on it, so its Dice and its features (``case_features``) are known. A
regression that has not seen fold k gives the centre of each of its cases, and the case's residual from it. A new case is predicted by
fold k, too; its centre by the same regression plus these residuals are as many Dice values that it may have, and the values of all
folds together are its distribution: their mean is expected, and the interval comes from their order (CV+ of Barber et al. 2021,
Predictive inference with the jackknife+). All of this is on the scale of log(Dice / (1 - Dice)), where the spread of good and of
poor cases is alike.
"""

import math
from collections.abc import Mapping

import numpy as np
from scipy.special import expit, logit

from unetrpp.core.files import Record

TAIL = 0.05  # probability of a Dice below the interval, and of one above it
FEWEST_CASES = 10  # with a class, from which on its Dice is modelled
SMALLEST = 0.005  # a Dice closer to 0 or 1 counts as this far from it


class ExpectedDice(Record, frozen=True, kw_only=True):
    """Of one class of a case: the mean of the Dice values that it may have, and an interval with 90% of them."""

    expected: float
    low: float
    high: float


class Regression(Record, frozen=True, kw_only=True):
    """A linear one, of standardised features."""

    centre: tuple[float, ...]
    scale: tuple[float, ...]
    lowest: tuple[float, ...]  # of the cases that it was fitted to
    highest: tuple[float, ...]
    weights: tuple[float, ...]
    intercept: float

    def __call__(self, rows: np.ndarray) -> np.ndarray:
        """Features (n, P) -> (n,) on the scale of log(Dice / (1 - Dice)). It is not extrapolated: a feature beyond those that it
        was fitted to counts as the nearest of them."""
        known = np.clip(rows, self.lowest, self.highest)
        values: np.ndarray = (known - self.centre) / self.scale @ np.array(self.weights) + self.intercept
        return values


class FoldResiduals(Record, frozen=True, kw_only=True):
    """Of the cases of one fold, from the regression that was fitted to those of all other folds."""

    regression: Regression
    residuals: tuple[float, ...]


class ClassCheck(Record, frozen=True, kw_only=True):
    """Of one class: how the intervals of cases that nothing was fitted to compare with their Dice."""

    cases: int
    coverage: float  # share of the cases whose Dice is in its interval
    width: float  # mean of the intervals
    constant_width: float  # of the narrowest interval, the same for all cases, that holds as many of them
    error: float  # mean absolute difference between expected and true Dice


class DiceCheck(Record, frozen=True, kw_only=True):
    """How good expectations were on the cross-validation, each fold left out in turn."""

    classes: dict[str, ClassCheck]
    worst_found: float | None  # share of the worst tenth of the cases in the first fifth of the review order


class DiceModel(Record, frozen=True, kw_only=True):
    """How the Dice of one class follows from its features."""

    folds: dict[str, FoldResiduals]  # by name of the fold
    always_there: bool  # every training case has the class

    def __call__(self, features: Mapping[str, np.ndarray]) -> ExpectedDice | None:
        """The expected Dice of a case, from the features (P,) of each fold that predicts it.

        Where no fold predicts any of the class, it is 0 if every training case has it, else None: nothing tells whether it should be
        there. Folds that predict nothing of it do not count.
        """
        values = [
            self.folds[fold].regression(row[None]) + self.folds[fold].residuals
            for fold, row in features.items()
            if fold in self.folds and np.isfinite(row).all()
        ]
        if not values:
            return ExpectedDice(expected=0.0, low=0.0, high=0.0) if self.always_there else None
        return summary_of(np.concatenate(values))


def to_scale(dice: np.ndarray) -> np.ndarray:
    """log(Dice / (1 - Dice)), finite."""
    values: np.ndarray = logit(np.clip(dice, SMALLEST, 1 - SMALLEST))
    return values


def summary_of(values: np.ndarray) -> ExpectedDice:
    """Of the values (n,) that a case may have, on the scale of log(Dice / (1 - Dice)).

    The interval is from the k-th lowest to the k-th highest of them, k = floor(0.05 (n + 1)): a further value of the same
    distribution lies between these with a probability of 90% or more. With so few values that k is 0 it is from 0 to 1.
    """
    ordered = np.sort(expit(values))
    k = math.floor(TAIL * (len(ordered) + 1))
    low, high = (ordered[k - 1], ordered[-k]) if k else (0.0, 1.0)
    return ExpectedDice(expected=round(float(ordered.mean()), 4), low=round(float(low), 4), high=round(float(high), 4))
