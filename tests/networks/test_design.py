"""From a planner's strides to levels: the published networks come out, and the limits hold."""

import doctest
import math

import pytest

from unetrpp.networks import design
from unetrpp.networks.design import unet_architecture, unetrpp_architecture
from unetrpp.networks.presets import PRESETS


def test_doctests():
    assert doctest.testmod(design).failed == 0


@pytest.mark.parametrize(
    ("preset", "strides"),
    [
        ("synapse", [(1, 2, 2), *[(2, 2, 2)] * 4]),
        ("tumor", [(2, 2, 2)] * 5),
        ("lung", [(1, 2, 2), (1, 2, 2), *[(2, 2, 2)] * 3]),
    ],
)
def test_planned_strides_give_the_published_levels(preset, strides):
    published = PRESETS[preset]
    planned = unetrpp_architecture(published.in_channels, published.out_channels, published.patch, strides)
    assert planned.levels == published.levels
    assert planned.supervised_levels == 3
    assert planned.spatial_layout == "correct"


def test_a_small_patch_keeps_its_first_stride_as_the_stem():
    made = unetrpp_architecture(1, 3, (40, 56, 40), [(2, 2, 2)] * 3)
    assert [level.stride for level in made.levels] == [(1, 1, 1), (2, 2, 2), (2, 2, 2), (2, 2, 2)]
    assert [level.channels for level in made.levels] == [16, 32, 64, 128]
    assert made.tokens()[-1] == 5 * 7 * 5


@pytest.mark.parametrize(("dimensions", "widest"), [(2, 512), (3, 320)])
def test_channels_are_capped_and_scaled_to_multiples_of_eight(dimensions, widest):
    patch, strides = (256,) * dimensions, [(2,) * dimensions] * 7
    assert max(level.channels for level in unetrpp_architecture(1, 2, patch, strides).levels) == widest
    thin = unetrpp_architecture(1, 2, patch, strides, width=0.3)
    assert all(level.channels % 8 == 0 for level in thin.levels)
    assert thin.levels[0].channels == 8


def test_projections_never_exceed_the_tokens_and_one_token_needs_no_attention():
    made = unetrpp_architecture(1, 2, (8, 8, 8), [(2, 2, 2)] * 3)
    assert [level.attention for level in made.levels] == ["conv", "epa", "epa", "conv"]
    assert [level.encoder_projection for level in made.levels[1:]] == [64, 8, 1]
    assert [level.decoder_projection for level in made.levels[1:]] == [64, 8, 1]


def test_without_pooling_the_stem_keeps_the_resolution():
    assert unetrpp_architecture(1, 2, (6, 6), []).levels[1].stride == (1, 1)


def test_attention_can_be_chosen_per_stage():
    made = unetrpp_architecture(1, 2, (16, 16, 16), [(2, 2, 2)] * 2, attention=["conv", "epa"])
    assert [level.attention for level in made.levels] == ["conv", "conv", "epa"]


def test_unet_levels_are_nnunets():
    strides, kernels = [(1, 2, 2), (2, 2, 2)], [(1, 3, 3), (1, 3, 3), (3, 3, 3)]
    made = unet_architecture(1, 2, (8, 32, 32), strides, kernels=kernels)
    assert [level.kernel for level in made.levels] == kernels
    assert [level.channels for level in made.levels] == [32, 64, 128]
    assert [level.encoder_blocks for level in made.levels] == [2, 2, 2]
    residual = unet_architecture(1, 2, (256,) * 3, [(2, 2, 2)] * 6, residual=True)
    assert [level.encoder_blocks for level in residual.levels] == [1, 3, 4, 6, 6, 6, 6]
    assert math.prod(residual.sizes()[-1]) == 64
