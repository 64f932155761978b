"""The published UNETR++ as the paper and docs/networks.md describe it, without any optimisation; for benchmarks/network.py.

Parameters have the released code's names, so that one state_dict fits this network and, through
``unetrpp.networks.released``, ours.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from unetrpp.plans.architecture import Architecture


class Conv(nn.Module):
    """A convolution under the name ``conv``, as in the released code."""

    def __init__(
        self,
        inputs: int,
        outputs: int,
        kernel: int | tuple[int, ...],
        stride: int | tuple[int, ...] = 1,
        *,
        bias: bool = False,
    ):
        super().__init__()
        padding = 1 if kernel == 3 else 0
        self.conv = nn.Conv3d(inputs, outputs, kernel, stride, padding, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x)


class Residual(nn.Module):
    def __init__(self, inputs: int, outputs: int, norm: type[nn.Module]):
        super().__init__()
        self.conv1, self.norm1 = Conv(inputs, outputs, 3), norm(outputs)
        self.conv2, self.norm2 = Conv(outputs, outputs, 3), norm(outputs)
        if inputs != outputs:
            self.conv3, self.norm3 = Conv(inputs, outputs, 1), norm(outputs)

    def forward(self, x: Tensor) -> Tensor:
        y = F.leaky_relu(self.norm1(self.conv1(x)), 0.01)
        y = self.norm2(self.conv2(y))
        if hasattr(self, "conv3"):
            x = self.norm3(self.conv3(x))
        return F.leaky_relu(y + x, 0.01)


class EPA(nn.Module):
    def __init__(self, channels: int, tokens: int, projected: int, a: Architecture):
        super().__init__()
        self.a = a
        self.qkvv = nn.Linear(channels, 4 * channels, bias=False)
        if a.projection == "parameter":
            self.EF = nn.Parameter(torch.empty(tokens, projected).uniform_(-1, 1) / math.sqrt(projected))
        else:
            self.E = nn.Linear(tokens, projected)
            self.F = self.E if a.projection == "shared" else nn.Linear(tokens, projected)
        self.temperature = nn.Parameter(torch.ones(a.heads, 1, 1))
        self.temperature2 = nn.Parameter(torch.ones(a.heads, 1, 1))
        if a.fusion == "concat":
            self.out_proj = nn.Linear(channels, channels // 2)
            self.out_proj2 = nn.Linear(channels, channels // 2)

    def forward(self, x: Tensor) -> Tensor:
        b, n, c = x.shape
        qkvv = self.qkvv(x).reshape(b, n, 4, self.a.heads, c // self.a.heads).permute(2, 0, 3, 4, 1)
        q, k, v_ca, v_sa = qkvv[0], qkvv[1], qkvv[2], qkvv[3]  # (B, h, d, N)
        if self.a.projection == "parameter":
            k_p, v_p = torch.matmul(k, self.EF), torch.matmul(v_sa, self.EF)
        else:
            k_p, v_p = self.E(k), self.F(v_sa)
        q, k = F.normalize(q, dim=-1), F.normalize(k, dim=-1)
        attention = torch.softmax(q @ k.transpose(-2, -1) * self.temperature, dim=-1)
        attention = F.dropout(attention, self.a.attention_dropout, self.training)
        x_ca = (attention @ v_ca).permute(0, 3, 1, 2).reshape(b, n, c)
        attention = torch.softmax(q.permute(0, 1, 3, 2) @ k_p * self.temperature2, dim=-1)
        attention = F.dropout(attention, self.a.attention_dropout, self.training)
        x_sa = attention @ v_p.transpose(-2, -1)  # (B, h, N, d)
        x_sa = x_sa.permute((0, 3, 1, 2) if self.a.spatial_layout == "released" else (0, 2, 1, 3)).reshape(b, n, c)
        if self.a.fusion == "sum":
            return x_ca + x_sa
        return torch.cat((self.out_proj(x_sa), self.out_proj2(x_ca)), dim=-1)


class Block(nn.Module):
    def __init__(self, channels: int, tokens: int, projected: int, a: Architecture):
        super().__init__()
        self.pos_embed = nn.Parameter(torch.zeros(1, tokens, channels))
        self.norm = nn.LayerNorm(channels)
        self.gamma = nn.Parameter(a.layer_scale * torch.ones(channels))
        self.epa_block = EPA(channels, tokens, projected, a)
        self.conv51 = Residual(channels, channels, nn.BatchNorm3d)
        if a.residual_convs == 2:
            self.conv52 = Residual(channels, channels, nn.BatchNorm3d)
        self.conv8 = nn.Sequential(nn.Dropout3d(a.dropout), nn.Conv3d(channels, channels, 1))

    def forward(self, x: Tensor) -> Tensor:
        b, c, *size = x.shape
        x = x.reshape(b, c, -1).permute(0, 2, 1) + self.pos_embed
        x = x + self.gamma * self.epa_block(self.norm(x))
        x = x.permute(0, 2, 1).reshape(b, c, *size)
        y = self.conv51(x)
        if hasattr(self, "conv52"):
            y = self.conv52(y)
        return x + self.conv8(y)


class Encoder(nn.Module):
    def __init__(self, a: Architecture):
        super().__init__()
        self.downsample_layers, self.stages = nn.ModuleList(), nn.ModuleList()
        inputs = a.in_channels
        for i, level in enumerate(a.levels[1:], start=1):
            groups = a.stem_groups if i == 1 else inputs
            down = Conv(inputs, level.channels, level.stride, level.stride)
            self.downsample_layers.append(nn.Sequential(down, nn.GroupNorm(groups, level.channels)))
            blocks = (
                Block(level.channels, a.tokens()[i], level.encoder_projection, a) for _ in range(level.encoder_blocks)
            )
            self.stages.append(nn.Sequential(*blocks))
            inputs = level.channels


class Up(nn.Module):
    def __init__(self, a: Architecture, i: int):
        super().__init__()
        level, below = a.levels[i], a.levels[i + 1]
        self.transp_conv = nn.Module()
        self.transp_conv.conv = nn.ConvTranspose3d(
            below.channels, level.channels, below.stride, below.stride, bias=False
        )
        if i == 0:
            self.decoder_block = nn.ModuleList([Residual(level.channels, level.channels, nn.InstanceNorm3d)])
        else:
            blocks = (
                Block(level.channels, a.tokens()[i], level.decoder_projection, a) for _ in range(level.decoder_blocks)
            )
            self.decoder_block = nn.ModuleList([nn.Sequential(*blocks)])

    def forward(self, x: Tensor, skip: Tensor) -> Tensor:
        return self.decoder_block[0](self.transp_conv.conv(x) + skip)


class Head(nn.Module):
    def __init__(self, inputs: int, outputs: int):
        super().__init__()
        self.conv = Conv(inputs, outputs, 1, bias=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x)


class ReferenceUNETRPP(nn.Module):
    """The four-stage network of the presets; always with deep supervision."""

    def __init__(self, a: Architecture):
        super().__init__()
        levels = a.levels
        self.unetr_pp_encoder = Encoder(a)
        self.encoder1 = Residual(a.in_channels, levels[0].channels, nn.InstanceNorm3d)
        self.decoder5, self.decoder4, self.decoder3, self.decoder2 = (Up(a, i) for i in (3, 2, 1, 0))
        self.out1, self.out2, self.out3 = (Head(levels[i].channels, a.out_channels) for i in (0, 1, 2))

    def forward(self, x: Tensor) -> list[Tensor]:
        convolved, skips = self.encoder1(x), []
        for down, stage in zip(self.unetr_pp_encoder.downsample_layers, self.unetr_pp_encoder.stages, strict=True):
            x = stage(down(x))
            skips.append(x)
        x = self.decoder5(skips[3], skips[2])
        third = self.decoder4(x, skips[1])
        second = self.decoder3(third, skips[0])
        first = self.decoder2(second, convolved)
        return [self.out1(first), self.out2(second), self.out3(third)]
