"""One channel of indices becomes the one-hot channels of a cascade's second stage."""

from dataclasses import replace

import numpy as np
import torch

from unetrpp.inference.sliding_window import SlidingWindow
from unetrpp.networks.build import build_network
from unetrpp.networks.cascade import append_first_stage, unfold_first_stage
from unetrpp.networks.design import unet_architecture

PATCH = (8, 16, 16)


def naive(patches: torch.Tensor, classes: int) -> torch.Tensor:
    one_hot = torch.nn.functional.one_hot(patches[:, -1].clamp_min(0).long(), classes + 1).movedim(-1, 1)[:, 1:]
    return torch.cat([patches[:, :-1], one_hot.float()], dim=1)


def patches(classes: int, lowest: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    indices = torch.randint(lowest, classes + 1, (2, 1, *PATCH), generator=generator).float()
    return torch.cat([torch.randn(2, 2, *PATCH, generator=generator), indices], dim=1)


def test_equals_torchs_one_hot():
    for classes in (1, 3, 300):
        inputs = patches(classes, lowest=-1)
        torch.testing.assert_close(unfold_first_stage(inputs, classes), naive(inputs, classes), rtol=0, atol=0)
    flat = patches(3, 0)[:, :, 0]
    torch.testing.assert_close(unfold_first_stage(flat, 3), naive(flat, 3), rtol=0, atol=0)


def test_without_a_first_stage_patches_stay_as_they_are():
    inputs = patches(3, lowest=0)
    assert unfold_first_stage(inputs, 0) is inputs


def test_the_segmentation_becomes_the_last_channel():
    image, indices = np.random.default_rng(0).random((2, *PATCH), np.float32), np.full(PATCH, 3, np.uint8)
    whole = append_first_stage(image, indices)
    np.testing.assert_array_equal(whole[:-1], image)
    np.testing.assert_array_equal(whole[-1], indices)
    assert whole.dtype == np.float32


def test_prediction_unfolds_every_tile():
    """A window with a first stage, against the whole image with one-hot channels."""
    network = build_network(unet_architecture(5, 4, PATCH, [(2, 2, 2)], kernels=[(3, 3, 3)] * 2, width=0.25)).eval()
    inputs = patches(3, lowest=0)[0].repeat_interleave(2, dim=2)  # larger than the patch along y
    window = SlidingWindow(PATCH, mirror_axes=(1,))
    expected = window.logits(network, naive(inputs[None], 3)[0])
    found = replace(window, first_stage_classes=3).logits(network, inputs)
    torch.testing.assert_close(found, expected, rtol=0, atol=0)
