"""Intensities that cannot be normalised, compared with a standard deviation in float64."""

import numpy as np
import pytest

from unetrpp.dataset.intensities import unusable


@pytest.fixture
def channel():
    return np.random.default_rng(0).normal(100, 20, (6, 7, 8)).astype(np.float32)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, np.int16, np.int64])
def test_usual_values_can_be_used(channel, dtype):
    assert unusable(channel.astype(dtype), "MR") is None
    assert unusable(channel.astype(dtype).transpose(2, 0, 1), "MR") is None


@pytest.mark.parametrize("value", [-3.4028235e38, 1e20, -9.96921e36])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_fill_value_is_named(channel, dtype, value):
    channel = channel.astype(dtype)
    channel[3, 4, 5] = value
    message = str(unusable(channel, "MR"))
    assert message.startswith(f"channel 'MR' holds {value:g}, too large for a standard deviation in float32; ")
    assert message.endswith("replace it by the value of the background")


def test_what_float32_cannot_hold_is_no_infinity(channel):
    doubles = channel.astype(np.float64)
    doubles[0, 0, 0] = 1e300
    assert str(unusable(doubles, "MR")).startswith("channel 'MR' holds 1e+300, too large")
    integers = np.full((300, 8, 8), np.iinfo(np.int64).min)
    assert str(unusable(integers, "MR")).startswith("channel 'MR' holds -9.22337e+18, too large")


def test_numbers_are_counted(channel):
    channel[0, 0, :2] = np.nan, np.inf
    assert unusable(channel, "MR") == "channel 'MR' holds 2 voxels that are NaN or infinite; replace them"


@pytest.mark.parametrize("exponent", range(14, 21))
def test_refused_is_what_float32_cannot_compute(channel, exponent):
    channel[3, 4, 5] = 10.0**exponent
    squares = np.square(channel.astype(np.float64)).sum()
    assert (unusable(channel, "MR") is None) == (squares < np.finfo(np.float32).max)


def test_a_fill_value_that_is_clipped_can_stay(channel):
    channel[0, 0, 0] = -3.4e38
    assert unusable(channel, "CT", clipped=True) is None
    channel[0, 0, 1] = np.nan
    assert "NaN" in str(unusable(channel, "CT", clipped=True))
