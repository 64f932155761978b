"""The Dice that a segmentation can be expected to have, with an interval: cross-conformal prediction on the cross-validation.

Every validation case was predicted by a fold that did not train on it, so its Dice and its features (``case_features``) are known. The
cases are dealt into parts. A regression that has not seen a part gives the centre of each of its cases, and the case's residual from
it. A new case is predicted by every fold in use; with the features of a case's fold, the centre by the regression of its part, plus its
residual, is a Dice that the new case may have. The mean of these values over all cases is expected, and the interval comes from the order
of centre - |residual| and of centre + |residual| (CV+ of Barber et al. 2021, Predictive inference with the jackknife+). All of this
is on the scale of log(Dice / (1 - Dice)), where the spread of good and of poor cases is more alike.

Each fold's network is sure in its own measure, so features count relative to their mean over the cases that the fold held out.
"""

import math
from collections.abc import Mapping

import numpy as np
from scipy.special import expit, logit

from unetrpp.core.files import Record

MISSED = 0.1  # share of the cases whose Dice may lie outside the interval
FEWEST_CASES = 10  # with a class, from which on its Dice is modelled; so k is at least 1
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


class FoldCases(Record, frozen=True, kw_only=True):
    """Of the cases that a fold held out."""

    mean: tuple[float, ...]  # of their features
    parts: tuple[int, ...]
    residuals: tuple[float, ...]  # from the regression that has not seen the part


class ClassCheck(Record, frozen=True, kw_only=True):
    """Of one class: how the intervals of cases that nothing was fitted to compare with their Dice."""

    cases: int
    coverage: float  # share of the cases whose Dice is in its interval
    width: float  # mean of the intervals
    constant_coverage: float  # of intervals that are made in the same way without features
    constant_width: float
    error: float  # mean absolute difference between expected and true Dice


class DiceCheck(Record, frozen=True, kw_only=True):
    """How good expectations were on the cross-validation, each fold left out in turn."""

    classes: dict[str, ClassCheck]
    worst_found: float | None  # share of the worst tenth of the cases in the first fifth of the review order


class DiceModel(Record, frozen=True, kw_only=True):
    """How the Dice of one class follows from its features."""

    regressions: tuple[Regression, ...]  # by part: fitted to the cases of all other parts
    folds: dict[str, FoldCases]  # by name
    always_there: bool  # every training case has the class

    def __call__(self, features: Mapping[str, np.ndarray]) -> ExpectedDice | None:
        """The expected Dice of a case, from the features (P,) of each fold that predicts it.

        Where no fold predicts any of the class, it is 0 if every training case has it, else None: nothing tells whether it should be
        there. Folds that predict nothing of it do not count.
        """
        centres, residuals = [], []
        for name, row in features.items():
            if name in self.folds and np.isfinite(row).all():
                fold = self.folds[name]
                by_part = np.array([regression(row[None] - fold.mean)[0] for regression in self.regressions])
                centres.append(by_part[list(fold.parts)])
                residuals.append(fold.residuals)
        if not centres:
            return ExpectedDice(expected=0.0, low=0.0, high=0.0) if self.always_there else None
        return summary_of(np.concatenate(centres), np.concatenate(residuals))


def to_scale(dice: np.ndarray) -> np.ndarray:
    """log(Dice / (1 - Dice)), finite."""
    values: np.ndarray = logit(np.clip(dice, SMALLEST, 1 - SMALLEST))
    return values


def summary_of(centres: np.ndarray, residuals: np.ndarray) -> ExpectedDice:
    """Of the centres and residuals (n,) of as many cases, on the scale of log(Dice / (1 - Dice)).

    The interval is from the k-th lowest centre - |residual| to the k-th highest centre + |residual|, k = floor(0.1 (n + 1)). With fewer
    than nine cases k is 0, and it is from 0 to 1.
    """
    spread = np.abs(residuals)
    k = math.floor(MISSED * (len(centres) + 1))
    low, high = (expit(np.sort(centres - spread)[k - 1]), expit(np.sort(centres + spread)[-k])) if k else (0.0, 1.0)
    expected = expit(centres + residuals).mean()
    return ExpectedDice(expected=round(float(expected), 4), low=round(float(low), 4), high=round(float(high), 4))
