"""Normalisation in closed form."""

import numpy as np
import pytest

from unetrpp.core.errors import UserError
from unetrpp.plans.fingerprint import IntensityStatistics
from unetrpp.plans.plans import Normalization
from unetrpp.preprocessing.normalize import normalize

STATISTICS = IntensityStatistics(
    mean=40.0, median=41.0, std=20.0, minimum=-900.0, maximum=1500.0, percentile_00_5=-100.0, percentile_99_5=200.0
)


def plan(scheme, masked=False):
    return Normalization(channel="x", scheme=scheme, statistics=STATISTICS, masked=masked)


@pytest.fixture
def channel():
    return np.random.default_rng(0).normal(100, 200, (6, 7, 8)).astype(np.float32).clip(0, None)


def test_ct_clips_and_uses_the_datasets_statistics(channel):
    expected = (channel.clip(-100, 200) - 40) / 20
    np.testing.assert_allclose(normalize(channel.copy(), plan("ct"), None), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("factor", [1.0, 1e4])
def test_zscore(channel, factor):
    scaled = channel * np.float32(factor)
    expected = (scaled.astype(float) - scaled.mean(dtype=float)) / scaled.std(dtype=float)
    np.testing.assert_allclose(normalize(scaled.copy(), plan("zscore"), None), expected, atol=1e-5)


def test_masked_zscore_is_zero_outside(channel):
    mask = channel > 0
    out = normalize(channel.copy(), plan("zscore", masked=True), mask)
    assert (out[~mask] == 0).all()
    np.testing.assert_allclose([out[mask].mean(), out[mask].std()], [0, 1], atol=1e-5)


@pytest.mark.parametrize("value", [np.float32(-3.4028235e38), np.float32(1e20)])
@pytest.mark.parametrize("masked", [False, True])
def test_an_absurd_voxel_does_not_make_the_others_zero(channel, value, masked):
    channel[3, 4, 5] = value
    with pytest.raises(UserError, match=r"channel 'x' holds values too large for a standard deviation .* replace"):
        normalize(channel, plan("zscore", masked), channel != 0)


def test_a_constant_image_becomes_zero():
    assert (normalize(np.full((2, 3, 4), 7, np.float32), plan("zscore"), None) == 0).all()


def test_rescaling(channel):
    out = normalize(channel.copy(), plan("rescale_0_1"), None)
    assert (out.min(), out.max()) == (0, 1)
    np.testing.assert_array_equal(normalize(channel.copy(), plan("none"), None), channel)


def test_rgb_takes_bytes_only(channel):
    scaled = normalize(channel.clip(0, 255), plan("rgb_to_0_1"), None)
    np.testing.assert_allclose(scaled, channel.clip(0, 255) / 255, rtol=1e-6)
    with pytest.raises(UserError, match="RGB values are 0 to 255"):
        normalize(channel + 300, plan("rgb_to_0_1"), None)


def test_the_deviation_of_a_large_image_is_exact():
    """Where large values come first, a sum of squares in float32 loses the small ones that follow."""
    values = np.random.default_rng(0).normal(0, 1, (16, 1024, 1024)).astype(np.float32)
    values[:4] = 20 + 300 * values[:4]
    expected = 1 / values.std(dtype=float)
    scaled = normalize(values.copy(), plan("zscore"), None)
    step = float(scaled[0, 0, 0] - scaled[-1, -1, -1]) / float(values[0, 0, 0] - values[-1, -1, -1])
    np.testing.assert_allclose(step, expected, rtol=2e-6)


def test_a_masked_image_of_background_alone_stays():
    blank = np.zeros((3, 4, 5), np.float32)
    out = normalize(blank.copy(), plan("zscore", masked=True), np.zeros(blank.shape, bool))
    np.testing.assert_array_equal(out, blank)
