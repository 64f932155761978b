"""Efficient paired attention (EPA): channel and spatial attention with shared queries and keys (UNETR++, 3.2)."""

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
        """
        to_q, to_k, to_v_channel, to_v_spatial = self.qkvv.weight.chunk(4)
        q, k = F.linear(x, to_q), F.linear(x, to_k)
        q_scale, k_scale = _inverse_norms(q), _inverse_norms(k)  # (B, C)

        channel_map = self._channel_map(_cosines(q, k, q_scale, k_scale), to_v_channel)
        bias = None if self.channel_out is None else self.channel_out.bias
        channel = x @ channel_map.mT if bias is None else torch.baddbmm(bias, x, channel_map.mT)

        keys, values = self._projected(x, to_k, to_v_spatial)
        temperature = self.spatial_temperature.flatten().repeat_interleave(q.shape[-1] // self.heads)
        keys = keys * (q_scale * temperature).unsqueeze(1)
        spatial = spatial_attention(q, keys, values, heads=self.heads, dropout=self.dropout if self.training else 0.0)
        if self.spatial_layout == "released":
            spatial = self._to_tokens(spatial.view(*spatial.shape[:2], self.heads, -1).transpose(1, 2))
        if self.spatial_out is None:
            return channel + spatial
        return torch.cat([self.spatial_out(spatial), channel], dim=-1)

    def _channel_map(self, cosines: Tensor, to_v: Tensor) -> Tensor:
        """Channel attention, with the maps to its values and to its output, as one map (B, C or C / 2, C) of the tokens.

        Args:
            cosines: between queries and keys (B, C, C).
            to_v: weight (C, C) of the map from tokens to values.
        """
        batch, channels, _ = cosines.shape
        by_head = (self.heads, channels // self.heads)
        own_head = cosines.view(batch, *by_head, *by_head).diagonal(dim1=1, dim2=3).permute(0, 3, 1, 2)  # (B, h, d, d)
        attended = self._attend(own_head * self.channel_temperature) @ to_v.view(*by_head, channels)
        attended = attended.flatten(1, 2)
        return attended if self.channel_out is None else self.channel_out.weight @ attended

    def _projected(self, x: Tensor, to_k: Tensor, to_v: Tensor) -> tuple[Tensor, Tensor]:
        """Keys and values (B, P, C) of the spatial attention."""
        project_values = self.project_values or self.project_keys
        summary = self.project_keys.weight @ x  # (B, P, C)
        other = summary if self.project_values is None else self.project_values.weight @ x
        keys, values = F.linear(summary, to_k), F.linear(other, to_v)
        if self.project_keys.bias is not None:
            keys, values = keys + self.project_keys.bias[:, None], values + project_values.bias[:, None]
        return keys, values


def _inverse_norms(t: Tensor) -> Tensor:
    """1 / L2 norm along the tokens: (B, N, C) -> (B, C), in float32 also under autocast."""
    dtype = torch.float64 if t.dtype == torch.float64 else torch.float32
    inverse: Tensor = 1 / torch.linalg.vector_norm(t, dim=1, dtype=dtype).clamp_min(NORMALIZE_EPS)
    return inverse


def _cosines(q: Tensor, k: Tensor, q_scale: Tensor, k_scale: Tensor) -> Tensor:
    """Cosines (B, C, C) between the channels of q and k (B, N, C). The mean over tokens is taken inside the product,
    because their sum overflows in float16.
    """
    tokens = q.shape[1]
    means = torch.baddbmm(q.new_zeros(()), q.mT, k, beta=0, alpha=1 / tokens)
    cosines: Tensor = means * (tokens * q_scale).unsqueeze(2) * k_scale.unsqueeze(1)
    return cosines


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
