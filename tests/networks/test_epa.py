"""EPA with reordered products against the steps as published."""

import math

import msgspec
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from unetrpp.networks.blocks import norm_maker
from unetrpp.networks.build import build_network
from unetrpp.networks.cost import estimate
from unetrpp.networks.design import cell_of, unetrpp_architecture, with_pooled_attention
from unetrpp.networks.epa import EfficientPairedAttention, EPABlock, PooledPairedAttention, use_reference_operators
from unetrpp.networks.presets import PRESETS


def architecture(**changes):
    return msgspec.structs.replace(PRESETS["synapse"], attention_dropout=0.0, dropout=0.0, **changes)


def attention(channels, tokens, projected, dtype=torch.float64, **changes):
    torch.manual_seed(tokens * channels)
    module = EfficientPairedAttention(channels, tokens, projected, architecture(**changes)).to(dtype)
    for parameter in module.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return module


def both(module, x, size=()):
    """Outputs and gradients of x and all parameters: reordered, then step by step."""
    results = []
    for reference in (False, True):
        module.reference = reference
        y = module(x, size)
        weights = torch.linspace(-1, 1, y.numel(), dtype=y.dtype).view_as(y)
        results.append((y, *torch.autograd.grad((y * weights).sum(), [x, *module.parameters()])))
    return results


@given(
    tokens=st.integers(1, 70),
    projected=st.integers(1, 16),
    channels=st.sampled_from([8, 16, 24]),
    heads=st.sampled_from([1, 2, 4]),
    projection=st.sampled_from(["shared", "separate", "parameter"]),
    fusion=st.sampled_from(["concat", "sum"]),
    layout=st.sampled_from(["correct", "released"]),
)
@settings(max_examples=30, deadline=None)
def test_reordering_changes_nothing(tokens, projected, channels, heads, projection, fusion, layout):
    changes = {"heads": heads, "projection": projection, "fusion": fusion, "spatial_layout": layout}
    module = attention(channels, tokens, projected, **changes)
    x = torch.randn(2, tokens, channels, dtype=torch.float64, requires_grad=True)
    for found, expected in zip(*both(module, x), strict=True):
        scale = float(expected.detach().abs().max())
        torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-9 * max(1.0, scale))


def test_reordering_agrees_in_float32_at_a_real_size():
    module = attention(32, 4096, 64, torch.float32)
    x = torch.randn(1, 4096, 32, requires_grad=True)
    (found, *_), (expected, *_) = both(module, x)
    assert float((found - expected).detach().abs().max()) < 1e-5 * float(expected.detach().abs().max())


def test_the_released_layout_is_another_network():
    x = torch.randn(1, 24, 8, dtype=torch.float64)
    correct, released = (attention(8, 24, 4, spatial_layout=layout) for layout in ("correct", "released"))
    released.load_state_dict(correct.state_dict())
    channel_half = slice(4, None)
    assert torch.allclose(correct(x, ())[..., channel_half], released(x, ())[..., channel_half])
    assert not torch.allclose(correct(x, ()), released(x, ()))


def test_permuting_tokens_and_projections_permutes_the_output():
    """Permuting tokens together with the projections' columns permutes the output, so EPA uses no positions itself."""
    module = attention(8, 12, 4, spatial_layout="correct")
    x = torch.randn(1, 12, 8, dtype=torch.float64)
    order = torch.randperm(12)
    expected = module(x, ())[:, order]
    with torch.no_grad():
        module.project_keys.weight.copy_(module.project_keys.weight[:, order])
    torch.testing.assert_close(module(x[:, order], ()), expected)


@pytest.mark.parametrize("dropout", [0.0, 0.2])
def test_mean_over_dropout_is_the_value_without(dropout):
    module = attention(8, 64, 16)
    module.dropout = dropout
    x = torch.randn(1, 64, 8, dtype=torch.float64)
    mean = torch.stack([module.train()(x, ()) for _ in range(400 if dropout else 1)]).mean(0)
    spread = float(module.eval()(x, ()).detach().std())
    assert float((mean - module(x, ())).detach().abs().mean()) < 0.05 * spread + 1e-12


