"""Distance maps against scipy's and against pairs of voxels; the weights on shapes of known distance."""

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import distance_transform_edt
from torch.utils._python_dispatch import TorchDispatchMode

from unetrpp.losses import distance as module
from unetrpp.losses.distance import (
    MANY_CLASSES,
    BoundaryWeights,
    ClassMap,
    boundary_distance,
    common_windows,
    grouped,
    truncated_distance,
    union_distance,
    weighable,
)


def two_sided(mask, spacing):
    return np.where(
        mask, distance_transform_edt(mask, sampling=spacing), distance_transform_edt(~mask, sampling=spacing)
    )


def ball(shape, spacing, radius_mm):
    axes = np.meshgrid(*((np.arange(n) - n / 2) * s for n, s in zip(shape, spacing, strict=True)), indexing="ij")
    return sum(a**2 for a in axes) < radius_mm**2


def extent(mask):
    return tuple((int(where.min()), int(where.max())) for where in np.nonzero(np.asarray(mask)))


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10**6), st.integers(2, 3))
def test_extents_of_classes_that_do_not_fill_the_known_voxels(seed, axes):
    rng = np.random.default_rng(seed)
    target = rng.choice(4, (2, *rng.integers(1, 5, axes)), p=(0.5, 0.3, 0.15, 0.05))
    known = rng.random(target.shape) < 0.8
    onehot = np.stack([(target == c) & known for c in range(4)], axis=1)
    found = weighable(torch.from_numpy(onehot), torch.from_numpy(known[:, None]))
    for masks, inside, classes in zip(onehot, known, found, strict=True):
        there = [c for c in range(1, 4) if 0 < masks[c].sum() < inside.sum()]
        assert classes == {c: extent(masks[c]) for c in there}


@pytest.mark.parametrize("spacing", [(1.0, 1.0, 1.0), (3.0, 0.8, 0.8), (0.7, 2.5, 1.1)])
@pytest.mark.parametrize("reach", [2.9, 7.1, 100.0])
def test_the_map_equals_scipys_within_its_reach(spacing, reach):
    rng = np.random.default_rng(0)
    for mask in (ball((12, 20, 18), spacing, 6), rng.random((12, 20, 18)) < 0.02):
        exact = two_sided(mask, spacing)
        valid = torch.ones(mask.shape, dtype=torch.bool)
        got = boundary_distance(torch.from_numpy(mask)[None], valid[None], [spacing], [reach])[0].numpy()
        near = exact < reach - 1e-4
        np.testing.assert_allclose(got[near], exact[near], rtol=1e-6)
        assert np.isinf(got[exact > reach + 1e-4]).all()


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 3), st.floats(0.3, 4))
def test_any_number_of_axes_against_all_pairs_of_voxels(seed, axes, spacing):
    rng = np.random.default_rng(seed)
    spacings = tuple(float(s) for s in rng.uniform(0.5, 2, axes) * spacing)
    sources = rng.random((2, *rng.integers(1, 7, axes))) < 0.2
    got = truncated_distance(torch.from_numpy(sources), [spacings] * 2, [5.0] * 2).numpy()
    for layer, distances in zip(sources, got, strict=True):
        where = np.argwhere(layer) * spacings
        for voxel in np.ndindex(layer.shape):
            exact = min((np.linalg.norm(np.array(voxel) * spacings - w) for w in where), default=np.inf)
            if exact < 4.999:
                assert distances[voxel] == pytest.approx(exact, rel=1e-5, abs=1e-6)
            elif exact > 5.001:
                assert np.isinf(distances[voxel])


def test_ignored_voxels_make_no_boundary():
    mask, valid = torch.zeros(1, 9, dtype=torch.bool), torch.ones(1, 9, dtype=torch.bool)
    mask[0, 4:6] = True
    valid[0, 2:4] = False  # left of the mask nothing is known
    distance = boundary_distance(mask[None], valid[None], [(1.0, 1.0)], [10.0])[0, 0]
    assert distance.tolist()[4:6] == [2, 1]  # to voxel 6, not to the unknown 3
    assert distance[1] == 3  # background beyond the gap still sees the mask


