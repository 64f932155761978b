"""UNETR++ (Shaker et al., arXiv 2212.04497) for any patch, stride and depth, in 2D and 3D."""

from torch import Tensor, nn

from unetrpp.networks.blocks import (
    Downsample,
    NormMaker,
    ResidualBlock,
    initialise_linears,
    norm_maker,
    transposed,
)
from unetrpp.networks.epa import EPABlock
from unetrpp.networks.gates import attention_gate, squeeze_excitation
from unetrpp.networks.heads import apply_heads, initialise_heads, segmentation_heads
from unetrpp.networks.layout import to_channels_last
from unetrpp.networks.recomputation import run_stage
from unetrpp.plans.architecture import Architecture, Level


class UNETRPP(nn.Module):
    """x (B, C, *patch) -> logits, full resolution first: a list with deep supervision, else one tensor.

    Level 0 is a residual block at full resolution; the encoder below it starts with the stem, on the image. Skips are
    added to the decoder's signal.
    """

    def __init__(self, architecture: Architecture):
        super().__init__()
        self.deep_supervision = True
        self.checkpointing = architecture.checkpointing
        levels = architecture.levels
        self.entry = EntryStage(architecture)
        self.encoder = nn.ModuleList(EncoderStage(architecture, i) for i in range(1, len(levels)))
        self.decoder = nn.ModuleList(DecoderStage(architecture, i) for i in range(len(levels) - 1))
        self.heads = segmentation_heads(architecture)
        initialise_linears(self.encoder)
        initialise_heads(self.heads, architecture.initial_logits)

    def forward(self, x: Tensor) -> list[Tensor] | Tensor:
        x = to_channels_last(x)
        skips = [run_stage(self.entry, x, recompute=self.checkpointing)]
        for stage in self.encoder:
            x = run_stage(stage, x, recompute=self.checkpointing)
            skips.append(x)
        features = []
        for stage, skip in zip(reversed(self.decoder), reversed(skips[:-1]), strict=True):
            x = run_stage(stage, x, skip, recompute=self.checkpointing)
            features.append(x)
        features.reverse()
        return apply_heads(self.heads, features, self.deep_supervision)


class EntryStage(nn.Module):
    """Residual blocks on the image at full resolution (the released code's encoder1)."""

    def __init__(self, architecture: Architecture):
        super().__init__()
        level = architecture.levels[0]
        self.blocks = _full_resolution_blocks(architecture, architecture.in_channels, level.encoder_blocks)
        self.squeeze_excitation = squeeze_excitation(level.channels, level.squeeze_excitation)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.squeeze_excitation(self.blocks(x))
        return out


class EncoderStage(nn.Module):
    """Stem or downsampling, then the blocks of level ``i``."""

    def __init__(self, architecture: Architecture, i: int):
        super().__init__()
        above, level = architecture.levels[i - 1], architecture.levels[i]
        inputs, groups = (architecture.in_channels, architecture.stem_groups) if i == 1 else (above.channels, None)
        voxels = architecture.tokens()[i]
        self.downsample = Downsample(inputs, level.channels, level.stride, groups=groups, voxels=voxels)
        self.blocks = _stage_blocks(architecture, i, level.encoder_blocks, level.encoder_projection)
        self.squeeze_excitation = squeeze_excitation(level.channels, level.squeeze_excitation)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.squeeze_excitation(self.blocks(self.downsample(x)))
        return out


class DecoderStage(nn.Module):
    """Transposed convolution from level ``i + 1``, plus the (gated) skip of level ``i``, then its blocks."""

    def __init__(self, architecture: Architecture, i: int):
        super().__init__()
        level, below = architecture.levels[i : i + 2]
        self.upsample = transposed(below.channels, level.channels, below.stride)
        self.gate = attention_gate(architecture, i)
        if i == 0:
            self.blocks = _full_resolution_blocks(architecture, level.channels, level.decoder_blocks)
        else:
            self.blocks = _stage_blocks(architecture, i, level.decoder_blocks, level.decoder_projection)

    def forward(self, x: Tensor, skip: Tensor) -> Tensor:
        out: Tensor = self.blocks(to_channels_last(self.upsample(x)) + self.gate(skip, x))
        return out


def _full_resolution_blocks(architecture: Architecture, inputs: int, count: int) -> nn.Sequential:
    """The residual blocks of level 0, with instance norms without parameters as published."""
    norm = norm_maker("instance", architecture.dimensions, architecture.tokens()[0], affine=False)
    return _residual_blocks(architecture.levels[0], inputs, count, norm)


def _stage_blocks(architecture: Architecture, i: int, count: int, projected: int) -> nn.Sequential:
    """EPA blocks, or plain residual ones, of level ``i``."""
    level, tokens = architecture.levels[i], architecture.tokens()[i]
    norm = norm_maker(architecture.norm, architecture.dimensions, tokens)
    if level.attention == "conv":
        return _residual_blocks(level, level.channels, count, norm)
    blocks = (
        EPABlock(
            level.channels,
            architecture,
            tokens=tokens,
            projected=projected,
            cell=level.cell,
            token=level.token,
            kernel=level.kernel,
            norm=norm,
        )
        for _ in range(count)
    )
    return nn.Sequential(*blocks)


def _residual_blocks(level: Level, inputs: int, count: int, norm: NormMaker) -> nn.Sequential:
    widths = [inputs, *[level.channels] * (count - 1)]
    return nn.Sequential(*(ResidualBlock(width, level.channels, level.kernel, norm=norm) for width in widths))
