"""The sample of voxels: bounded, unbiased, independent of slabs, and without unknown voxels."""

import numpy as np
import pytest
from scipy.special import softmax

from unetrpp.dataset.labels import LabelScheme, Region
from unetrpp.evaluation import voxel_sample
from unetrpp.evaluation.temperature import log_loss
from unetrpp.evaluation.voxel_sample import VoxelSample, VoxelSampler, is_sure

SCHEME = LabelScheme(names=("background", "a", "b"), values=(0, 1, 2), ignore_value=9)
REGIONS = LabelScheme(
    names=("background", "x", "y"),
    values=(0, 1, 2),
    regions=(Region(name="whole", members=(1, 2), value=1), Region(name="core", members=(2,), value=2)),
)


@pytest.fixture
def case():
    """Probabilities (3, n) and truth (n,), a tenth of it under the ignore label; most voxels are sure and right."""
    rng = np.random.default_rng(0)
    truth = rng.choice(3, 30_000, p=[0.9, 0.07, 0.03])
    z = rng.normal(0, 1.5, (3, 30_000))
    z[truth, np.arange(30_000)] += np.where(rng.random(30_000) < 0.8, 14, 1)
    truth[rng.random(30_000) < 0.1] = 3
    return softmax(z, axis=0).astype(np.float32), truth


def sampled(case, cuts=(), scheme=SCHEME):
    probabilities, truth = case
    sampler = VoxelSampler(scheme, 7)
    for part, known in zip(np.split(probabilities, cuts, axis=1), np.split(truth, cuts), strict=True):
        sampler.add(part, known)
    return sampler.sample()


@pytest.mark.parametrize("cuts", [[10, 11, 12_345], range(97, 30_000, 997)])
def test_slabs_change_nothing(case, cuts, monkeypatch):
    monkeypatch.setattr(voxel_sample, "MOST_DOUBTFUL", 500)
    monkeypatch.setattr(voxel_sample, "MOST_SURE", 100)
    whole, parts = sampled(case), sampled(case, list(cuts))
    for name in ("logits", "truth", "weight"):
        np.testing.assert_array_equal(getattr(whole, name), getattr(parts, name))


def test_a_small_case_is_taken_whole_but_for_ignored_voxels(case, monkeypatch):
    monkeypatch.setattr(voxel_sample, "MOST_SURE", 30_000)
    monkeypatch.setattr(voxel_sample, "MOST_DOUBTFUL", 30_000)
    sample, (probabilities, truth) = sampled(case), case
    known = truth < 3
    assert len(sample.truth) == known.sum()
    assert set(sample.weight) == {1.0}
    changed = probabilities.copy()
    changed[:, ~known] = 1 / 3  # under the ignore label anything may stand
    again = sampled((changed, truth))
    np.testing.assert_array_equal(again.logits, sample.logits)
    expected = -np.log(np.take_along_axis(probabilities, np.minimum(truth, 2)[None], 0)[0][known]).mean()
    assert log_loss(sample, SCHEME, (1.0,)) == pytest.approx(expected, rel=1e-4)


def test_the_sample_is_bounded_and_its_weights_stand_for_all_voxels(case, monkeypatch):
    monkeypatch.setattr(voxel_sample, "MOST_DOUBTFUL", 2000)
    monkeypatch.setattr(voxel_sample, "MOST_SURE", 300)
    sample, truth = sampled(case), case[1]
    assert len(sample.truth) == 2300
    assert sample.weight.sum() == pytest.approx((truth < 3).sum())
    whole = VoxelSample(np.log(case[0].T[truth < 3]), truth[truth < 3], np.ones((truth < 3).sum()))
    assert log_loss(sample, SCHEME, (1.0,)) == pytest.approx(log_loss(whole, SCHEME, (1.0,)), rel=0.05)


def test_many_classes_lower_the_bound(monkeypatch):
    monkeypatch.setattr(voxel_sample, "MOST_VALUES", 30)
    sample = sampled((np.full((3, 100), 1 / 3, np.float32), np.zeros(100, int)))
    assert len(sample.truth) == 10


def test_all_cases_together_are_thinned_without_bias():
    one = VoxelSample(np.zeros((1000, 2), np.float32), np.arange(1000) % 2, np.ones(1000))
    joined = VoxelSample.joined([one, one], most_values=1000)
    assert len(joined.truth) == 500
    assert joined.weight.sum() == pytest.approx(2000)
    assert np.average(joined.truth, weights=joined.weight) == pytest.approx(0.5, abs=0.06)


def test_regions_are_sure_where_all_of_them_are():
    probabilities = np.array([[0.9999, 0.9999, 0.0001, 0.9999], [0.9999, 0.4, 0.0001, 0.0001]], np.float32)
    np.testing.assert_array_equal(is_sure(probabilities, np.array([2, 1, 0, 1]), REGIONS), [True, False, True, True])
    sample = sampled((probabilities, np.array([2, 1, 0, 1])), scheme=REGIONS)
    np.testing.assert_allclose(sorted(1 / (1 + np.exp(-sample.logits[:, 1]))), sorted(probabilities[1]), rtol=1e-3)


def test_an_empty_case():
    assert sampled((np.zeros((3, 4), np.float32), np.full(4, 3))).logits.shape == (0, 3)