def weights_of(target, scales, spacing, known=None, **options):
    classes = len(scales) + 1
    onehot = torch.stack([target == c for c in range(classes)])[None]
    valid = torch.ones_like(target, dtype=torch.bool) if known is None else known
    given: dict[str, Any] = {"strength": 1.0, "gamma": 1.0, "mode": "near"} | options
    return BoundaryWeights(scales, spacing, **given)(onehot & valid, valid[None, None])


def test_near_weights_fall_from_two_at_the_boundary_to_one_at_tau():
    target = torch.zeros(1, 1, 30, dtype=torch.long)
    target[..., 15:] = 1
    weights = weights_of(target, (4.0,), (1.0, 1.0, 1.0))[0, 1, 0, 0].tolist()
    assert weights[15:21] == pytest.approx([2, 1.75, 1.5, 1.25, 1, 1])
    assert weights[9:15] == pytest.approx([1, 1, 1.25, 1.5, 1.75, 2])


def test_far_weights_grow_with_distance():
    target = torch.zeros(1, 1, 30, dtype=torch.long)
    target[..., 15:] = 1
    weights = weights_of(target, (4.0,), (1.0, 1.0, 1.0), mode="far")[0, 1, 0, 0].tolist()
    assert weights[10:15] == pytest.approx([2, 2, 1.75, 1.5, 1.25])
    assert weights[0] == 2


def test_background_absent_and_filling_classes_have_weight_one():
    target = torch.ones(4, 5, 6, dtype=torch.long)
    assert (weights_of(target, (2.0, 2.0), (1.0, 1.0, 1.0)) == 1).all()
    target[2, 2, 2] = 0
    weights = weights_of(target, (2.0, 2.0), (1.0, 1.0, 1.0))
    assert (weights[0, [0, 2]] == 1).all()
    assert weights[0, 1].max() == 2


@pytest.mark.parametrize("coarse", [3.0, 12.0])
def test_the_first_voxels_along_a_coarse_axis_keep_a_weight(coarse):
    target = torch.zeros(6, 4, 4, dtype=torch.long)
    target[3:] = 1
    weights = weights_of(target, (3.0,), (coarse, 1.0, 1.0))[0, 1, :, 0, 0]
    assert weights[2] == weights[3]
    assert weights[2] >= 1 + 1 / 3


def test_gamma_sharpens_and_strength_scales():
    target = torch.zeros(1, 1, 20, dtype=torch.long)
    target[..., 10:] = 1
    plain, sharp, weak = (
        weights_of(target, (4.0,), (1.0, 1.0, 1.0), **o)[0, 1, 0, 0] - 1
        for o in ({}, {"gamma": 2.0}, {"strength": 0.25})
    )
    torch.testing.assert_close(sharp, plain**2)
    torch.testing.assert_close(weak, plain / 4)


def test_every_region_uses_its_own_scale():
    line = torch.zeros(4, 2, 1, 1, 40, dtype=torch.bool)  # two samples of two regions
    line[:, 1, ..., 20:] = True
    line[:, 0] = ~line[:, 1]
    weigh = BoundaryWeights((2.0, 8.0), (1.0, 1.0, 1.0), strength=1.0, gamma=1.0, mode="near")
    extent = (weigh(line, torch.ones(4, 1, 1, 1, 40, dtype=torch.bool))[:, 1, 0, 0] > 1).sum(-1).tolist()
    assert extent == [4, 16, 4, 16]


