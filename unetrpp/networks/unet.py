"""nnU-Net's plain and residual-encoder U-Nets, built from the same blocks and Architecture as UNETR++."""

import torch
from torch import Tensor, nn

from unetrpp.networks.blocks import (
    ConvolutionBlock,
    NormMaker,
    ResidualBlock,
    initialise_as_nnunet,
    norm_maker,
    transposed,
)
from unetrpp.networks.gates import attention_gate, squeeze_excitation
from unetrpp.networks.heads import apply_heads, initialise_heads, segmentation_heads
from unetrpp.networks.layout import to_channels_last
from unetrpp.networks.recomputation import run_stage
from unetrpp.plans.architecture import Architecture


class UNet(nn.Module):
    """x (B, C, *patch) -> logits, full resolution first: a list with deep supervision, else one tensor.

    Skips are concatenated with the decoder's signal. With ``network="resunet"`` the encoder is a stem convolution and
    residual blocks; with ``residual_decoder`` the decoder has residual blocks as well.
    """

    def __init__(self, architecture: Architecture):
        super().__init__()
        self.deep_supervision = True
        self.checkpointing = architecture.checkpointing
        levels, inputs = architecture.levels, architecture.in_channels
        self.stem: nn.Module = nn.Identity()
        if architecture.network == "resunet":
            self.stem = ConvolutionBlock(inputs, levels[0].channels, levels[0].kernel, norm=_norm(architecture, 0))
            inputs = levels[0].channels
        widths = [inputs, *(level.channels for level in levels)]
        self.encoder = nn.ModuleList(EncoderStage(architecture, i, widths[i]) for i in range(len(levels)))
        self.decoder = nn.ModuleList(DecoderStage(architecture, i) for i in range(len(levels) - 1))
        self.heads = segmentation_heads(architecture)
        initialise_as_nnunet(self)
        initialise_heads(self.heads, architecture.initial_logits)

    def forward(self, x: Tensor) -> list[Tensor] | Tensor:
        x = run_stage(self.stem, to_channels_last(x), recompute=self.checkpointing)
        skips = []
        for stage in self.encoder:
            x = run_stage(stage, x, recompute=self.checkpointing)
            skips.append(x)
        features = [] if len(self.decoder) else [x]
        for stage, skip in zip(reversed(self.decoder), reversed(skips[:-1]), strict=True):
            x = run_stage(stage, x, skip, recompute=self.checkpointing)
            features.append(x)
        features.reverse()
        return apply_heads(self.heads, features, self.deep_supervision)


class EncoderStage(nn.Module):
    """The blocks of level ``i``; the first one carries the stride."""

    def __init__(self, architecture: Architecture, i: int, inputs: int):
        super().__init__()
        level, norm = architecture.levels[i], _norm(architecture, i)
        block = ResidualBlock if architecture.network == "resunet" else ConvolutionBlock
        first = block(inputs, level.channels, level.kernel, norm=norm, stride=level.stride)
        count = level.encoder_blocks - 1
        rest = (block(level.channels, level.channels, level.kernel, norm=norm) for _ in range(count))
        self.blocks = nn.Sequential(first, *rest)
        self.squeeze_excitation = squeeze_excitation(level.channels, level.squeeze_excitation)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.squeeze_excitation(self.blocks(x))
        return out


class DecoderStage(nn.Module):
    """Transposed convolution from level ``i + 1``, concatenated with the (gated) skip of level ``i``, then convolutions."""

    def __init__(self, architecture: Architecture, i: int):
        super().__init__()
        level, below = architecture.levels[i : i + 2]
        self.upsample = transposed(below.channels, level.channels, below.stride, bias=True)
        self.gate = attention_gate(architecture, i)
        widths = [2 * level.channels, *[level.channels] * (level.decoder_blocks - 1)]
        norm = _norm(architecture, i)
        block = ResidualBlock if architecture.residual_decoder else ConvolutionBlock
        self.blocks = nn.Sequential(*(block(width, level.channels, level.kernel, norm=norm) for width in widths))

    def forward(self, x: Tensor, skip: Tensor) -> Tensor:
        out: Tensor = self.blocks(torch.cat([to_channels_last(self.upsample(x)), self.gate(skip, x)], dim=1))
        return out


def _norm(architecture: Architecture, i: int) -> NormMaker:
    return norm_maker(architecture.norm, architecture.dimensions, architecture.tokens()[i])
