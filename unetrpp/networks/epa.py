"""Efficient paired attention (EPA): channel and spatial attention with shared queries and keys.

:class:`EfficientPairedAttention` is that of UNETR++ (3.2), whose projections fit one patch. :class:`PooledPairedAttention` (ours)
has none: keys and values are means over the cells of a grid.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from unetrpp.networks.blocks import OPERATORS, NormMaker, ResidualBlock, TokenParameter, pointwise
from unetrpp.networks.cpu_kernels.spatial_attention import spatial_attention
from unetrpp.networks.drop_path import DropPath
from unetrpp.plans.architecture import Architecture

NORMALIZE_EPS = 1e-12


class PairedAttention(nn.Module):
    """Tokens (B, N, C) of a volume -> (B, N, C).

    One linear map makes queries, keys and two values. Channel attention compares channels over all tokens, spatial
    attention compares each token with P keys that summarise all tokens.

    Args:
        projections: makes the modules that a subclass adds. They are made in this place, so that a seed gives the same start as
            ever.
    """

    def __init__(
        self,
        channels: int,
        architecture: Architecture,
        projections: Callable[[], Mapping[str, nn.Linear | None]] = dict,
    ):
        super().__init__()
        self.reference = False  # True: compute step by step as described (use_reference_operators)
        self.heads = architecture.heads
        self.spatial_layout = architecture.spatial_layout
        self.dropout = architecture.attention_dropout
        self.qkvv = nn.Linear(channels, 4 * channels, bias=False)
        for name, module in projections().items():
            self.add_module(name, module)
        self.channel_temperature = nn.Parameter(torch.ones(self.heads, 1, 1))
        self.spatial_temperature = nn.Parameter(torch.ones(self.heads, 1, 1))
        concat = architecture.fusion == "concat"
        self.spatial_out = nn.Linear(channels, channels // 2) if concat else None
        self.channel_out = nn.Linear(channels, channels // 2) if concat else None

    def forward(self, x: Tensor, size: Sequence[int]) -> Tensor:
        """``size``: of the volume whose voxels are the tokens, in their order."""
        return self.step_by_step(x, size) if self.reference else self.rearranged(x, size)

    def step_by_step(self, x: Tensor, size: Sequence[int]) -> Tensor:
        """As described: all queries, keys and values are made, then both attentions."""
        batch, tokens, _ = x.shape
        q, k, v_channel, v_spatial = self.qkvv(x).view(batch, tokens, 4, self.heads, -1).permute(2, 0, 3, 4, 1)
        keys, values = self.summaries(k, v_spatial, size)  # (B, h, d, P)
        q, k = (F.normalize(t, dim=-1, eps=NORMALIZE_EPS) for t in (q, k))
        channel = self._attend(q @ k.mT * self.channel_temperature) @ v_channel  # (B, h, d, N)
        spatial = self._attend(q.mT @ keys * self.spatial_temperature) @ values.mT  # (B, h, N, d)
        return self._fuse(self._to_tokens(spatial), channel.permute(0, 3, 1, 2).reshape(x.shape))

    def summaries(self, k: Tensor, v: Tensor, size: Sequence[int]) -> tuple[Tensor, Tensor]:
        """Keys and values (B, h, d, N) of the tokens -> those of the spatial attention (B, h, d, P).

        Queries come normalised along the tokens, so whatever else the keys need is done here.
        """
        raise NotImplementedError

    def summarise(self, x: Tensor, size: Sequence[int]) -> tuple[Tensor, Tensor]:
        """Tokens (B, N, C) -> what keys and values are mapped from (B, P, C)."""
        raise NotImplementedError

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

    def rearranged(self, x: Tensor, size: Sequence[int]) -> Tensor:
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

        keys, values = self._projected(x, size, to_k, to_v_spatial)
        key_scale = self.key_scale(q_scale, k_scale, tokens, scale)
        keys = keys * (key_scale * self.spatial_temperature.squeeze(2)).view(batch, 1, channels)
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

    def _projected(self, x: Tensor, size: Sequence[int], to_k: Tensor, to_v: Tensor) -> tuple[Tensor, Tensor]:
        """Keys and values (B, P, C) of the spatial attention."""
        summary, other = self.summarise(x, size)
        return F.linear(summary, to_k), F.linear(other, to_v)

    def key_scale(self, q_scale: Tensor, k_scale: Tensor, tokens: int, scale: float) -> Tensor:
        """The factor (B, h, d) that keys get in place of the queries: 1 / norm of the queries along the tokens."""
        return q_scale


class EfficientPairedAttention(PairedAttention):
    """As published: learned maps project keys and values to P tokens, so it fits volumes of N voxels only."""

    project_keys: nn.Linear
    project_values: nn.Linear | None  # None: keys and values have one map

    def __init__(self, channels: int, tokens: int, projected: int, architecture: Architecture):
        def projections() -> dict[str, nn.Linear | None]:
            of_keys = TokenParameter if architecture.projection == "parameter" else nn.Linear
            separate = architecture.projection == "separate"
            return {
                "project_keys": of_keys(tokens, projected),
                "project_values": nn.Linear(tokens, projected) if separate else None,
            }

        super().__init__(channels, architecture, projections)

    def summaries(self, k: Tensor, v: Tensor, size: Sequence[int]) -> tuple[Tensor, Tensor]:
        return self.project_keys(k), (self.project_values or self.project_keys)(v)

    def summarise(self, x: Tensor, size: Sequence[int]) -> tuple[Tensor, Tensor]:
        summary = _over_tokens(self.project_keys, x)
        return summary, summary if self.project_values is None else _over_tokens(self.project_values, x)

    def _projected(self, x: Tensor, size: Sequence[int], to_k: Tensor, to_v: Tensor) -> tuple[Tensor, Tensor]:
        keys, values = super()._projected(x, size, to_k, to_v)
        if self.project_keys.bias is not None:
            bias = self.project_keys.bias.to(x.dtype)
            other_bias = bias if self.project_values is None else self.project_values.bias.to(x.dtype)
            keys, values = keys + bias[:, None], values + other_bias[:, None]
        return keys, values


class PooledPairedAttention(PairedAttention):
    """Keys and values are means over the cells of a regular grid (ours), so no parameter depends on the patch.

    Queries and keys have a mean square of 1 over the tokens, and logits the usual 1 / sqrt(d), so that attention is as sharp
    in a patch of any size; the published form divides queries by their norm along the tokens, which grows with the patch.

    Args:
        cell: tokens of a cell along every axis; cells at the upper end may be cut off.
    """

    def __init__(self, channels: int, cell: tuple[int, ...], architecture: Architecture):
        super().__init__(channels, architecture)
        self.cell = cell

    def summaries(self, k: Tensor, v: Tensor, size: Sequence[int]) -> tuple[Tensor, Tensor]:
        keys, values = (self._means(t.flatten(1, 2), size).unflatten(1, k.shape[1:3]) for t in (k, v))
        tokens, width = k.shape[-1], k.shape[2]
        root_mean_square = k.norm(dim=-1, keepdim=True).clamp_min(NORMALIZE_EPS) / math.sqrt(tokens)
        return keys / root_mean_square * math.sqrt(tokens / width), values

    def summarise(self, x: Tensor, size: Sequence[int]) -> tuple[Tensor, Tensor]:
        summary = self._means(x.mT, size).mT
        return summary, summary

    def key_scale(self, q_scale: Tensor, k_scale: Tensor, tokens: int, scale: float) -> Tensor:
        return q_scale * k_scale * (scale * tokens / math.sqrt(q_scale.shape[-1]))

    def _means(self, rows: Tensor, size: Sequence[int]) -> Tensor:
        """(B, C, N) -> (B, C, P), the means over the cells, in the order of the grid."""
        return means(rows.unflatten(-1, tuple(size)), self.cell).flatten(2)


def means(x: Tensor, cell: tuple[int, ...]) -> Tensor:
    """The means (B, C, *grid) of x (B, C, *size) over cells; those at the upper end may be cut off."""
    pool = F.avg_pool2d if len(cell) == 2 else F.avg_pool3d
    inside = tuple(min(side, n) for side, n in zip(cell, x.shape[2:], strict=True))
    return pool(x, inside, ceil_mode=True, count_include_pad=False)


def spread(x: Tensor, cell: tuple[int, ...], size: Sequence[int]) -> Tensor:
    """(B, C, *grid) -> (B, C, *size): every voxel gets the value of its cell."""
    whole = F.interpolate(x, scale_factor=[float(side) for side in cell], mode="nearest")
    return whole[(slice(None), slice(None), *(slice(n) for n in size))]


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
    """EPA with a scaled residual, then residual convolutions on the volume: (B, C, *size) -> (B, C, *size).

    As published there is a learned position, which like the projections fits one size only.

    Args:
        tokens: voxels of the size.
        projected: P, tokens that keys and values are projected to.
        cell: tokens whose mean is a key and a value; None for the published form.
        token: voxels whose mean is a token, with cells; None where every voxel is one.
        norm: of the residual convolutions.
    """

    def __init__(
        self,
        channels: int,
        architecture: Architecture,
        *,
        tokens: int,
        projected: int,
        cell: tuple[int, ...] | None,
        token: tuple[int, ...] | None,
        kernel: tuple[int, ...],
        norm: NormMaker,
    ):
        super().__init__()
        self.token = token
        self.position = nn.Parameter(torch.zeros(1, tokens, channels)) if cell is None else None
        self.norm = nn.LayerNorm(channels)
        self.gamma = nn.Parameter(torch.full((channels,), architecture.layer_scale))
        self.attention: PairedAttention = (
            EfficientPairedAttention(channels, tokens, projected, architecture)
            if cell is None
            else PooledPairedAttention(channels, cell, architecture)
        )
        convs = (ResidualBlock(channels, channels, kernel, norm=norm) for _ in range(architecture.residual_convs))
        self.convolutions = nn.Sequential(*convs)
        self.dropout = OPERATORS[len(kernel)].dropout(architecture.dropout)
        self.out = pointwise(channels, channels, len(kernel), bias=True)
        self.drop_path = DropPath()

    def patch_bound(self) -> list[Tensor]:
        """The parameters that fit one number of tokens only."""
        if not isinstance(self.attention, EfficientPairedAttention) or self.position is None:
            return []
        projections = (self.attention.project_keys, self.attention.project_values)
        return [self.position, *[p.weight for p in projections if p is not None]]

    def forward(self, x: Tensor) -> Tensor:
        volume = self.attended(x) if self.token is None else self.coarsely_attended(x, self.token)
        out: Tensor = volume + self.drop_path(self.out(self.dropout(self.convolutions(volume))))
        return out

    def attended(self, x: Tensor) -> Tensor:
        tokens = x.flatten(2).mT
        if self.position is not None:
            tokens = tokens + self.position
        attended = self.drop_path(self.attention(self.norm(tokens), x.shape[2:]))
        tokens = torch.addcmul(tokens, self.gamma, attended)
        return tokens.mT.reshape(x.shape)

    def coarsely_attended(self, x: Tensor, token: tuple[int, ...]) -> Tensor:
        """What attention adds is computed among means of voxels and added to each of them."""
        coarse = means(x, token)
        added = self.gamma * self.drop_path(self.attention(self.norm(coarse.flatten(2).mT), coarse.shape[2:]))
        return x + spread(added.mT.reshape(coarse.shape), token, x.shape[2:])


def use_reference_operators(network: nn.Module) -> None:
    """Compute every EPA step by step as described; networks/cost.py counts multiply-adds on these operators."""
    for module in network.modules():
        if isinstance(module, PairedAttention):
            module.reference = True
