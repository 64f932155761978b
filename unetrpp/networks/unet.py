"""nnU-Net's plain and residual-encoder U-Nets, from the same blocks and the same Architecture as UNETR++."""

import torch
from torch import Tensor, nn

from unetrpp.networks.architecture import Architecture
from unetrpp.networks.blocks import ConvolutionBlock, NormMaker, ResidualBlock, norm_maker, pointwise, transposed


class UNet(nn.Module):
    """x (B, C, *patch) -> logits, full resolution first: a list with deep supervision, else one tensor.

    Skips are concatenated. With ``network="resunet"`` the encoder is a stem convolution and residual blocks.
    """

    def __init__(self, architecture: Architecture):
        super().__init__()
        self.deep_supervision = True
        levels, tokens = architecture.levels, architecture.tokens()
        norms = [norm_maker(architecture.norm, architecture.dimensions, n) for n in tokens]
        residual = architecture.network == "resunet"
        inputs = architecture.in_channels
        self.stem: nn.Module = nn.Identity()
        if residual:
            self.stem = ConvolutionBlock(inputs, levels[0].channels, levels[0].kernel, norms[0])
            inputs = levels[0].channels
        self.encoder = nn.ModuleList()
        for level, norm in zip(levels, norms, strict=True):
            block = ResidualBlock if residual else ConvolutionBlock
            self.encoder.append(
                _stage(block, inputs, level.channels, level.kernel, norm, level.encoder_blocks, level.stride)
            )
            inputs = level.channels
        pairs = list(zip(levels[:-1], levels[1:], norms[:-1], strict=True))
        self.upsamplings = nn.ModuleList(
            transposed(below.channels, level.channels, below.stride, bias=True) for level, below, _ in pairs
        )
        self.decoder = nn.ModuleList(
            _stage(ConvolutionBlock, 2 * level.channels, level.channels, level.kernel, norm, level.decoder_blocks)
            for level, _, norm in pairs
        )
        self.heads = nn.ModuleList(
            pointwise(level.channels, architecture.out_channels, architecture.dimensions, bias=True)
            for level in levels[: architecture.supervised_levels]
        )

    def forward(self, x: Tensor) -> list[Tensor] | Tensor:
        x = self.stem(x)
        skips = []
        for stage in self.encoder:
            x = stage(x)
            skips.append(x)
        features = [x]
        for upsampling, blocks, skip in reversed(list(zip(self.upsamplings, self.decoder, skips, strict=False))):
            x = blocks(torch.cat([upsampling(x), skip], dim=1))
            features.append(x)
        features.reverse()
        if not self.deep_supervision:
            return self.heads[0](features[0])
        return [head(feature) for head, feature in zip(self.heads, features, strict=False)]


def _stage(
    block: type[ConvolutionBlock] | type[ResidualBlock],
    inputs: int,
    outputs: int,
    kernel: tuple[int, ...],
    norm: NormMaker,
    count: int,
    stride: tuple[int, ...] | None = None,
) -> nn.Sequential:
    first = block(inputs, outputs, kernel, norm, stride)
    return nn.Sequential(first, *(block(outputs, outputs, kernel, norm) for _ in range(count - 1)))
