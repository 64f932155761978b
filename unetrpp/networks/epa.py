"""Efficient paired attention (EPA): channel and spatial attention with shared queries and keys (UNETR++, 3.2)."""

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from unetrpp.networks.blocks import OPERATORS, NormMaker, ResidualBlock, TokenParameter, pointwise
from unetrpp.networks.cpu_kernels.spatial_attention import spatial_attention
from unetrpp.plans.architecture import Architecture

NORMALIZE_EPS = 1e-12


class EfficientPairedAttention(nn.Module):
    """Tokens (B, N, C) -> (B, N, C).

    One linear map makes queries, keys and two values. Channel attention compares channels over all tokens, spatial
    attention compares each token with P tokens that keys and values are projected to.
    """

    def __init__(self, channels: int, tokens: int, projected: int, architecture: Architecture):
        super().__init__()
        self.reference = False  # True: compute step by step as published (use_reference_operators)
        self.heads = architecture.heads
        self.spatial_layout = architecture.spatial_layout
        self.dropout = architecture.attention_dropout
        self.qkvv = nn.Linear(channels, 4 * channels, bias=False)
        projection = TokenParameter if architecture.projection == "parameter" else nn.Linear
        self.project_keys = projection(tokens, projected)
        self.project_values = nn.Linear(tokens, projected) if architecture.projection == "separate" else None
        self.channel_temperature = nn.Parameter(torch.ones(self.heads, 1, 1))
        self.spatial_temperature = nn.Parameter(torch.ones(self.heads, 1, 1))
        concat = architecture.fusion == "concat"
        self.spatial_out = nn.Linear(channels, channels // 2) if concat else None
        self.channel_out = nn.Linear(channels, channels // 2) if concat else None

    def forward(self, x: Tensor) -> Tensor:
        return self.as_published(x) if self.reference else self.rearranged(x)

    def as_published(self, x: Tensor) -> Tensor:
        """EPA step by step as in the paper."""
        batch, tokens, _ = x.shape
        q, k, v_channel, v_spatial = self.qkvv(x).view(batch, tokens, 4, self.heads, -1).permute(2, 0, 3, 4, 1)
        keys, values = self.project_keys(k), (self.project_values or self.project_keys)(v_spatial)  # (B, h, d, P)
        q, k = (F.normalize(t, dim=-1, eps=NORMALIZE_EPS) for t in (q, k))
        channel = self._attend(q @ k.mT * self.channel_temperature) @ v_channel  # (B, h, d, N)
        spatial = self._attend(q.mT @ keys * self.spatial_temperature) @ values.mT  # (B, h, N, d)
        return self._fuse(self._to_tokens(spatial), channel.permute(0, 3, 1, 2).reshape(x.shape))

    def _attend(self, logits: Tensor) -> Tensor:
        return F.dropout(logits.softmax(-1), self.dropout, self.training)

    def _to_tokens(self, spatial: Tensor) -> Tensor:
        """(B, h, N, d) -> (B, N, C). The released code permutes the axes otherwise, which mixes tokens and channels."""
        order = (0, 2, 1, 3) if self.spatial_layout == "correct" else (0, 3, 1, 2)
        batch, _, tokens, _ = spatial.shape
        return spatial.permute(order).reshape(batch, tokens, -1)

    def _fuse(self, spatial: Tensor, channel: Tensor) -> Tensor:
        if self.spatial_out is None or self.channel_out is None:
            return channel + spatial
        return torch.cat([self.spatial_out(spatial), self.channel_out(channel)], dim=-1)

    def rearranged(self, x: Tensor) -> Tensor:
        """The same result with the matrix products reordered: the only N x C tensors are queries and keys.

        Tokens are projected to P before they are mapped to keys and values, which costs N P C once. The channel map is
        C x C, so it is merged with the maps before and after it. Norms along N divide the small matrices, not the tokens.
        Tokens and weights are cast once, here, because autocast would cast them again for every product.
        """
        batch, tokens, channels = x.shape
        x = x.to(product_type(x))
        to_qkvv = self.qkvv.weight.to(x.dtype)
        _, to_k, to_v_channel, to_v_spatial = to_qkvv.chunk(4)
        # The sum of q k over the tokens overflows in float16, so both carry the root of 1 / N. A power of 2 is exact.
        scale = 2.0 ** -round(math.log2(tokens) / 2)
        qk = F.linear(x, to_qkvv[: 2 * channels] * scale)
        q, k = qk.chunk(2, -1)
        q_scale, k_scale = _inverse_norms(qk).view(batch, 2, self.heads, -1).unbind(1)  # (B, h, d)

        own_head = (
            torch.bmm(q.mT, k).view(batch, self.heads, channels // self.heads, self.heads, -1).diagonal(dim1=1, dim2=3)
        )
        cosines = own_head.movedim(-1, 1) * q_scale.unsqueeze(3) * k_scale.unsqueeze(2)  # (B, h, d, d)
        channel_map = self._channel_map(cosines.transpose(0, 1), to_v_channel)
        bias = None if self.channel_out is None else self.channel_out.bias.to(x.dtype)
        channel = torch.bmm(x, channel_map) if bias is None else torch.baddbmm(bias, x, channel_map)

        keys, values = self._projected(x, to_k, to_v_spatial)
        keys = keys * (q_scale * self.spatial_temperature.squeeze(2)).view(batch, 1, channels)
        spatial = spatial_attention(q, keys, values, heads=self.heads, dropout=self.dropout if self.training else 0.0)
        if self.spatial_layout == "released":
            spatial = self._to_tokens(spatial.view(*spatial.shape[:2], self.heads, -1).transpose(1, 2))
        if self.spatial_out is None:
            return channel + spatial
        return torch.cat([self.spatial_out(spatial), channel], dim=-1)

    def _channel_map(self, cosines: Tensor, to_v: Tensor) -> Tensor:
        """Channel attention, with the maps to its values and to its output, as one map (B, C, C or C / 2) of the tokens.

        Args:
            cosines: between queries and keys (h, B, d, d).
            to_v: weight (C, C) of the map from tokens to values.
        """
        heads, batch, width, _ = cosines.shape
        attended = self._attend(cosines * self.channel_temperature.unsqueeze(1)).to(to_v.dtype)
        attended = torch.bmm(attended.flatten(1, 2), to_v.view(heads, width, -1))  # (h, B d, C)
        merged = attended.view(heads, batch, width, -1).permute(1, 3, 0, 2).flatten(2)  # (B, C, C)
        return merged if self.channel_out is None else F.linear(merged, self.channel_out.weight.to(to_v.dtype))

    def _projected(self, x: Tensor, to_k: Tensor, to_v: Tensor) -> tuple[Tensor, Tensor]:
        """Keys and values (B, P, C) of the spatial attention."""
        summary = _over_tokens(self.project_keys, x)
        other = summary if self.project_values is None else _over_tokens(self.project_values, x)
        keys, values = F.linear(summary, to_k), F.linear(other, to_v)
        if self.project_keys.bias is not None:
            bias = self.project_keys.bias.to(x.dtype)
            other_bias = bias if self.project_values is None else self.project_values.bias.to(x.dtype)
            keys, values = keys + bias[:, None], values + other_bias[:, None]
        return keys, values


def product_type(x: Tensor) -> torch.dtype:
    """The type in which matrix products of x are computed: autocast's where it is on."""
    device = x.device.type
    return torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else x.dtype


def _over_tokens(layer: nn.Linear, x: Tensor) -> Tensor:
    """The weight (P, N) of a map of tokens times x (B, N, C): (B, P, C)."""
    return torch.bmm(layer.weight.to(x.dtype).expand(len(x), -1, -1), x)


def _inverse_norms(t: Tensor) -> Tensor:
    """1 / L2 norm along the tokens: (B, N, C) -> (B, C), in float32 also under autocast."""
    inverse: Tensor = _InverseNorms.apply(t)  # type: ignore[no-untyped-call]
    return inverse


class _InverseNorms(torch.autograd.Function):
    """Needs no copy of the tokens in float32, and one operator on them in the backward pass, where autograd takes five."""

    @staticmethod
    def forward(ctx: Any, t: Tensor) -> Tensor:
        dtype = torch.float64 if t.dtype == torch.float64 else torch.float32
        with torch.autocast(t.device.type, enabled=False):
            norms = torch.linalg.vector_norm(t, dim=1, dtype=dtype)
        inverse: Tensor = norms.clamp_min(NORMALIZE_EPS).reciprocal()
        ctx.save_for_backward(t, inverse)
        return inverse

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        t, inverse = ctx.saved_tensors
        slope: Tensor = (gradient * inverse**3).neg().to(t.dtype)
        along_tokens: Tensor = t * slope.unsqueeze(1)
        return along_tokens


class EPABlock(nn.Module):
    """EPA with a learned position and a scaled residual, then residual convolutions on the volume.

    (B, C, *size) -> (B, C, *size); position and projections fit one size only.

    Args:
        tokens: voxels of the size.
        projected: P, tokens that keys and values are projected to.
        norm: of the residual convolutions.
    """

    def __init__(
        self,
        channels: int,
        architecture: Architecture,
        *,
        tokens: int,
        projected: int,
        kernel: tuple[int, ...],
        norm: NormMaker,
    ):
        super().__init__()
        self.position = nn.Parameter(torch.zeros(1, tokens, channels))
        self.norm = nn.LayerNorm(channels)
        self.gamma = nn.Parameter(torch.full((channels,), architecture.layer_scale))
        self.attention = EfficientPairedAttention(channels, tokens, projected, architecture)
        convs = (ResidualBlock(channels, channels, kernel, norm=norm) for _ in range(architecture.residual_convs))
        self.convolutions = nn.Sequential(*convs)
        self.dropout = OPERATORS[len(kernel)].dropout(architecture.dropout)
        self.out = pointwise(channels, channels, len(kernel), bias=True)

    def patch_bound(self) -> list[Tensor]:
        """The parameters that fit one number of tokens only."""
        projections = (self.attention.project_keys, self.attention.project_values)
        return [self.position, *[p.weight for p in projections if p is not None]]

    def forward(self, x: Tensor) -> Tensor:
        tokens = x.flatten(2).mT + self.position
        tokens = torch.addcmul(tokens, self.gamma, self.attention(self.norm(tokens)))
        volume = tokens.mT.reshape(x.shape)
        out: Tensor = volume + self.out(self.dropout(self.convolutions(volume)))
        return out


def use_reference_operators(network: nn.Module) -> None:
    """Compute every EPA step by step as published; networks/cost.py counts multiply-adds on these operators."""
    for module in network.modules():
        if isinstance(module, EfficientPairedAttention):
            module.reference = True
