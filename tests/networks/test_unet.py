"""U-Nets: nnU-Net's parameter counts in closed form, and the data flow step by step."""

from itertools import pairwise

import pytest
import torch

from unetrpp.networks.build import build_network
from unetrpp.networks.design import unet_architecture
from unetrpp.networks.unet import UNet


def convolution(inputs, outputs, kernel=27):
    """Weights and bias of a convolution, and an affine norm."""
    return inputs * outputs * kernel + 3 * outputs


def test_parameters_of_the_plain_unet():
    """nnU-Net's default network for a 40 x 56 x 40 patch has 5.6 million parameters."""
    widths = [32, 64, 128, 256]
    encoder = sum(convolution(a, b) + convolution(b, b) for a, b in zip([1, *widths], widths, strict=False))
    decoder = sum(a * b * 8 + b + convolution(2 * b, b) + convolution(b, b) for b, a in pairwise(widths))
    heads = sum(3 * width + 3 for width in widths[:2])
    network = build_network(unet_architecture(1, 3, (40, 56, 40), [(2, 2, 2)] * 3))
    assert sum(p.numel() for p in network.parameters()) == encoder + decoder + heads


def test_the_data_flow():
    torch.manual_seed(0)
    network = UNet(unet_architecture(2, 3, (16, 16), [(2, 2), (2, 2)], width=0.5)).eval()
    (top_down, bottom_up), encoder = list(network.decoder), list(network.encoder)
    x = torch.randn(1, 2, 16, 16)
    first = encoder[0].blocks(x)
    second = encoder[1].blocks(first)
    third = encoder[2].blocks(second)
    up = bottom_up.blocks(torch.cat([bottom_up.upsample(third), second], 1))
    top = top_down.blocks(torch.cat([top_down.upsample(up), first], 1))
    (logits,) = network(x)
    torch.testing.assert_close(logits, network.heads[0](top))
    assert [tuple(t.shape[2:]) for t in (first, second, third)] == [(16, 16), (8, 8), (4, 4)]


def test_a_residual_encoder_has_a_stem_and_more_blocks():
    network = build_network(unet_architecture(1, 2, (32, 32), [(2, 2)] * 4, residual=True, width=0.25))
    assert [len(stage.blocks) for stage in network.encoder] == [1, 3, 4, 6, 6]
    assert [len(stage.blocks) for stage in network.decoder] == [1, 1, 1, 1]


@pytest.mark.parametrize("residual", [False, True])
def test_one_level_is_a_stack_of_convolutions(residual):
    network = build_network(unet_architecture(1, 2, (6, 6), [], residual=residual))
    assert [tuple(y.shape) for y in network(torch.randn(1, 1, 6, 6))] == [(1, 2, 6, 6)]
