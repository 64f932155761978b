"""UNETR++ (Shaker et al., arXiv 2212.04497) for any patch, stride and depth, in 2D and 3D."""

from itertools import pairwise

from torch import Tensor, nn

from unetrpp.networks.architecture import Architecture
from unetrpp.networks.blocks import (
    Downsample,
    NormMaker,
    ResidualBlock,
    initialise_linears,
    norm_maker,
    pointwise,
    transposed,
)
from unetrpp.networks.epa import EPABlock


class UNETRPP(nn.Module):
    """x (B, C, *patch) -> logits, full resolution first: a list with deep supervision, else one tensor.

    Level 0 is a residual block at full resolution; the encoder sees the image through the stem. Skips are added.
    """

    def __init__(self, architecture: Architecture):
        super().__init__()
        self.deep_supervision = True
        levels, dimensions = architecture.levels, architecture.dimensions
        tokens = architecture.tokens()
        full_norm = norm_maker("instance", dimensions, tokens[0], affine=False)
        self.entry = _residual_blocks(
            architecture.in_channels, levels[0].channels, levels[0].kernel, full_norm, levels[0].encoder_blocks
        )
        self.encoder = nn.ModuleList(_encoder_stage(architecture, i) for i in range(1, len(levels)))
        self.upsamplings = nn.ModuleList(
            transposed(below.channels, level.channels, below.stride) for level, below in pairwise(levels)
        )
        width = levels[0].channels
        self.decoder = nn.ModuleList(
            [_residual_blocks(width, width, levels[0].kernel, full_norm, levels[0].decoder_blocks)]
        )
        self.decoder.extend(_stage_blocks(architecture, i, decoder=True) for i in range(1, len(levels) - 1))
        self.heads = nn.ModuleList(
            pointwise(level.channels, architecture.out_channels, dimensions, bias=True)
            for level in levels[: architecture.supervised_levels]
        )
        initialise_linears(self.encoder)

    def forward(self, x: Tensor) -> list[Tensor] | Tensor:
        skips = [self.entry(x)]
        for stage in self.encoder:
            x = stage(x)
            skips.append(x)
        features = []
        for upsampling, blocks, skip in reversed(list(zip(self.upsamplings, self.decoder, skips, strict=False))):
            x = blocks(upsampling(x) + skip)
            features.append(x)
        features.reverse()
        if not self.deep_supervision:
            return self.heads[0](features[0])
        return [head(feature) for head, feature in zip(self.heads, features, strict=False)]


def _encoder_stage(architecture: Architecture, i: int) -> nn.Sequential:
    above, level = architecture.levels[i - 1], architecture.levels[i]
    inputs = architecture.in_channels if i == 1 else above.channels
    groups = architecture.stem_groups if i == 1 else None
    downsample = Downsample(inputs, level.channels, level.stride, groups, architecture.tokens()[i])
    return nn.Sequential(downsample, _stage_blocks(architecture, i, decoder=False))


def _stage_blocks(architecture: Architecture, i: int, decoder: bool) -> nn.Sequential:
    level, tokens = architecture.levels[i], architecture.tokens()[i]
    norm = norm_maker(architecture.norm, architecture.dimensions, tokens)
    count = level.decoder_blocks if decoder else level.encoder_blocks
    if level.attention == "conv":
        return _residual_blocks(level.channels, level.channels, level.kernel, norm, count)
    projected = level.decoder_projection if decoder else level.encoder_projection
    return nn.Sequential(
        *(EPABlock(level.channels, tokens, projected, level.kernel, norm, architecture) for _ in range(count))
    )


def _residual_blocks(inputs: int, outputs: int, kernel: tuple[int, ...], norm: NormMaker, count: int) -> nn.Sequential:
    return nn.Sequential(*(ResidualBlock(inputs if i == 0 else outputs, outputs, kernel, norm) for i in range(count)))
