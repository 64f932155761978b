"""Blocks against PyTorch's own layers and closed forms."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from unetrpp.networks.blocks import Downsample, ResidualBlock, convolution, norm_maker, pointwise, transposed
from unetrpp.networks.layout import to_channels_last


@pytest.mark.parametrize("dimensions", [2, 3])
@pytest.mark.parametrize("bias", [False, True])
def test_a_pointwise_convolution_is_the_same_in_both_layouts(dimensions, bias):
    layer = pointwise(3, 5, dimensions, bias=bias)
    x = torch.randn(2, 3, *(4, 5, 6)[:dimensions])
    expected = torch.einsum("oi,bi...->bo...", layer.weight.flatten(1), x)
    expected = expected + (layer.bias.view(-1, *(1,) * dimensions) if bias else 0)
    torch.testing.assert_close(layer(x), expected)
    torch.testing.assert_close(layer(to_channels_last(x)), expected)


def test_convolutions_keep_the_size_and_transposed_ones_fill_blocks():
    x = torch.randn(1, 2, 5, 6, 7)
    assert convolution(2, 3, (1, 3, 3))(x).shape == (1, 3, 5, 6, 7)
    assert convolution(2, 3, (3, 3, 3), (1, 2, 2))(x).shape == (1, 3, 5, 3, 4)
    up = transposed(2, 3, (1, 2, 4))
    one = torch.zeros(1, 2, 1, 1, 2)
    one[..., 1] = 1
    filled = up(one)
    assert filled.shape == (1, 3, 1, 2, 8)
    assert not filled[..., :4].any()
    torch.testing.assert_close(filled[..., 4:], up.weight.sum(0, keepdim=True))


@pytest.mark.parametrize(
    ("channels", "voxels", "groups"),
    [(256, 64, 32), (320, 1, 20), (8, 1, 1), (24, 1, 1), (64, 8, 8)],
)
def test_group_norm_keeps_enough_values_for_a_variance(channels, voxels, groups):
    norm = norm_maker("group", 3, voxels)(channels)
    assert norm.num_groups == groups


@pytest.mark.parametrize("kind", ["batch", "instance", "group"])
def test_one_voxel_survives_training_at_batch_one(kind):
    norm = norm_maker(kind, 3, 1)(16).train()
    assert norm(torch.randn(1, 16, 1, 1, 1)).std() > 0.1


def test_published_downsampling_groups():
    """2 channels a group in the published network; gcd where that does not divide."""
    assert Downsample(32, 64, (2, 2, 2), groups=None, voxels=4096).norm.num_groups == 32
    assert Downsample(256, 320, (2, 2, 2), groups=None, voxels=64).norm.num_groups == 64
    assert Downsample(320, 320, (2, 2, 2), groups=None, voxels=1).norm.num_groups == 20  # 16 values each, not one


def test_residual_block_is_its_formula():
    block = ResidualBlock(3, 4, (3, 3), norm=norm_maker("instance", 2, 36), stride=(2, 2)).double()
    x = torch.randn(2, 3, 12, 12, dtype=torch.float64)
    y = F.leaky_relu(F.instance_norm(F.conv2d(x, block.conv1.weight, stride=2, padding=1)), 0.01)
    y = F.instance_norm(F.conv2d(y, block.conv2.weight, padding=1))
    skip = F.instance_norm(F.conv2d(F.avg_pool2d(x, 2), block.skip.conv.weight))
    torch.testing.assert_close(block(x), F.leaky_relu(y + skip, 0.01))
    torch.testing.assert_close(block(to_channels_last(x)), F.leaky_relu(y + skip, 0.01))


def test_an_identity_skip_has_no_parameters():
    block = ResidualBlock(4, 4, (3, 3, 3), norm=norm_maker("instance", 3, 8, affine=False))
    assert isinstance(block.skip, nn.Identity)
    assert {name for name, _ in block.named_parameters()} == {"conv1.weight", "conv2.weight"}
