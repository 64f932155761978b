"""Tiles cover every voxel, and blending their content gives the image back."""

import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from unetrpp.inference.tiles import TileAggregator, TileSampler, blending_windows, tile_starts

lengths = st.integers(1, 60)


@settings(max_examples=60, deadline=None)
@given(lengths, lengths, st.floats(0.1, 1.0))
def test_every_voxel_is_covered_and_steps_are_short_enough(length, patch, step):
    starts = tile_starts(length, patch, step)
    covered = {v for s in starts for v in range(s, s + patch)}
    assert covered >= set(range(length))
    assert starts[-1] + patch <= max(length, patch)
    assert all(b - a <= max(1, math.ceil(patch * step)) for a, b in itertools.pairwise(starts))


@settings(max_examples=40, deadline=None)
@given(lengths, lengths)
def test_windows_sum_to_one(length, patch):
    starts = tile_starts(length, patch)
    total = torch.zeros(max(length, patch), dtype=torch.float64)
    for start, window in zip(starts, blending_windows(length, patch, starts), strict=True):
        total[start : start + patch] += torch.from_numpy(window)
    torch.testing.assert_close(total, torch.ones_like(total))


def test_windows_are_gaussian_inside_one_tile_and_symmetric():
    first, second = blending_windows(12, 8, [0, 4])
    expected = torch.exp(-0.5 * ((torch.arange(8) - 3.5) / 1.0) ** 2).numpy()
    assert (first[:4] == 1).all()  # seen by the first tile alone
    assert first[4:] == pytest.approx(expected[4:] / (expected[4:] + expected[:4]))
    assert first[::-1] == pytest.approx(second)


@settings(max_examples=30, deadline=None)
@given(
    st.tuples(st.integers(1, 14), st.integers(1, 14), st.integers(1, 14)),
    st.tuples(st.integers(1, 8), st.integers(1, 8), st.integers(1, 8)),
    st.integers(0, 5),
)
def test_blending_the_tiles_of_an_image_returns_it(shape, patch, extra_depth):
    image = torch.rand(2, *shape)
    sampler = TileSampler(image, patch)
    aggregator = TileAggregator(sampler, (2,), patch[0] + extra_depth, device=torch.device("cpu"))
    tiles = list(sampler)
    assert len(tiles) == len(sampler)
    slabs = []
    for tile, following in zip(tiles, [*tiles[1:], None], strict=True):
        aggregator.add(sampler.cut(tile), tile)
        slabs.append(aggregator.flush(following.start[0] if following else sampler.padded_shape[0]))
    torch.testing.assert_close(torch.cat(slabs, dim=1), image)


@settings(max_examples=30, deadline=None)
@given(st.tuples(st.integers(1, 14), st.integers(1, 6), st.integers(1, 6)), st.integers(1, 8), st.integers(1, 400))
def test_finished_slices_come_in_bounded_parts(shape, depth, most):
    image = torch.rand(2, *shape)
    sampler = TileSampler(image, (depth, 4, 4))
    aggregator = TileAggregator(sampler, (2,), depth, device=torch.device("cpu"))
    tiles = list(sampler)
    parts: list[torch.Tensor] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("unetrpp.inference.tiles.part_values", lambda _: most)
        for tile, following in zip(tiles, [*tiles[1:], None], strict=True):
            aggregator.add(sampler.cut(tile), tile)
            parts += aggregator.finished(following.start[0] if following else sampler.padded_shape[0])
    torch.testing.assert_close(torch.cat(parts, dim=1), image)
    assert all(part.shape[1] > 0 for part in parts)
    assert all(part.numel() <= most or part.shape[1] == 1 for part in parts)


def test_nnunets_tile_positions():
    """Its formula, written out: the distance of two tiles first, then the rounding."""
    for length, patch in itertools.product(range(1, 80), (5, 12, 40)):
        if length > patch:
            steps = int(np.ceil((length - patch) / (patch * 0.5))) + 1
            distance = (length - patch) / (steps - 1)
            assert tile_starts(length, patch) == [int(np.round(distance * i)) for i in range(steps)]


@pytest.mark.parametrize("copied_at_once", [1, 500, 1 << 26])
def test_an_image_in_its_place_is_padded_by_zeros(monkeypatch, copied_at_once):
    monkeypatch.setattr("unetrpp.inference.tiles.COPIED_AT_ONCE", copied_at_once)
    image = torch.rand(2, 5, 9, 3)
    sampler = TileSampler(image, (8, 8, 8))
    assert torch.equal(sampler.image, torch.nn.functional.pad(image, (2, 3, 0, 0, 1, 2)))
    assert torch.equal(sampler.image[:, *sampler.interior], image)
    whole = torch.rand(2, 8, 9, 10)
    assert TileSampler(whole, (8, 8, 8)).image is whole
