"""The streamed sliding window against a slow one that holds everything, and its independence of the batch."""

import itertools

import numpy as np
import pytest
import torch
from torch import nn

from unetrpp.inference.sliding_window import SlidingWindow
from unetrpp.inference.tiles import tile_starts


class Supervised(nn.Module):
    """Two convolutions that return a list until deep supervision is switched off, as the real networks do."""

    def __init__(self, dimensions: int = 3):
        super().__init__()
        convolution = nn.Conv3d if dimensions == 3 else nn.Conv2d
        torch.manual_seed(0)
        self.first = convolution(2, 4, 3, padding=1)
        self.second = convolution(4, 3, 3, padding=1)
        self.deep_supervision = True

    def forward(self, x):
        y = self.second(torch.relu(self.first(x)))
        return [y, y[..., ::2]] if self.deep_supervision else y


def naive(network, image, patch, mirror_axes, step=0.5):
    """Sum of weighted logits over the sum of weights, one tile and one mirroring at a time."""
    network.deep_supervision = False
    grid = [np.exp(-0.5 * ((np.arange(p) - (p - 1) / 2) / (p / 8)) ** 2) for p in patch]
    weight = torch.from_numpy(np.multiply.outer(np.multiply.outer(grid[0], grid[1]), grid[2]))
    total, weights = (
        torch.zeros(3, *image.shape[1:], dtype=torch.float64),
        torch.zeros(image.shape[1:], dtype=torch.float64),
    )
    starts = [tile_starts(n, p, step) for n, p in zip(image.shape[1:], patch, strict=True)]
    for start in itertools.product(*starts):
        where = tuple(slice(s, s + p) for s, p in zip(start, patch, strict=True))
        tile = image[(slice(None), *where)][None]
        mirrorings = [m for n in range(len(mirror_axes) + 1) for m in itertools.combinations(mirror_axes, n)]
        logits = sum(network(tile.flip([a + 2 for a in m])).flip([a + 2 for a in m]) for m in mirrorings) / len(
            mirrorings
        )
        total[(slice(None), *where)] += logits[0].detach() * weight
        weights[where] += weight
    network.deep_supervision = True
    return (total / weights).float()


@pytest.mark.parametrize("mirror_axes", [(), (0, 2), (0, 1, 2)])
@pytest.mark.parametrize("tile_batch", [1, 3, 64])
def test_equals_the_naive_window(mirror_axes, tile_batch):
    network, image = Supervised(), torch.rand(2, 13, 10, 9)
    ours = SlidingWindow((6, 8, 8), mirror_axes=mirror_axes, tile_batch=tile_batch).logits(network, image)
    torch.testing.assert_close(ours, naive(network, image, (6, 8, 8), mirror_axes), atol=1e-5, rtol=0)
    assert network.training
    assert network.deep_supervision


def test_an_image_smaller_than_the_patch_is_padded():
    network, image = Supervised(), torch.rand(2, 3, 10, 5)
    padded = torch.zeros(2, 8, 10, 8)
    padded[:, 2:5, :, 1:6] = image
    expected = naive(network, padded, (8, 8, 8), ())[:, 2:5, :, 1:6]
    torch.testing.assert_close(SlidingWindow((8, 8, 8)).logits(network, image), expected, atol=1e-5, rtol=0)


def test_a_2d_network_runs_over_the_slices():
    network, image = Supervised(2), torch.rand(2, 5, 12, 9)
    ours = SlidingWindow((8, 8), mirror_axes=(0, 1)).logits(network, image)
    alone = SlidingWindow((8, 8), mirror_axes=(0, 1), tile_batch=1)
    slices = [alone.logits(network, image[:, z : z + 1]) for z in range(5)]
    torch.testing.assert_close(ours, torch.cat(slices, dim=1), atol=1e-5, rtol=0)
    whole = SlidingWindow((12, 9)).logits(network, image)
    network.deep_supervision = False
    torch.testing.assert_close(whole, network(image.movedim(1, 0)).movedim(0, 1).detach(), atol=1e-5, rtol=0)


def test_slabs_hold_all_folds_and_a_few_slices():
    torch.manual_seed(1)
    networks, image = [nn.Conv3d(2, 3, 1), nn.Conv3d(2, 3, 1)], torch.rand(2, 21, 4, 4)
    slabs = list(SlidingWindow((4, 4, 4), tile_batch=1).slabs(networks, image))
    assert len(slabs) > 5
    assert max(slab.shape[2] for slab in slabs) <= 4
    together = torch.cat(slabs, dim=2)
    for logits, network in zip(together, networks, strict=True):
        torch.testing.assert_close(logits, network(image).detach(), atol=1e-5, rtol=0)


class Hungry(nn.Module):
    """Runs out of memory above two tiles."""

    def __init__(self):
        super().__init__()
        self.batches = []

    def forward(self, x):
        self.batches.append(len(x))
        if len(x) > 2:
            raise torch.OutOfMemoryError("no memory left")
        return x


def test_the_batch_is_halved_when_memory_runs_out():
    network, image = Hungry(), torch.rand(1, 12, 4, 4)
    torch.testing.assert_close(SlidingWindow((4, 4, 4), tile_batch=7).logits(network, image), image)
    assert network.batches == [5, 2, 2, 1]


def test_the_batch_that_fits_is_kept_for_the_following_images():
    network, window = Hungry(), SlidingWindow((4, 4, 4), tile_batch=16)
    for depth in (36, 12, 20):
        list(window.slabs([network, network], torch.rand(1, depth, 4, 4)))
    tried = [batch for batch in network.batches if batch > 2]
    assert tried == [16, 8, 4]
    assert window.tile_batch == 2


def test_a_cpu_gets_no_tiles_beyond_those_of_the_image():
    network, seen = nn.Conv3d(1, 2, 1), []
    network.register_forward_pre_hook(lambda _, given: seen.append(len(given[0])))
    list(SlidingWindow((4, 4, 4), tile_batch=4).slabs([network], torch.rand(1, 14, 4, 4)))
    assert seen == [4, 2]


def test_one_tile_that_does_not_fit_is_an_error():
    class Starved(nn.Module):
        def forward(self, x):
            raise torch.OutOfMemoryError("no memory left")

    with pytest.raises(torch.OutOfMemoryError):
        SlidingWindow((4, 4, 4)).logits(Starved(), torch.rand(1, 4, 4, 4))


def test_accumulators_in_half_precision_give_nearly_the_same(monkeypatch):
    network, image = Supervised(), torch.rand(2, 13, 10, 9)
    whole = SlidingWindow((6, 8, 8), mirror_axes=(0, 1, 2)).logits(network, image)
    asked = []

    def half(values, device, taken):
        asked.append(values)
        return device, torch.float16

    monkeypatch.setattr("unetrpp.inference.sliding_window.accumulator_kind", half)
    ours = SlidingWindow((6, 8, 8), mirror_axes=(0, 1, 2), tile_batch=1).logits(network, image)
    assert asked == [1 * 3 * 6 * 10 * 9]  # networks, classes, slices of a row of tiles, the padded slice
    assert ours.dtype == torch.float32
    assert not torch.equal(ours, whole)
    torch.testing.assert_close(ours, whole, atol=2e-3, rtol=0)
