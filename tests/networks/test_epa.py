"""EPA with reordered products against the steps as published."""

import msgspec
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from unetrpp.networks.blocks import norm_maker
from unetrpp.networks.epa import EfficientPairedAttention, EPABlock, use_reference_operators
from unetrpp.networks.presets import PRESETS


def architecture(**changes):
    return msgspec.structs.replace(PRESETS["synapse"], attention_dropout=0.0, dropout=0.0, **changes)


def attention(channels, tokens, projected, dtype=torch.float64, **changes):
    torch.manual_seed(tokens * channels)
    module = EfficientPairedAttention(channels, tokens, projected, architecture(**changes)).to(dtype)
    for parameter in module.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return module


def both(module, x):
    """Outputs and gradients of x and all parameters: reordered, then as published."""
    results = []
    for reference in (False, True):
        module.reference = reference
        y = module(x)
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
    assert torch.allclose(correct(x)[..., channel_half], released(x)[..., channel_half])
    assert not torch.allclose(correct(x), released(x))


def test_permuting_tokens_and_projections_permutes_the_output():
    """Permuting tokens together with the projections' columns permutes the output, so EPA uses no positions itself."""
    module = attention(8, 12, 4, spatial_layout="correct")
    x = torch.randn(1, 12, 8, dtype=torch.float64)
    order = torch.randperm(12)
    expected = module(x)[:, order]
    with torch.no_grad():
        module.project_keys.weight.copy_(module.project_keys.weight[:, order])
    torch.testing.assert_close(module(x[:, order]), expected)


@pytest.mark.parametrize("dropout", [0.0, 0.2])
def test_mean_over_dropout_is_the_value_without(dropout):
    module = attention(8, 64, 16)
    module.dropout = dropout
    x = torch.randn(1, 64, 8, dtype=torch.float64)
    mean = torch.stack([module.train()(x) for _ in range(400 if dropout else 1)]).mean(0)
    spread = float(module.eval()(x).detach().std())
    assert float((mean - module(x)).detach().abs().mean()) < 0.05 * spread + 1e-12


def test_autocast_keeps_the_norms_in_float32():
    module = attention(16, 200, 16, torch.float32)
    x = torch.randn(1, 200, 16)
    with torch.autocast("cpu", torch.bfloat16):
        low = module(x)
    assert float((low.float() - module(x)).detach().abs().max()) < 0.05 * float(module(x).detach().abs().max())


def test_a_new_block_is_nearly_a_residual_block():
    """gamma starts at 1e-6, so attention hardly shows at first."""
    norm = norm_maker("batch", 3, 64)
    block = EPABlock(8, architecture(), tokens=64, projected=16, kernel=(3, 3, 3), norm=norm).eval()
    x = torch.randn(1, 8, 4, 4, 4)
    with torch.no_grad():
        torch.testing.assert_close(block(x), x + block.out(block.convolutions(x)), rtol=0, atol=1e-4)


def test_reference_operators_reach_every_block():
    norm = norm_maker("batch", 3, 64)
    block = EPABlock(8, architecture(), tokens=64, projected=16, kernel=(3, 3, 3), norm=norm)
    use_reference_operators(torch.nn.Sequential(block))
    assert block.attention.reference
