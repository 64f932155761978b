"""Chunked attention against the formula, with and without dropout."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from unetrpp.networks.cpu_kernels import spatial_attention as module
from unetrpp.networks.cpu_kernels.spatial_attention import chunked_attention, spatial_attention


def naive(q: Tensor, keys: Tensor, values: Tensor, heads: int, kept: Tensor | None = None) -> Tensor:
    q, keys, values = (t.unflatten(-1, (heads, -1)) for t in (q, keys, values))
    weights = torch.einsum("bnhd,bphd->bhnp", q, keys).softmax(-1)
    weights = weights if kept is None else weights * kept
    return torch.einsum("bhnp,bphd->bnhd", weights, values).flatten(2)


def tensors(batch: int, tokens: int, projected: int, channels: int) -> list[Tensor]:
    torch.manual_seed(tokens)
    sizes = (tokens, projected, projected)
    return [torch.randn(batch, n, channels, dtype=torch.float64, requires_grad=True) for n in sizes]


@given(
    batch=st.integers(1, 3),
    tokens=st.integers(1, 40),
    projected=st.integers(1, 9),
    heads=st.sampled_from([1, 2, 4]),
    width=st.integers(1, 5),
    dropped=st.booleans(),
)
@settings(max_examples=25, deadline=None)
def test_value_and_gradients_are_those_of_the_formula(batch, tokens, projected, heads, width, dropped):
    arguments = tensors(batch, tokens, projected, heads * width)
    kept = torch.rand(batch, heads, tokens, projected) > 0.3 if dropped else None
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "CHUNK", 7)  # several chunks, the last one incomplete
        found, expected = chunked_attention(*arguments, heads, kept), naive(*arguments, heads, kept)
        weights = torch.randn_like(found)
        gradients = torch.autograd.grad((found * weights).sum(), arguments)
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(gradients, torch.autograd.grad((expected * weights).sum(), arguments))


def test_dropout_keeps_the_expected_value_and_share():
    q, keys, values = (t.detach().float() for t in tensors(1, 4000, 64, 8))
    dropped = spatial_attention(q, keys, values.abs(), heads=2, dropout=0.15)
    whole = spatial_attention(q, keys, values.abs(), heads=2)
    assert float(dropped.mean() / whole.mean()) == pytest.approx(1, abs=0.01)
    kept = module._kept_weights(q, 2, 64, 0.15)
    assert float(kept.float().mean()) == pytest.approx(0.85, abs=0.003)


def test_dropout_follows_the_seed():
    arguments = [t.detach() for t in tensors(1, 50, 8, 4)]
    runs = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        runs.append(spatial_attention(*arguments, heads=2, dropout=0.5))
    assert torch.equal(runs[0], runs[1])
    assert not torch.equal(runs[0], runs[2])


@pytest.mark.filterwarnings(
    "ignore:The .grad attribute of a Tensor that is not a leaf"
)  # which opcheck of torch 2.14 reads
def test_the_registered_operators_pass_torchs_checks():
    arguments = tensors(2, 10, 3, 4)
    torch.library.opcheck(chunked_attention, (*arguments, 2, None))
    torch.library.opcheck(chunked_attention, (*arguments, 2, torch.rand(2, 2, 10, 3) > 0.5))
