"""The temperature and the thresholds against naive formulas; decisions that a temperature never changes."""

import numpy as np
import pytest
import torch

from tests.inference.test_export import REGIONS, SCHEME, plan, properties
from unetrpp.core.errors import UserError
from unetrpp.inference.averaging import entropy
from unetrpp.inference.export import averaged_slabs, export
from unetrpp.inference.output_rule import OutputRule, channel_thresholds
from unetrpp.preprocessing.grid import CaseGrid

OF = {"classes": (SCHEME, (1.7,)), "regions": (REGIONS, (0.4, 3.0))}


def test_classes_are_powers_divided_by_their_sum():
    p = torch.rand(4, 50).softmax(dim=0)
    power = p.double() ** (1 / 1.7)
    torch.testing.assert_close(OutputRule(SCHEME, (1.7,)).calibrated(p), (power / power.sum(dim=0)).float())


def test_regions_are_powers_divided_by_those_of_both_sides():
    p = torch.rand(2, 50)
    b = 1 / torch.tensor([0.4, 3.0], dtype=torch.float64)[:, None]
    expected = p.double() ** b / (p.double() ** b + (1 - p.double()) ** b)
    torch.testing.assert_close(OutputRule(REGIONS, (0.4, 3.0)).calibrated(p), expected.float(), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("temperature", [0.1, 10.0])
@pytest.mark.parametrize("scheme", [SCHEME, REGIONS])
def test_extremes_stay_finite(temperature, scheme):
    p = torch.tensor([0.0, 1e-38, 1e-7, 0.25, 1.0]).repeat(scheme.outputs, 1)
    if not scheme.overlapping:
        p = torch.cat([1 - 3 * p[:1].clamp(max=0.25), p[1:].clamp(max=0.25)])
    found = OutputRule(scheme, (temperature,) * (len(scheme.regions) or 1)).calibrated(p)
    assert found.isfinite().all()
    assert (found >= 0).all()
    assert (found <= 1).all()


def test_a_temperature_of_1_leaves_the_tensor_alone():
    p = torch.rand(2, 5)
    assert OutputRule(REGIONS, (1.0, 1.0)).calibrated(p) is p
    assert OutputRule(REGIONS).calibrated(p) is p


def logits_with_ties(scheme, folds=2):
    """Few different values, so that many voxels have equal classes or regions at exactly one half."""
    generator = torch.Generator().manual_seed(0)
    return torch.randint(-2, 3, (folds, scheme.outputs, 5, 8, 8), generator=generator).float()


@pytest.mark.parametrize("of", OF)
@pytest.mark.parametrize("averaging", ["probabilities", "logits"])
@pytest.mark.parametrize("shape", [(5, 8, 8), (7, 13, 11)])
def test_labels_never_change_by_a_temperature(of, averaging, shape):
    scheme, temperatures = OF[of]
    grid = CaseGrid(properties((5, 8, 8), shape, (1.0, 1.0, 1.0)), plan((1.0, 1.0, 1.0), labels=scheme))
    logits, rule = logits_with_ties(scheme), OutputRule(scheme, temperatures)
    before = export([logits], grid, averaging=averaging, probabilities=True, uncertainty=True)
    after = export([logits], grid, averaging=averaging, rule=rule, probabilities=True, uncertainty=True)
    np.testing.assert_array_equal(after.decisions, before.decisions)
    without_maps = export([logits], grid, averaging=averaging, rule=rule)
    if shape == (5, 8, 8):  # elsewhere a plain prediction rounds otherwise at ties
        np.testing.assert_array_equal(without_maps.decisions, before.decisions)
    mean = torch.cat(list(averaged_slabs([logits], grid, averaging=averaging)), dim=1)
    expected = rule.calibrated(mean)
    assert after.probabilities is not None
    assert after.uncertainty is not None
    assert before.uncertainty is not None
    np.testing.assert_allclose(after.probabilities, expected, atol=1e-3)
    np.testing.assert_array_equal(after.uncertainty[1], before.uncertainty[1])  # disagreement
    if shape == (5, 8, 8):
        np.testing.assert_allclose(after.uncertainty[0], entropy(expected, scheme), atol=1e-5)


@pytest.mark.parametrize("of", OF)
def test_slabs_change_nothing(of):
    scheme, temperatures = OF[of]
    grid = CaseGrid(properties((5, 8, 8), (9, 8, 8), (1.0, 1.0, 1.0)), plan((1.0, 1.0, 1.0), labels=scheme))
    logits, rule = logits_with_ties(scheme), OutputRule(scheme, temperatures, {1: 0.3})
    whole = export([logits], grid, rule=rule, probabilities=True)
    parts = export(list(logits.split([1, 3, 1], dim=2)), grid, rule=rule, probabilities=True)
    np.testing.assert_array_equal(parts.decisions, whole.decisions)
    np.testing.assert_array_equal(parts.probabilities, whole.probabilities)


def naive_class(p, limits):
    reaching = [k for k in limits if p[k] >= limits[k]]
    among = reaching or [k for k in range(len(p)) if k not in limits]
    return min(k for k in among if p[k] == max(p[j] for j in among))


@pytest.mark.parametrize("limits", [{2: 0.2}, {2: 0.8}, {1: 0.25, 3: 0.25}, {1: 0.5, 2: 0.1, 3: 0.9}])
def test_classes_with_a_threshold(limits):
    p = logits_with_ties(SCHEME, 1)[0].softmax(dim=0).flatten(1)
    rule = OutputRule(SCHEME, (1.7,), limits)
    calibrated = rule.calibrated(p).numpy()
    expected = [naive_class(column, limits) for column in calibrated.T]
    np.testing.assert_array_equal(rule.decide(p), expected)
    for k, limit in limits.items():
        assert (calibrated[k][rule.decide(p) == k] >= np.float32(limit)).all()  # never below its threshold


def test_a_threshold_of_one_half_is_the_usual_rule_of_two_classes_but_for_ties():
    from unetrpp.dataset.labels import LabelScheme

    scheme = LabelScheme(names=("background", "lesion"), values=(0, 1))
    p = torch.tensor([[0.6, 0.5, 0.4], [0.4, 0.5, 0.6]])
    assert OutputRule(scheme).decide(p).tolist() == [0, 0, 1]
    assert OutputRule(scheme, (1.0,), {1: 0.5}).decide(p).tolist() == [0, 1, 1]


@pytest.mark.parametrize("limits", [{0: 0.2}, {1: 0.2}, {1: 0.9}, {0: 0.9, 1: 0.5}])
def test_regions_with_a_threshold(limits):
    p = logits_with_ties(REGIONS, 1)[0].sigmoid().flatten(1)
    rule = OutputRule(REGIONS, (0.4, 3.0), limits)
    calibrated, expected = rule.calibrated(p), []
    for i in range(p.shape[1]):
        winner = 0
        for k in range(2):
            won = calibrated[k, i] >= limits[k] if k in limits else p[k, i] > 0.5
            winner = k + 1 if won else winner
        expected.append(winner)
    np.testing.assert_array_equal(rule.decide(p), expected)


def test_thresholds_are_for_known_foreground():
    assert channel_thresholds(SCHEME, {"b": 0.3}) == {2: 0.3}
    assert channel_thresholds(REGIONS, {"core": 0.3}) == {1: 0.3}
    for scheme, name, message in (
        (SCHEME, "background", "'background', which is no foreground class; there is a, b and c"),
        (REGIONS, "x", "'x', which is no region; there is whole and core"),
    ):
        with pytest.raises(UserError, match=message):
            channel_thresholds(scheme, {name: 0.3})
    with pytest.raises(UserError, match="the threshold of 'a' is 1; it must be above 0 and below 1"):
        channel_thresholds(SCHEME, {"a": 1.0})
