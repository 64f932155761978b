"""Where patches fall: inside the case, on foreground as often as asked, rare classes as often as common ones."""

from typing import Any

import numpy as np
import pytest
from scipy.stats import chisquare

from unetrpp.patches.sampling import PatchSampler
from unetrpp.preprocessing.store import ANNOTATED


class FakeCase:
    """A stored case as the sampler sees it."""

    def __init__(self, case: str, shape: tuple[int, int, int], voxels: dict[int, np.ndarray], annotated=None):
        self.case, self.shape, self.channels = case, shape, 1
        self._voxels, self.has_annotated = voxels, annotated is not None
        self._drawn = voxels | {ANNOTATED: annotated}

    @property
    def classes(self):
        return tuple(sorted(self._voxels))

    def draw_voxel(self, rng, c):
        return self._drawn[c][rng.integers(len(self._drawn[c]))]


def voxels(*rows) -> Any:
    return np.array(rows, np.int32)


@pytest.fixture
def cases():
    common = [FakeCase(f"c{i}", (20, 40, 40), {1: voxels((10, 20, 20), (3, 5, 5))}) for i in range(19)]
    return [*common, FakeCase("rare", (20, 40, 40), {1: voxels((9, 9, 9)), 2: voxels((10, 20, 15))})]


def test_a_rare_class_is_drawn_as_often_as_a_common_one(cases):
    sampler = PatchSampler(cases, (8, 16, 16), 1.0, None)
    rng = np.random.default_rng(0)
    drawn = [place.foreground for _ in range(400) for place in sampler.draw(rng, 2)]
    assert abs(np.mean(np.array(drawn) == 2) - 0.5) < 0.06


def test_the_forced_voxel_lies_inside_its_patch_but_not_always_at_its_centre(cases):
    sampler = PatchSampler(cases, (8, 16, 16), 1.0, None)
    rng = np.random.default_rng(1)
    offsets = []
    for _ in range(200):
        for place in sampler.draw(rng, 2):
            if place.foreground == 2:
                offset = np.array((10, 20, 15)) - (np.array(place.center) - np.array((4, 8, 8)))
                offsets.append(offset)
                assert ((offset >= 0) & (offset < (8, 16, 16))).all()
    assert len({tuple(o) for o in offsets}) > 3


@pytest.mark.parametrize(("batch", "forced"), [(2, 1), (3, 1), (9, 3), (12, 4)])
def test_share_of_forced_patches(cases, batch, forced):
    places = PatchSampler(cases, (8, 16, 16), 1 / 3, None).draw(np.random.default_rng(0), batch)
    assert sum(place.foreground is not None for place in places) == forced


def test_patches_stay_inside_and_small_cases_are_centred():
    sampler = PatchSampler(
        [FakeCase("a", (6, 40, 17), {})],  # type: ignore[list-item]
        (8, 16, 16),
        1 / 3,
        None,
    )
    for _ in range(100):
        for place in sampler.draw(np.random.default_rng(), 2):
            z, y, x = place.center
            assert z == 3
            assert 8 <= y <= 32
            assert 8 <= x <= 9


def test_annotated_voxels_are_the_centres_where_there_is_an_ignore_label():
    case: Any = FakeCase("a", (20, 40, 40), {3: voxels((1, 1, 1))}, annotated=voxels((10, 20, 20)))
    sampler = PatchSampler([case], (8, 16, 16), 1 / 3, ignore=3)
    assert {place.center for place in sampler.draw(np.random.default_rng(0), 6)} == {(10, 20, 20)}


@pytest.mark.parametrize("sampling", ["class_first", "case_first"])
def test_random_starts_are_uniform_over_where_the_patch_fits(sampling):
    """By nnU-Net's dataloader: 0 to shape - patch; where the patch is larger by an odd number, both ways of halving it."""
    case: Any = FakeCase("a", (12, 21, 13), {})
    sampler = PatchSampler([case], (8, 16, 16), 1 / 3, None, sampling=sampling)
    rng = np.random.default_rng(0)
    centers = np.array([sampler.draw(rng, 1)[0].center for _ in range(4000)])
    for axis, lowest, highest in [(0, 0, 4), (1, 0, 5), (2, -2, -1)]:
        starts = centers[:, axis] - sampler.patch[axis] // 2
        counts = np.bincount(starts - lowest, minlength=highest - lowest + 1)
        assert (starts.min(), starts.max()) == (lowest, highest)
        assert chisquare(counts).pvalue > 1e-3
    assert abs(np.corrcoef(centers.T) - np.eye(3)).max() < 0.06


def nnunet_forced(rng, cases, patch, ignore):
    """nnU-Net 2.8.1's forced patch step by step: case and start, none for a case without foreground."""
    case = cases[rng.integers(len(cases))]
    classes = [c for c in case.classes if c != ignore]
    if not classes:
        return case.case, None
    c = classes[rng.integers(len(classes))]
    voxel = case.draw_voxel(rng, c)
    pad = [max(0, p - n) for n, p in zip(case.shape, patch, strict=True)]
    lowest = [-n // 2 for n in pad]
    return case.case, tuple(max(low, v - p // 2) for low, v, p in zip(lowest, voxel.tolist(), patch, strict=True))


def test_case_first_is_nnunets_forced_patch(cases):
    """It goes beyond the end of an axis but not beyond its start, and a rare class is as rare as its cases."""
    healthy: Any = FakeCase("healthy", (20, 40, 40), {})
    small: Any = FakeCase("small", (5, 40, 11), {2: voxels((4, 39, 10)), 3: voxels((0, 0, 0))})
    every = [*cases, healthy, small]
    sampler = PatchSampler(every, (8, 16, 16), 1.0, ignore=3, sampling="case_first")
    for seed in range(200):
        place = sampler.forced(np.random.default_rng(seed))
        case, start = nnunet_forced(np.random.default_rng(seed), every, (8, 16, 16), 3)
        assert place.case == case
        assert (place.foreground is None) == (start is None) == (case == "healthy")
        if start is not None:
            assert tuple(c - p // 2 for c, p in zip(place.center, (8, 16, 16), strict=True)) == start
    rng = np.random.default_rng(0)
    drawn = [place.foreground for _ in range(400) for place in sampler.draw(rng, 2)]
    assert np.mean(np.array(drawn) == 2) < 0.15


def test_a_slice_patch_lies_on_the_drawn_voxels_slice():
    case: Any = FakeCase("a", (50, 40, 40), {1: voxels((25, 20, 20))})
    sampler = PatchSampler([case], (1, 16, 16), 1.0, None)
    rng = np.random.default_rng(0)
    assert {place.center[0] for _ in range(100) for place in sampler.draw(rng, 2)} == {25}


def test_a_batch_of_one_is_forced_as_often_as_asked(cases):
    sampler = PatchSampler(cases, (8, 16, 16), 1 / 3, None)
    rng = np.random.default_rng(0)
    forced = [sampler.draw(rng, 1)[0].foreground is not None for _ in range(600)]
    assert abs(np.mean(forced) - 1 / 3) < 0.06
