"""EPA's spatial attention: every token attends to P projected tokens, and the N x P maps are not kept."""

from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from unetrpp.networks.cpu_kernels.dispatch import takes_cpu_kernel

CHUNK = 2048  # tokens whose maps stay in a core's cache
NARROW = 8  # columns of a matrix product's result that a matrix library is slow for


def spatial_attention(q: Tensor, keys: Tensor, values: Tensor, *, heads: int, dropout: float = 0.0) -> Tensor:
    """softmax(q keys^T) values, head by head: q (B, N, C), keys and values (B, P, C) -> (B, N, C).

    Nothing is scaled here: temperatures and norms are already in the keys. PyTorch's fused attention is slow on a CPU
    for heads this narrow and keeps all maps for dropout. The CPU kernel computes the maps of a chunk of tokens twice,
    in the forward and in the backward pass, and they never leave the cache.
    """
    keys, values = keys.to(q.dtype), values.to(q.dtype)
    if takes_cpu_kernel(q):
        values = values / (1 - dropout) if dropout else values
        kept = _kept_weights(q, heads, keys.shape[1], dropout) if dropout else None
        chunked: Tensor = chunked_attention(q, keys, values, heads, kept)
        return chunked
    by_head = [_by_head(t, heads) for t in (q, keys, values)]
    out = F.scaled_dot_product_attention(by_head[0], by_head[1], by_head[2], dropout_p=dropout, scale=1.0)
    return out.transpose(1, 2).flatten(2)


def _kept_weights(q: Tensor, heads: int, projected: int, dropout: float) -> Tensor:
    """Which weights (B, h, N, P) survive dropout.

    Every 64-bit random number gives four draws of 16 bits: PyTorch's bernoulli takes five times longer on a CPU.
    """
    shape = (q.shape[0], heads, q.shape[1], projected)
    count = shape[0] * shape[1] * shape[2] * shape[3]
    numbers = torch.empty(-(-count // 4), dtype=torch.int64).random_(-(2**63), None)  # the whole range
    return numbers.view(torch.int16)[:count].view(shape) >= round((dropout - 0.5) * 2**16)


@torch.library.custom_op("unetrpp::chunked_attention", mutates_args=())
def chunked_attention(q: Tensor, keys: Tensor, values: Tensor, heads: int, kept: Tensor | None) -> Tensor:
    """:func:`spatial_attention` chunk by chunk; ``kept`` is the dropout mask (B, h, N, P)."""
    out = torch.empty_like(q)
    k, v, o, queries = (_by_head(t, heads) for t in (keys, values, out, q))
    for at in _chunks(q):
        weights = _weights(queries[at], k[at[0]])
        o[at] = _tall_product(weights if kept is None else weights * kept[at], v[at[0]])
    return out


@torch.library.custom_op("unetrpp::chunked_attention_backward", mutates_args=())
def chunked_attention_backward(
    gradient: Tensor, q: Tensor, keys: Tensor, values: Tensor, heads: int, kept: Tensor | None
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients for q, keys and values."""
    gradients = torch.empty_like(q), torch.zeros_like(keys), torch.zeros_like(values)
    queries, k, v, g, gq, gk, gv = (_by_head(t, heads) for t in (q, keys, values, gradient, *gradients))
    for at in _chunks(q):
        b = at[0]
        weights = _weights(queries[at], k[b])
        grad_weights = g[at] @ v[b].mT
        dropped = weights
        if kept is not None:
            mask = kept[at].to(weights.dtype)
            dropped, grad_weights = weights * mask, grad_weights.mul_(mask)
        grad_logits = torch._softmax_backward_data(grad_weights, weights, -1, weights.dtype)
        gv[b] += (g[at].mT @ dropped).mT
        gk[b] += (queries[at].mT @ grad_logits).mT
        gq[at] = _tall_product(grad_logits, k[b])
    return gradients


def _save_for_backward(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    q, keys, values, ctx.heads, kept = inputs
    ctx.save_for_backward(q, keys, values, kept)


def _backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
    q, keys, values, kept = ctx.saved_tensors
    return *chunked_attention_backward(gradient, q, keys, values, ctx.heads, kept), None, None


chunked_attention.register_fake(lambda q, keys, values, heads, kept: torch.empty_like(q))
chunked_attention_backward.register_fake(lambda g, q, k, v, heads, kept: tuple(torch.empty_like(t) for t in (q, k, v)))
chunked_attention.register_autograd(_backward, setup_context=_save_for_backward)


def _chunks(q: Tensor) -> Iterator[tuple[int, slice, slice]]:
    """Indices (sample, all heads, a chunk of tokens)."""
    for b in range(q.shape[0]):
        for start in range(0, q.shape[1], CHUNK):
            yield b, slice(None), slice(start, start + CHUNK)


def _by_head(t: Tensor, heads: int) -> Tensor:
    """(B, N, C) -> a view (B, h, N, d)."""
    return t.view(*t.shape[:2], heads, -1).transpose(1, 2)


def _weights(queries: Tensor, keys: Tensor) -> Tensor:
    weights: Tensor = (queries @ keys.mT).softmax(-1)
    return weights


def _tall_product(weights: Tensor, values: Tensor) -> Tensor:
    """weights (h, n, P) values (h, P, d): transposed where the result has very few columns."""
    return (values.mT @ weights.mT).mT if values.shape[-1] <= NARROW else weights @ values
