"""Efficient paired attention (EPA): channel and spatial attention with shared queries and keys (UNETR++, 3.2)."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from unetrpp.networks.architecture import Architecture
from unetrpp.networks.blocks import OPERATORS, NormMaker, ResidualBlock, pointwise

NORMALIZE_EPS = 1e-12


class EfficientPairedAttention(nn.Module):
    """Tokens (B, N, C) -> (B, N, C).

    One linear map makes queries, keys and two values. Channel attention compares channels over all tokens, spatial
    attention compares each token with P tokens that keys and values are projected to.
    """

    def __init__(self, channels: int, tokens: int, projected: int, architecture: Architecture):
        super().__init__()
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
        batch, tokens, _ = x.shape
        q, k, v_channel, v_spatial = self.qkvv(x).view(batch, tokens, 4, self.heads, -1).permute(2, 0, 3, 4, 1)
        keys, values = self.project_keys(k), (self.project_values or self.project_keys)(v_spatial)  # (B, h, d, P)
        q, k = (F.normalize(t, dim=-1, eps=NORMALIZE_EPS) for t in (q, k))

        channel = self._attend(q @ k.mT * self.channel_temperature) @ v_channel  # (B, h, d, N)
        channel = channel.permute(0, 3, 1, 2).reshape(x.shape)
        spatial = self._attend(q.mT @ keys * self.spatial_temperature) @ values.mT  # (B, h, N, d)
        order = (0, 2, 1, 3) if self.spatial_layout == "correct" else (0, 3, 1, 2)
        spatial = spatial.permute(order).reshape(x.shape)

        if self.spatial_out is None or self.channel_out is None:
            return channel + spatial
        return torch.cat([self.spatial_out(spatial), self.channel_out(channel)], dim=-1)

    def _attend(self, logits: Tensor) -> Tensor:
        return F.dropout(logits.softmax(-1), self.dropout, self.training)


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

    def patch_bound(self) -> list[nn.Parameter]:
        """The parameters that fit one number of tokens only."""
        projections = [self.attention.project_keys, self.attention.project_values]
        return [self.position, *(p.weight for p in projections if p is not None)]

    def forward(self, x: Tensor) -> Tensor:
        tokens = x.flatten(2).mT + self.position
        tokens = tokens + self.gamma * self.attention(self.norm(tokens))
        volume = tokens.mT.reshape(x.shape)
        return volume + self.out(self.dropout(self.convolutions(volume)))


def use_reference_operators(network: nn.Module) -> None:
    """Compute every EPA as the paper writes it, so that multiply-adds are counted on the published operators."""
