"""Efficient paired attention (EPA): channel and spatial attention with shared queries and keys (UNETR++, 3.2)."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from unetrpp.networks.blocks import OPERATORS, NormMaker, ResidualBlock, pointwise
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
        self.reference = False  # compute step by step as published
        self.heads = architecture.heads
        self.spatial_layout = architecture.spatial_layout
        self.dropout = architecture.attention_dropout
        self.qkvv = nn.Linear(channels, 4 * channels, bias=False)
        self.project_keys = nn.Linear(tokens, projected, bias=architecture.projection != "parameter")
        if architecture.projection == "parameter":
            nn.init.uniform_(self.project_keys.weight, -1 / math.sqrt(projected), 1 / math.sqrt(projected))
        self.project_values = nn.Linear(tokens, projected) if architecture.projection == "separate" else None
        self.channel_temperature = nn.Parameter(torch.ones(self.heads, 1, 1))
        self.spatial_temperature = nn.Parameter(torch.ones(self.heads, 1, 1))
        concat = architecture.fusion == "concat"
        self.spatial_out = nn.Linear(channels, channels // 2) if concat else None
        self.channel_out = nn.Linear(channels, channels // 2) if concat else None

    def forward(self, x: Tensor) -> Tensor:
        return self.as_published(x) if self.reference else self.rearranged(x)

    def as_published(self, x: Tensor) -> Tensor:
        """Step by step as in the paper."""
        batch, tokens, _ = x.shape
        q, k, v_channel, v_spatial = self.qkvv(x).view(batch, tokens, 4, self.heads, -1).permute(2, 0, 3, 4, 1)
        keys, values = self.project_keys(k), (self.project_values or self.project_keys)(v_spatial)  # (B, h, d, P)
        q, k = (F.normalize(t, dim=-1, eps=NORMALIZE_EPS) for t in (q, k))
        channel = self._attend(q @ k.mT * self.channel_temperature) @ v_channel  # (B, h, d, N)
        spatial = self._attend(q.mT @ keys * self.spatial_temperature) @ values.mT  # (B, h, N, d)
        return self._fuse(self._laid_out(spatial), channel.permute(0, 3, 1, 2).reshape(x.shape))

    def _attend(self, logits: Tensor) -> Tensor:
        return F.dropout(logits.softmax(-1), self.dropout, self.training)

    def _laid_out(self, spatial: Tensor) -> Tensor:
        """(B, h, N, d) -> (B, N, C), or what the released code makes of it, which mixes tokens and channels."""
        order = (0, 2, 1, 3) if self.spatial_layout == "correct" else (0, 3, 1, 2)
        batch, _, tokens, _ = spatial.shape
        return spatial.permute(order).reshape(batch, tokens, -1)

    def _fuse(self, spatial: Tensor, channel: Tensor) -> Tensor:
        if self.spatial_out is None or self.channel_out is None:
            return channel + spatial
        return torch.cat([self.spatial_out(spatial), self.channel_out(channel)], dim=-1)

    def rearranged(self, x: Tensor) -> Tensor:
        """The same, with matrix products reordered so that of all N x C tensors only queries and keys are made.

        Projecting tokens to P before mapping them to keys and values costs N P C once. The channel map is C x C, so it
        is merged with the maps before and after it. Norms along N divide the small matrices, not the tokens.
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
        spatial = spatial_attention(q, keys, values, self.heads, self.dropout if self.training else 0.0)
        if self.spatial_layout == "released":
            spatial = self._laid_out(spatial.unflatten(-1, (self.heads, -1)).transpose(1, 2))
        if self.spatial_out is None:
            return channel + spatial
        return torch.cat([self.spatial_out(spatial), channel], dim=-1)

    def _channel_map(self, cosines: Tensor, to_v: Tensor) -> Tensor:
        """From cosines (B, C, C): values -> channel attention -> output as one map (B, C or C / 2, C) of the tokens."""
        own_head = cosines.unflatten(2, (self.heads, -1)).unflatten(1, (self.heads, -1))
        own_head = own_head.diagonal(dim1=1, dim2=3).permute(0, 3, 1, 2)  # (B, h, d, d)
        attended = self._attend(own_head * self.channel_temperature) @ to_v.unflatten(0, (self.heads, -1))
        attended = attended.flatten(1, 2)
        return attended if self.channel_out is None else self.channel_out.weight @ attended

    def _projected(self, x: Tensor, to_k: Tensor, to_v: Tensor) -> tuple[Tensor, Tensor]:
        """Keys and values (B, P, C)."""
        project_values = self.project_values or self.project_keys
        summary = self.project_keys.weight @ x  # (B, P, C)
        other = summary if self.project_values is None else self.project_values.weight @ x
        keys, values = F.linear(summary, to_k), F.linear(other, to_v)
        if self.project_keys.bias is not None:
            keys, values = keys + self.project_keys.bias[:, None], values + project_values.bias[:, None]
        return keys, values


def _inverse_norms(t: Tensor) -> Tensor:
    """1 / the L2 norm along the tokens: (B, N, C) -> (B, C), float32 under autocast."""
    dtype = torch.float64 if t.dtype == torch.float64 else torch.float32
    return 1 / torch.linalg.vector_norm(t, dim=1, dtype=dtype).clamp_min(NORMALIZE_EPS)


def _cosines(q: Tensor, k: Tensor, q_scale: Tensor, k_scale: Tensor) -> Tensor:
    """(B, N, C) twice -> (B, C, C). Products are averaged before they leave float32: a sum overflows in float16."""
    tokens = q.shape[1]
    means = torch.baddbmm(q.new_zeros(()), q.mT, k, beta=0, alpha=1 / tokens)
    return means * (tokens * q_scale).unsqueeze(2) * k_scale.unsqueeze(1)


class EPABlock(nn.Module):
    """EPA with a learned position and a scaled residual, then residual convolutions on the volume.

    (B, C, *size) -> (B, C, *size); position and projections tie the block to one size.
    """

    def __init__(
        self,
        channels: int,
        tokens: int,
        projected: int,
        kernel: tuple[int, ...],
        norm: NormMaker,
        architecture: Architecture,
    ):
        super().__init__()
        self.position = nn.Parameter(torch.zeros(1, tokens, channels))
        self.norm = nn.LayerNorm(channels)
        self.gamma = nn.Parameter(torch.full((channels,), architecture.layer_scale))
        self.attention = EfficientPairedAttention(channels, tokens, projected, architecture)
        convs = (ResidualBlock(channels, channels, kernel, norm) for _ in range(architecture.residual_convs))
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
        return volume + self.out(self.dropout(self.convolutions(volume)))


def use_reference_operators(network: nn.Module) -> None:
    """Compute every EPA step by step as published, so that multiply-adds are counted on the published operators."""
    for module in network.modules():
        if isinstance(module, EfficientPairedAttention):
            module.reference = True
