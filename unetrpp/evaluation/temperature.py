"""Temperature scaling (Guo et al. 2017, On Calibration of Modern Neural Networks), and how good probabilities are.

Everything here takes a weighted sample of voxels (:class:`VoxelSample`).
"""

from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
from scipy.optimize import minimize_scalar
from scipy.special import logsumexp

from unetrpp.dataset.labels import LabelScheme
from unetrpp.evaluation.voxel_sample import VoxelSample
from unetrpp.inference.calibration import Reliability, Temperatures, temperature_count

LOWEST, HIGHEST = 0.1, 10.0  # temperatures
BINS = 15  # of the reliability diagram, as in Guo et al.
THRESHOLDS = tuple(round(i / 100, 2) for i in range(1, 100))


def fit_temperatures(sample: VoxelSample, scheme: LabelScheme) -> Temperatures:
    """The temperatures between 0.1 and 10 with the lowest log loss: one of a softmax, or one for each region."""
    return tuple(_lowest(partial(_log_losses, sample, scheme, k)) for k in range(temperature_count(scheme)))


def _lowest(loss: Callable[[float], float]) -> float:
    """The loss is convex in 1/T, so one search between bounds finds its minimum; 1 where nothing is lower than there."""
    found = minimize_scalar(loss, bounds=(1 / HIGHEST, 1 / LOWEST), method="bounded", options={"xatol": 1e-6})
    return round(float(1 / found.x), 4) if found.fun < loss(1.0) else 1.0


def log_loss(sample: VoxelSample, scheme: LabelScheme, temperatures: Temperatures) -> float:
    """Mean negative log likelihood of what is true, in nats; with regions the mean over them."""
    losses = [_log_losses(sample, scheme, k, 1 / temperature) for k, temperature in enumerate(temperatures)]
    return float(np.mean(losses))


def _log_losses(sample: VoxelSample, scheme: LabelScheme, k: int, inverse: float) -> float:
    """Of the softmax, or of region ``k``, at the temperature 1 / ``inverse``."""
    if scheme.overlapping:
        inside = scheme.membership()[k][sample.truth]
        logits = sample.logits[:, k].astype(np.float64) * inverse
        losses = np.logaddexp(0, np.where(inside, -logits, logits))
    else:
        logits = sample.logits.astype(np.float64) * inverse
        losses = logsumexp(logits, axis=1) - np.take_along_axis(logits, sample.truth[:, None].astype(np.intp), 1)[:, 0]
    return float(np.average(losses, weights=sample.weight))


def calibrated(sample: VoxelSample, scheme: LabelScheme, temperatures: Temperatures) -> np.ndarray:
    """Probabilities (n, K) after the temperature."""
    logits = sample.logits.astype(np.float64) / np.array(temperatures)
    total = np.logaddexp(0, logits) if scheme.overlapping else logsumexp(logits, axis=1, keepdims=True)
    probability: np.ndarray = np.exp(logits - total)
    return probability


def reliability(probability: np.ndarray, true: np.ndarray, weight: np.ndarray) -> Reliability:
    """Of one class: its ``probability`` (n,), where it is ``true`` (n,), and the ``weight`` of the voxels (n,).

    The expected calibration error is the mean over the voxels of the difference, in a voxel's bin, between mean probability
    and frequency (Naeini et al. 2015). The Brier score is the mean squared difference of probability and truth (1 or 0).
    """
    index = np.minimum((probability * BINS).astype(np.intp), BINS - 1)
    total, p_sum, hits = (
        np.bincount(index, weight * values, BINS) for values in (np.ones_like(probability), probability, true)
    )
    filled = total > 0
    mean, frequency = (np.divide(part, total, out=np.zeros(BINS), where=filled) for part in (p_sum, hits))
    return Reliability(
        share=tuple((total / weight.sum()).tolist()),
        mean_probability=_defined(mean, filled),
        frequency=_defined(frequency, filled),
        expected_calibration_error=float(np.abs(p_sum - hits).sum() / weight.sum()),
        brier_score=float(np.average((probability - true) ** 2, weights=weight)),
    )


def precision_and_recall(
    probability: np.ndarray, true: np.ndarray, weight: np.ndarray, thresholds: Sequence[float] = THRESHOLDS
) -> tuple[tuple[float | None, ...], tuple[float | None, ...]]:
    """Of one class that is predicted where its ``probability`` (n,) is at least each of ``thresholds`` (ascending).

    They are over all voxels of all cases together, so a large lesion weighs more than a small one.
    """
    reached = np.searchsorted(thresholds, probability, side="right")  # how many thresholds it reaches
    count = len(thresholds) + 1
    predicted, hits = (
        np.bincount(reached, weight * values, count)[::-1].cumsum()[::-1][1:]
        for values in (np.ones_like(probability), true)
    )
    size = float(weight[true].sum())
    precision = np.divide(hits, predicted, out=np.zeros(count - 1), where=predicted > 0)
    recall = hits / size if size else np.zeros(count - 1)
    return _defined(precision, predicted > 0), _defined(recall, np.full(count - 1, size > 0))


def _defined(values: np.ndarray, where: np.ndarray) -> tuple[float | None, ...]:
    return tuple(float(value) if known else None for value, known in zip(values, where, strict=True))
