"""Grey levels: exact where they can be, fine in the soft tissue of a CT, and never NaN."""

import numpy as np
import pytest

from unetrpp.core.errors import UserError
from unetrpp.report.grey_levels import first_window, grey_levels, nearest_level


def shown(values: np.ndarray, channel: str = "MR", count: int = 256) -> np.ndarray:
    levels = grey_levels(values, channel, count)
    assert len(levels) <= count
    assert levels == sorted(set(levels))
    return np.array(levels)[nearest_level(values, levels)]


def test_photographs_stay_exact():
    values = np.random.default_rng(0).integers(3, 250, 5000).astype(np.float32)
    np.testing.assert_array_equal(shown(values), values)


def test_other_intensities_are_rounded_to_equal_steps():
    values = np.random.default_rng(0).normal(1000, 200, 20_000)
    low, high = np.percentile(values, (0.05, 99.95))
    inside = (values > low) & (values < high)
    assert np.abs(shown(values) - values)[inside].max() <= (high - low) / 255 / 2 * 1.001
    assert np.abs(shown(values, count=64) - values)[inside].max() <= (high - low) / 63 / 2 * 1.001


def test_soft_tissue_of_a_ct_has_fine_steps():
    values = np.linspace(-1024, 2000, 50_000)
    error = np.abs(shown(values, "CT") - values)
    assert error[(values > -149) & (values < 249)].max() <= 1.26
    assert error.max() < 14.1
    assert first_window(values, "ct") == (-160, 240)


@pytest.mark.parametrize("values", [np.zeros(9), np.full(9, 0.3), np.array([1.5])])
def test_an_image_of_one_value_has_a_window(values):
    low, high = first_window(values, "MR")
    assert low < high
    np.testing.assert_allclose(shown(values), values, rtol=1e-6)


def test_nan_is_refused():
    with pytest.raises(UserError, match="NaN or infinite"):
        grey_levels(np.array([0.0, np.nan]), "MR", 256)
