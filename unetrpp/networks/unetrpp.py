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
from unetrpp.networks.cpu_kernels.normalize import to_channels_last
from unetrpp.networks.epa import EPABlock
from unetrpp.networks.gates import attention_gate, squeeze_excitation
from unetrpp.networks.heads import segmentation_heads
from unetrpp.plans.architecture import Architecture


class UNETRPP(nn.Module):
    """x (B, C, *patch) -> logits, full resolution first: a list with deep supervision, else one tensor.

    Level 0 is a residual block at full resolution; the encoder sees the image through the stem. Skips are added.
    """

    def __init__(self, architecture: Architecture):
        super().__init__()
        self.deep_supervision = True
        levels = architecture.levels
        self.entry = EntryStage(architecture)
        self.encoder = nn.ModuleList(EncoderStage(architecture, i) for i in range(1, len(levels)))
        self.decoder = nn.ModuleList(DecoderStage(architecture, i) for i in range(len(levels) - 1))
        self.heads = segmentation_heads(architecture)
        initialise_linears(self.encoder)

    def forward(self, x: Tensor) -> list[Tensor] | Tensor:
        x = to_channels_last(x)
        skips = [self.entry(x)]
        for stage in self.encoder:
            x = stage(x)
            skips.append(x)
        features = []
        for stage, skip in zip(reversed(self.decoder), reversed(skips[:-1]), strict=True):
            x = stage(x, skip)
            features.append(x)
        features.reverse()
        if not self.deep_supervision:
            return self.heads[0](features[0])
        return [head(feature) for head, feature in zip(self.heads, features, strict=False)]


class EntryStage(nn.Module):
    """Residual blocks on the image at full resolution (the released code's encoder1)."""

    def __init__(self, architecture: Architecture):
        super().__init__()
        level = architecture.levels[0]
        self.blocks = _full_resolution_blocks(architecture, architecture.in_channels, level.encoder_blocks)
        self.squeeze_excitation = squeeze_excitation(level.channels, level.squeeze_excitation)

    def forward(self, x: Tensor) -> Tensor:
        return self.squeeze_excitation(self.blocks(x))


class EncoderStage(nn.Module):
    """Stem or downsampling, then the blocks of level ``i``."""

    def __init__(self, architecture: Architecture, i: int):
        super().__init__()
        above, level = architecture.levels[i - 1], architecture.levels[i]
        inputs, groups = (architecture.in_channels, architecture.stem_groups) if i == 1 else (above.channels, None)
        self.downsample = Downsample(inputs, level.channels, level.stride, groups, architecture.tokens()[i])
        self.blocks = _stage_blocks(architecture, i, level.encoder_blocks, level.encoder_projection)
        self.squeeze_excitation = squeeze_excitation(level.channels, level.squeeze_excitation)

    def forward(self, x: Tensor) -> Tensor:
        return self.squeeze_excitation(self.blocks(self.downsample(x)))


class DecoderStage(nn.Module):
    """Transposed convolution from level ``i + 1``, plus the (gated) skip of level ``i``, then its blocks."""

    def __init__(self, architecture: Architecture, i: int):
        super().__init__()
        level, below = architecture.levels[i : i + 2]
        self.upsample = transposed(below.channels, level.channels, below.stride)
        self.gate = attention_gate(level.channels, below.channels, below.stride, level.gate)
        if i == 0:
            self.blocks = _full_resolution_blocks(architecture, level.channels, level.decoder_blocks)
        else:
            self.blocks = _stage_blocks(architecture, i, level.decoder_blocks, level.decoder_projection)

    def forward(self, x: Tensor, skip: Tensor) -> Tensor:
        return self.blocks(to_channels_last(self.upsample(x)) + self.gate(skip, x))


def _full_resolution_blocks(architecture: Architecture, inputs: int, count: int) -> nn.Sequential:
    level = architecture.levels[0]
    norm = norm_maker("instance", architecture.dimensions, architecture.tokens()[0], affine=False)
    return _residual_blocks(inputs, level.channels, level.kernel, norm, count)


def _stage_blocks(architecture: Architecture, i: int, count: int, projected: int) -> nn.Sequential:
    level, tokens = architecture.levels[i], architecture.tokens()[i]
    norm = norm_maker(architecture.norm, architecture.dimensions, tokens)
    if level.attention == "conv":
        return _residual_blocks(level.channels, level.channels, level.kernel, norm, count)
    return nn.Sequential(
        *(EPABlock(level.channels, tokens, projected, level.kernel, norm, architecture) for _ in range(count))
    )


def _residual_blocks(inputs: int, outputs: int, kernel: tuple[int, ...], norm: NormMaker, count: int) -> nn.Sequential:
    return nn.Sequential(*(ResidualBlock(inputs if i == 0 else outputs, outputs, kernel, norm) for i in range(count)))