def test_autocast_keeps_the_norms_in_float32():
    module = attention(16, 200, 16, torch.float32)
    x = torch.randn(1, 200, 16)
    with torch.autocast("cpu", torch.bfloat16):
        low = module(x, ())
    assert float((low.float() - module(x, ())).detach().abs().max()) < 0.05 * float(module(x, ()).detach().abs().max())


def test_a_new_block_is_nearly_a_residual_block():
    """gamma starts at 1e-6, so attention hardly shows at first."""
    norm = norm_maker("batch", 3, 64)
    block = EPABlock(
        8, architecture(), tokens=64, projected=16, cell=None, token=None, kernel=(3, 3, 3), norm=norm
    ).eval()
    x = torch.randn(1, 8, 4, 4, 4)
    with torch.no_grad():
        torch.testing.assert_close(block(x), x + block.out(block.convolutions(x)), rtol=0, atol=1e-4)


def test_reference_operators_reach_every_block():
    norm = norm_maker("batch", 3, 64)
    block = EPABlock(8, architecture(), tokens=64, projected=16, cell=None, token=None, kernel=(3, 3, 3), norm=norm)
    use_reference_operators(torch.nn.Sequential(block))
    assert block.attention.reference


def pooled_naively(module, x, size):
    """Pooled EPA voxel by voxel and head by head, from the description."""
    batch, tokens, channels = x.shape
    width = channels // module.heads
    q, k, v_channel, v_spatial = module.qkvv(x).chunk(4, -1)
    cells = torch.cartesian_prod(*(torch.arange(n) // c for n, c in zip(size, module.cell, strict=True)))
    members = [(cells == cell).all(1) for cell in cells.view(tokens, -1).unique(dim=0)]
    out = torch.zeros(batch, tokens, channels, dtype=x.dtype), torch.zeros(batch, tokens, channels, dtype=x.dtype)
    for b in range(batch):
        for h in range(module.heads):
            own = slice(h * width, (h + 1) * width)
            qh, kh, vc, vs = (t[b, :, own] for t in (q, k, v_channel, v_spatial))
            cosines = (qh / qh.norm(dim=0)).T @ (kh / kh.norm(dim=0))
            out[0][b, :, own] = vc @ (cosines * module.channel_temperature[h]).softmax(-1).T
            q_unit, k_unit = (t / t.square().mean(0).sqrt() for t in (qh, kh))
            keys, values = (torch.stack([t[m].mean(0) for m in members]) for t in (k_unit, vs))
            logits = q_unit @ keys.T / width**0.5 * module.spatial_temperature[h]
            out[1][b, :, own] = logits.softmax(-1) @ values
    return torch.cat([module.spatial_out(out[1]), module.channel_out(out[0])], -1)


@given(
    size=st.lists(st.integers(1, 5), min_size=2, max_size=3),
    cell=st.lists(st.integers(1, 3), min_size=3, max_size=3),
    heads=st.sampled_from([1, 2, 4]),
)
@settings(max_examples=25, deadline=None)
def test_pooled_attention_is_what_its_description_says(size, cell, heads):
    tokens = math.prod(size)
    fitting = tuple(min(c, n) for c, n in zip(cell, size, strict=False))
    torch.manual_seed(tokens)
    module = PooledPairedAttention(8, fitting, architecture(heads=heads, spatial_layout="correct")).double()
    for parameter in module.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    x = torch.randn(2, tokens, 8, dtype=torch.float64, requires_grad=True)
    (found, *_), _ = results = both(module, x, size)
    torch.testing.assert_close(found, pooled_naively(module, x, size), rtol=1e-8, atol=1e-9)
    for one, other in zip(*results, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-8, atol=1e-8 * max(1.0, float(other.detach().abs().max())))


@given(
    size=st.lists(st.integers(1, 7), min_size=2, max_size=3),
    token=st.lists(st.integers(1, 3), min_size=3, max_size=3),
)
@settings(max_examples=15, deadline=None)
def test_every_voxel_gets_what_attention_adds_to_the_mean_of_its_token(size, token):
    """Voxel by voxel: means of the tokens, attention among them, and back."""
    size, token = tuple(size), tuple(min(t, n) for t, n in zip(token, size, strict=False))
    torch.manual_seed(sum(size))
    block = EPABlock(
        8,
        architecture(layer_scale=1.0),
        tokens=0,
        projected=0,
        cell=(2,) * len(size),
        token=token,
        kernel=(3,) * len(size),
        norm=lambda channels: torch.nn.Identity(),
    ).double()
    x = torch.randn(2, 8, *size, dtype=torch.float64)
    grid = tuple(-(-n // t) for n, t in zip(size, token, strict=True))
    sums, counts = torch.zeros(2, 8, *grid, dtype=x.dtype), torch.zeros(grid, dtype=x.dtype)
    for voxel in np.ndindex(*size):
        at = tuple(v // t for v, t in zip(voxel, token, strict=True))
        sums[:, :, *at] += x[:, :, *voxel]
        counts[at] += 1
    tokens = block.norm((sums / counts).flatten(2).mT)
    added = block.attention(tokens, grid).mT.view(2, 8, *grid)
    found = block.coarsely_attended(x, token)
    for voxel in np.ndindex(*size):
        at = tuple(v // t for v, t in zip(voxel, token, strict=True))
        torch.testing.assert_close(found[:, :, *voxel], x[:, :, *voxel] + added[:, :, *at])


def test_a_level_with_many_voxels_attends_among_their_means():
    made = with_pooled_attention(unetrpp_architecture(1, 3, (40, 56, 40), [(2, 2, 2)] * 3))
    assert [(level.token, level.cell) for level in made.levels[1:]] == [
        ((2, 2, 2), (4, 4, 4)),
        (None, (4, 4, 4)),
        (None, (2, 2, 2)),
    ]
    every = with_pooled_attention(unetrpp_architecture(1, 3, (40, 56, 40), [(2, 2, 2)] * 3), tokens=None)
    assert [level.token for level in every.levels] == [None] * 4
    assert estimate(made, 2).multiply_adds < estimate(every, 2).multiply_adds


@given(st.lists(st.integers(1, 70), min_size=2, max_size=3), st.sampled_from([8, 27, 64]))
def test_cells_are_as_small_as_their_number_allows(size, cells):
    cell = cell_of(tuple(size), cells)
    assert math.prod(-(-n // c) for n, c in zip(size, cell, strict=True)) <= cells
    smaller = max(cell) - 1
    if smaller:
        assert math.prod(-(-n // min(smaller, n)) for n in size) > cells


def test_pooled_networks_take_patches_of_any_size_and_have_the_same_parameters():
    made = {
        patch: with_pooled_attention(unetrpp_architecture(1, 3, patch, [(2, 2, 2), (2, 2, 2)], width=0.25), tokens=64)
        for patch in ((16, 16, 16), (16, 32, 24))
    }
    small, large = (build_network(each).eval() for each in made.values())
    large.load_state_dict(small.state_dict())
    assert estimate(made[16, 16, 16], 2).patch_bound_parameters == 0
    x = torch.randn(1, 1, 24, 16, 40)
    with torch.no_grad():
        assert small(x)[0].shape == (1, 3, 24, 16, 40)
    published = estimate(unetrpp_architecture(1, 3, (16, 32, 24), [(2, 2, 2), (2, 2, 2)], width=0.25), 2)
    assert published.patch_bound_parameters > 0
    assert estimate(made[16, 32, 24], 2).parameters < published.parameters


def test_pooled_attention_is_as_sharp_in_a_patch_of_twice_the_size():
    """Two copies of a volume side by side: keys come twice, so that every token gets what it got before."""
    torch.manual_seed(0)
    module = PooledPairedAttention(8, (2, 2), architecture(spatial_layout="correct")).double()
    for parameter in module.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    volume = torch.randn(1, 4, 6, 8, dtype=torch.float64)
    twice = torch.cat([volume, volume], 1)
    one, two = (module(v.flatten(1, 2), v.shape[1:3]).view_as(v) for v in (volume, twice))
    torch.testing.assert_close(two[:, :4], one)
    torch.testing.assert_close(two[:, 4:], one)