def test_above_sixteen_classes_one_map_over_the_union_serves_all():
    classes = MANY_CLASSES + 3
    target = torch.arange(classes).repeat_interleave(8).reshape(1, 1, -1)
    weights = weights_of(target, (3.0,) * (classes - 1), (1.0, 1.0, 1.0))
    few = weights_of(torch.where(target < 3, target, 0), (3.0, 3.0), (1.0, 1.0, 1.0))
    assert (weights[0, 1] == weights[0, classes - 1]).all()
    torch.testing.assert_close(weights[0, 1, ..., 12:20], few[0, 1:, ..., 12:20].amax(0))
    onehot = torch.stack([target == c for c in range(classes)])
    distance = union_distance(onehot, torch.ones_like(target, dtype=torch.bool), (1.0, 1.0, 1.0), 4.0)
    assert distance[0, 0, 12:20].tolist() == [4, 3, 2, 1, 1, 2, 3, 4]


def two_balls():
    """Two samples with two classes of different sizes (2, 3, 24, 30, 28), and which voxels are known."""
    onehot = torch.zeros(2, 3, 24, 30, 28, dtype=torch.bool)
    for sample, (left, right) in enumerate([((6, 8, 9), (18, 20, 20)), ((12, 24, 5), (4, 6, 22))]):
        grid = torch.stack(torch.meshgrid(*map(torch.arange, onehot.shape[2:]), indexing="ij"), -1)
        onehot[sample, 1] = ((grid - torch.tensor(left)) ** 2).sum(-1) < 16
        onehot[sample, 2] = ((grid - torch.tensor(right)) ** 2).sum(-1) < 9
    onehot[:, 0] = ~onehot.any(1)
    valid = torch.ones(2, 1, *onehot.shape[2:], dtype=torch.bool)
    valid[0, :, 20:] = False
    return onehot & valid, valid


@pytest.mark.parametrize("mode", ["near", "far"])
def test_maps_that_are_computed_together_have_the_same_weights(monkeypatch, mode):
    onehot, valid = two_balls()
    weigh = BoundaryWeights((2.5, 4.0), (2.0, 1.0, 0.9), strength=0.7, gamma=0.8, mode=mode)
    monkeypatch.setitem(module.TOGETHER, "cpu", 0)
    alone = weigh(onehot, valid)
    for voxels in (2 * 20 * 17 * 20, 10**9):
        monkeypatch.setitem(module.TOGETHER, "cpu", voxels)
        assert torch.equal(weigh(onehot, valid), alone)


class Count(TorchDispatchMode):
    """The number of operators that start a kernel on a GPU."""

    operators = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.operators += not func.is_view
        return func(*args, **(kwargs or {}))


def test_a_gpu_starts_few_operators_for_another_map(monkeypatch):
    """As on a GPU: without a limit that keeps maps apart. Each map alone takes about 70 operators."""
    monkeypatch.delitem(module.TOGETHER, "cpu")
    onehot, valid = two_balls()
    weigh = BoundaryWeights((4.0, 4.0), (1.0, 1.0, 1.0), strength=1.0, gamma=1.0, mode="near")
    counts = []
    for samples in (slice(1), slice(2)):
        with Count() as count:
            weigh(onehot[samples], valid[samples])
        counts.append(count.operators)
    assert counts[1] < 120
    assert counts[1] - counts[0] <= 6  # two maps more


def test_maps_are_computed_together_up_to_a_number_of_voxels():
    boxes = [((0, 4), (2, 6)), ((1, 3), (0, 8)), ((5, 9), (1, 3)), ((0, 9), (0, 9))]
    maps = [ClassMap(0, c, box, 1.0, (1.0, 1.0)) for c, box in enumerate(boxes)]
    assert [len(group) for group in grouped(maps, 100)] == [3, 1]
    assert [len(group) for group in grouped(maps, 0)] == [1, 1, 1, 1]
    windows = common_windows(boxes[:3], (9, 9))
    assert [[w.stop - w.start for w in window] for window in windows] == [[4, 8]] * 3
    for window, box in zip(windows, boxes, strict=False):
        for w, (start, stop) in zip(window, box, strict=True):
            assert 0 <= w.start <= start < stop <= w.stop <= 9
