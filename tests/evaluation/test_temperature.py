"""Temperatures against closed forms, errors of probabilities against scikit-learn and a naive loop."""

import numpy as np
import pytest
from scipy.special import expit, softmax
from sklearn.calibration import calibration_curve
from sklearn.metrics import brier_score_loss

from unetrpp.dataset.labels import LabelScheme, Region
from unetrpp.evaluation.temperature import (
    BINS,
    calibrated,
    fit_temperatures,
    log_loss,
    precision_and_recall,
    reliability,
)
from unetrpp.evaluation.voxel_sample import VoxelSample

SCHEME = LabelScheme(names=("background", "a", "b", "c"), values=(0, 1, 2, 3))
REGIONS = LabelScheme(
    names=("background", "x", "y"),
    values=(0, 1, 2),
    regions=(Region(name="whole", members=(1, 2), value=1), Region(name="core", members=(2,), value=2)),
)


def too_sure(rng, factor, n=300):
    """Every voxel stands for all classes, each with its true share softmax(z), while the model says softmax(factor z)."""
    z = rng.normal(0, 2, (n, 4))
    logits = np.log(softmax(factor * z, axis=1))
    truth = np.tile(np.arange(4), n)
    return VoxelSample(np.repeat(logits, 4, axis=0).astype(np.float32), truth, softmax(z, axis=1).reshape(-1))


@pytest.mark.parametrize("factor", [0.5, 1.0, 1.7, 4.0])
def test_the_factor_of_a_miscalibrated_softmax_is_found(factor):
    sample = too_sure(np.random.default_rng(0), factor)
    (temperature,) = fit_temperatures(sample, SCHEME)
    assert temperature == pytest.approx(factor, rel=1e-3)
    right = log_loss(sample, SCHEME, (temperature,))
    assert all(log_loss(sample, SCHEME, (other * factor,)) > right for other in (0.9, 1.1))
    expected = softmax(np.log(softmax(sample.logits.astype(float), axis=1)) / factor, axis=1)
    np.testing.assert_allclose(calibrated(sample, SCHEME, (temperature,)), expected, atol=1e-3)


def test_every_region_has_its_own():
    rng = np.random.default_rng(0)
    z = rng.normal(0, 2, (300, 2))
    core, whole = expit(z[:, 1]), expit(z[:, 0])
    shares = np.stack([1 - whole, whole * (1 - core), whole * core], axis=1)  # P(core) is not expit(z_1)
    inside = np.stack([whole, whole * core], axis=1)
    own = np.log(inside / (1 - inside)) * [2.0, 0.5]
    sample = VoxelSample(np.repeat(own, 3, axis=0).astype(np.float32), np.tile(np.arange(3), 300), shares.reshape(-1))
    assert fit_temperatures(sample, REGIONS) == pytest.approx((2.0, 0.5), rel=1e-3)


def test_a_model_that_is_always_right_gets_the_lowest_temperature():
    logits = np.log(np.array([[0.4, 0.2, 0.2, 0.2]] * 3, np.float32))
    sample = VoxelSample(logits, np.zeros(3, int), np.ones(3))
    assert fit_temperatures(sample, SCHEME) == pytest.approx((0.1,), abs=1e-3)


def test_equal_probabilities_keep_a_temperature_of_1():
    sample = VoxelSample(np.log(np.full((3, 4), 0.25, np.float32)), np.arange(3), np.ones(3))
    assert fit_temperatures(sample, SCHEME) == (1.0,)


@pytest.fixture
def binary():
    """Probabilities, truth, and weights."""
    rng = np.random.default_rng(1)
    probability = rng.beta(0.5, 0.5, 2000)
    return probability, rng.random(2000) < probability**2, rng.uniform(0.1, 5, 2000)


def test_reliability_is_scikit_learns(binary):
    probability, true, weight = binary
    found = reliability(probability, true, weight)
    assert found.brier_score == pytest.approx(brier_score_loss(true, probability, sample_weight=weight))
    alike = reliability(probability, true, np.ones(2000))
    frequency, mean = calibration_curve(true, probability, n_bins=BINS)
    np.testing.assert_allclose([f for f in alike.frequency if f is not None], frequency)
    np.testing.assert_allclose([p for p in alike.mean_probability if p is not None], mean)


def test_the_expected_calibration_error_is_that_of_a_naive_loop(binary):
    probability, true, weight = binary
    found, expected = reliability(probability, true, weight), 0.0
    for i in range(BINS):
        inside = (probability >= i / BINS) & (probability < (i + 1) / BINS)
        w = weight[inside]
        expected += (
            w.sum()
            / weight.sum()
            * abs(np.average(probability[inside], weights=w) - np.average(true[inside], weights=w))
        )
        assert found.share[i] == pytest.approx(w.sum() / weight.sum())
    assert found.expected_calibration_error == pytest.approx(expected)


def test_empty_bins_and_a_probability_of_1():
    found = reliability(np.array([1.0, 0.0]), np.array([True, True]), np.ones(2))
    assert found.frequency == (1.0, *[None] * (BINS - 2), 1.0)
    assert found.mean_probability == (0.0, *[None] * (BINS - 2), 1.0)
    assert (found.expected_calibration_error, found.brier_score) == (0.5, 0.5)


def test_precision_and_recall_are_those_of_a_naive_loop(binary):
    probability, true, weight = binary
    probability = np.round(probability, 2)  # many exactly at a threshold
    probability[probability > 0.97] = 0.97
    thresholds = tuple(round(i / 100, 2) for i in range(1, 100))
    precision, recall = precision_and_recall(probability, true, weight)
    for threshold, p, r in zip(thresholds, precision, recall, strict=True):
        predicted = probability >= threshold
        hits = weight[predicted & true].sum()
        assert r == pytest.approx(hits / weight[true].sum())
        assert p == (pytest.approx(hits / weight[predicted].sum()) if predicted.any() else None)
    assert (precision[96] is None, precision[97] is None) == (False, True)


def test_without_a_voxel_of_the_class_there_is_no_recall(binary):
    probability, true, weight = binary
    assert set(precision_and_recall(probability, np.zeros_like(true), weight)[1]) == {None}
