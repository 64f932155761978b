"""Modalities that are recognised from their values."""

import numpy as np
import pytest

from unetrpp.dataset.modality import check_modality


@pytest.fixture
def ct():
    """Air around soft tissue with a little bone."""
    random = np.random.default_rng(0)
    volume = np.full((30, 30, 30), -1000.0)
    volume[5:25, 5:25, 5:25] = random.normal(40, 30, (20, 20, 20))
    volume[10:13, 10:13, 10:13] = 900
    return volume.astype(np.float32)


def test_a_correct_ct_and_a_correct_mr(ct):
    assert list(check_modality(ct, "CT")) == []
    assert list(check_modality(np.abs(ct) % 400, "T1")) == []


def test_hounsfield_units_under_another_name_give_a_warning(ct):
    ((message, fatal),) = check_modality(ct, "T1")
    assert "looks like Hounsfield units" in message
    assert not fatal


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda ct: ct + 1024, "no value below 0"),
        (lambda ct: (ct + 1000) / 2000, "are not Hounsfield units"),
        (lambda ct: np.where(ct < -500, 0, ct), "a background of 0 and no air"),
    ],
)
def test_a_ct_without_hounsfield_units_is_an_error(ct, change, words):
    ((message, fatal),) = check_modality(change(ct), "CT")
    assert words in message
    assert 'if it is right, add "check_modality": false to dataset.json' in message
    assert fatal


@pytest.mark.parametrize(
    "values",
    [
        np.random.default_rng(0).normal(60, 15, 8000).clip(0),  # parenchyma of a liver, masked with 0
        np.random.default_rng(0).normal(60, 15, 8000).clip(5) + 1024,  # the same with an offset: no air to tell by
        np.concatenate([np.random.default_rng(0).uniform(0, 300, 5000), np.linspace(300, 2500, 3000)]),  # a jaw
        np.random.default_rng(0).uniform(0, 255, 8000).round(),  # windowed to bytes
    ],
)
def test_a_ct_without_negative_values_may_be_a_crop_of_an_organ(values):
    ((message, fatal),) = check_modality(values.reshape(20, 20, 20).astype(np.float32), "CT")
    assert "has no value below 0" in message
    assert "as in a crop of an organ" in message
    assert '"check_modality": false' in message
    assert not fatal


def test_an_offset_is_recognised_by_air_and_soft_tissue(ct):
    chest = np.where(np.indices(ct.shape)[0] < 12, np.minimum(ct, -800), ct) + 1024  # a third of it is lung
    ((message, fatal),) = check_modality(chest.clip(0), "CT")
    assert "subtract 1024" in message
    assert fatal
