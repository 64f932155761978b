"""Tiles cover every voxel, and blending their content gives the image back."""

import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from unetrpp.inference.tiles import TileAggregator, TileSampler, blending_windows, nnunet_weights, tile_starts

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


def filtered_impulse(patch):
    """nnU-Net's description of its weights: a smoothed impulse on voxel patch // 2, 10 at its peak, in float16, nowhere 0."""
    impulse = np.zeros(patch)
    impulse[tuple(n // 2 for n in patch)] = 1
    smooth = ndimage.gaussian_filter(impulse, [n / 8 for n in patch], mode="constant")
    half = (10 * smooth / smooth.max()).astype(np.float16)
    return np.where(half == 0, half[half > 0].min(), half)


@pytest.mark.parametrize("patch", [(8, 8, 8), (5, 12, 7), (1, 40, 24), (40, 56, 40)])
def test_nnunets_weights_are_a_smoothed_impulse(patch):
    np.testing.assert_allclose(nnunet_weights(patch), filtered_impulse(patch), rtol=1e-3, atol=6e-8)


def test_nnunets_blending_is_the_mean_by_these_weights():
    """Random logits for every tile and mirrored pass; sums in float16 differ by their own rounding alone."""
    image, patch, generator = torch.zeros(1, 9, 20, 13), (4, 8, 8), torch.Generator().manual_seed(0)
    sampler = TileSampler(image, patch)
    aggregator = TileAggregator(sampler, (3,), 4 + 9, device=torch.device("cpu"), nnunet=True)
    total, weights = np.zeros((3, 9, 20, 13)), np.zeros((9, 20, 13))
    for tile in sampler:
        place = tuple(slice(s, s + n) for s, n in zip(tile.start, patch, strict=True))
        for _ in range(2):
            logits = torch.randn(3, *patch, generator=generator)
            aggregator.add(logits, tile, 0.5)
            total[:, *place] += 0.5 * filtered_impulse(patch) * logits.numpy()
        weights[place] += filtered_impulse(patch)
    found = aggregator.flush(9).numpy()
    clear = weights > 0.1  # where float16 has its full precision
    np.testing.assert_allclose(found[:, clear], (total / weights)[:, clear], atol=4e-3)
    assert clear.mean() > 0.5


def test_nnunets_tile_positions():
    """Its formula, written out: the distance of two tiles first, then the rounding."""
    for length, patch in itertools.product(range(1, 80), (5, 12, 40)):
        if length > patch:
            steps = int(np.ceil((length - patch) / (patch * 0.5))) + 1
            distance = (length - patch) / (steps - 1)
            assert tile_starts(length, patch) == [int(np.round(distance * i)) for i in range(steps)]
