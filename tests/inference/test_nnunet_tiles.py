"""nnU-Net's weights of tiles and its sums in float16, against their description written out."""

import numpy as np
import pytest
import torch
from scipy import ndimage

from unetrpp.inference.nnunet_tiles import NnunetAggregator, nnunet_weights
from unetrpp.inference.tiles import TileSampler


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


@pytest.mark.parametrize("shape", [(9, 20, 13), (4, 8, 8), (3, 30, 5)])
def test_sums_are_rounded_to_float16_after_every_tile(shape):
    """Bit for bit, with passes that arrive in batches and slabs that are taken as soon as they are finished."""
    patch, passes, generator = (4, 8, 8), 4, torch.Generator().manual_seed(0)
    sampler = TileSampler(torch.zeros(1, *shape), patch)
    aggregator = NnunetAggregator(sampler, (3,), 4 + 9, device=torch.device("cpu"))
    total = np.zeros((3, *sampler.padded_shape), np.float16)
    weights = np.zeros(sampler.padded_shape, np.float16)
    tiles, slabs = list(sampler), []
    for tile, following in zip(tiles, [*tiles[1:], None], strict=True):
        place = tuple(slice(s, s + n) for s, n in zip(tile.start, patch, strict=True))
        logits = torch.randn(passes, 3, *patch, generator=generator)
        for one in logits:
            aggregator.add(one, tile, 1 / passes)
            slabs.append(aggregator.flush(tile.start[0]))
        slabs.append(aggregator.flush(following.start[0] if following else sampler.padded_shape[0]))
        mean = sum(one / passes for one in logits).numpy()
        total[:, *place] = (total[:, *place] + mean * nnunet_weights(patch)).astype(np.float16)
        weights[place] += nnunet_weights(patch).astype(np.float16)
    expected = (total.astype(np.float32) / weights.astype(np.float32)).astype(np.float16)[:, *sampler.interior]
    np.testing.assert_array_equal(torch.cat(slabs, dim=1).numpy(), expected)
