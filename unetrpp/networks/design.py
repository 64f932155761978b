"""From a patch and its strides to an Architecture: channels, depths, stem and projections. Imports no torch."""

import math
from collections.abc import Sequence
from typing import Literal

import msgspec

from unetrpp.plans.architecture import Architecture, Level, cut

Axes = tuple[int, ...]

FULL_WIDTH = 16  # channels at full resolution, as published
FIRST_WIDTH = 32
WIDEST = {2: 512, 3: 320}  # nnU-Net's caps, by dimensions
PROJECTED_TOKENS = 64  # P
PROJECTED_TOKENS_DEEPEST = 32
MOST_TOKENS = 2048  # of a level with pooled attention, which then costs little beside the convolutions
RESIDUAL_DEPTHS = (1, 3, 4, 6)  # blocks per stage of the residual-encoder U-Net; the last holds for all deeper stages


def unetrpp_architecture(
    in_channels: int,
    out_channels: int,
    patch: Axes,
    strides: Sequence[Axes],
    *,
    width: float = 1.0,
    blocks: int = 3,
    attention: Sequence[Literal["epa", "conv"]] | None = None,
    norm: Literal["batch", "instance", "group"] = "instance",
    dropout: float = 0.0,
    layer_scale: float = 1e-6,
) -> Architecture:
    """UNETR++ for any patch: the stem is the product of the first two strides when there are four or more.

    Norm and dropout are ours; released are batch norm and 0.1 (docs/focal_attention.md has the comparison).

    Planning sets ``width`` alone; the other keywords are for variants that no command offers (benchmarks, tests).

    Args:
        patch: voxels (z, y, x) or (y, x), a multiple of the product of the strides.
        strides: of the stages below full resolution, as planned for a U-Net.
        width: factor on all channel counts (results are multiples of 8).
        blocks: EPA (or residual) blocks per stage, in the encoder and in the decoder.
        attention: kind of each stage below full resolution (stem first); by default EPA wherever a stage
            has at least two tokens (with one there is nothing to attend to).
        norm: inside the blocks below full resolution.
        dropout: of attention, and of channels.
        layer_scale: initial gamma of the EPA residual.
    """
    merged = unetrpp_strides(strides, len(patch))
    full = Level(
        stride=(1,) * len(patch),
        kernel=(3,) * len(patch),
        channels=_scaled(FULL_WIDTH, width),
        encoder_blocks=1,
        decoder_blocks=1,
    )
    levels = [full]
    size = patch
    for i, stride in enumerate(merged):
        size = tuple(n // s for n, s in zip(size, stride, strict=True))
        tokens = math.prod(size)
        deepest = i == len(merged) - 1
        kind = attention[i] if attention is not None else ("epa" if tokens > 1 else "conv")
        levels.append(
            Level(
                stride=stride,
                kernel=(3,) * len(patch),
                channels=_scaled(min(FIRST_WIDTH * 2**i, WIDEST[len(patch)]), width),
                encoder_blocks=blocks,
                decoder_blocks=0 if deepest else blocks,
                attention=kind,
                encoder_projection=min(PROJECTED_TOKENS_DEEPEST if deepest else PROJECTED_TOKENS, tokens),
                decoder_projection=min(PROJECTED_TOKENS, tokens),
            )
        )
    return Architecture(
        network="unetrpp",
        in_channels=in_channels,
        out_channels=out_channels,
        patch=tuple(patch),
        levels=tuple(levels),
        supervised_levels=min(3, len(levels) - 1),
        norm=norm,
        attention_dropout=dropout,
        dropout=dropout,
        layer_scale=layer_scale,
    )


def with_pooled_attention(
    architecture: Architecture, cells: int = PROJECTED_TOKENS, tokens: int | None = MOST_TOKENS
) -> Architecture:
    """The same UNETR++ with EPA among means of voxels, wherever there is EPA (ours).

    The published form attends from every voxel, and learns a projection and a position for every voxel of the patch.

    Args:
        cells: keys and values at most; each is the mean of a cell of tokens.
        tokens: at most; each is the mean of a few voxels. None: every voxel is one.
    """
    levels = []
    for level, size in zip(architecture.levels, architecture.sizes(), strict=True):
        if level.attention == "epa":
            token = cell_of(size, math.prod(size) if tokens is None else tokens)
            coarse = token if max(token) > 1 else None
            level = msgspec.structs.replace(level, cell=cell_of(cut(size, token), cells), token=coarse)
        levels.append(level)
    return msgspec.structs.replace(architecture, levels=tuple(levels))


def cell_of(size: Axes, cells: int) -> Axes:
    """The smallest cell with equal sides, in voxels, of which at most ``cells`` cover ``size``; not longer than an axis.

    >>> cell_of((20, 28, 20), 64), cell_of((2, 40, 40), 64), cell_of((3, 3, 3), 64)
    ((7, 7, 7), (2, 5, 5), (1, 1, 1))
    """
    side = next(s for s in range(1, max(size) + 1) if math.prod(cut(size, (s,) * len(size))) <= cells)
    return tuple(min(side, n) for n in size)


def unetrpp_strides(strides: Sequence[Axes], dimensions: int) -> list[Axes]:
    """Strides of the levels below full resolution, stem first.

    >>> unetrpp_strides([(1, 2, 2), (2, 2, 2), (2, 2, 2), (2, 2, 2), (2, 2, 2)], 3)
    [(2, 4, 4), (2, 2, 2), (2, 2, 2), (2, 2, 2)]
    >>> unetrpp_strides([(2, 2, 2), (2, 2, 2), (2, 2, 2)], 3)
    [(2, 2, 2), (2, 2, 2), (2, 2, 2)]
    """
    strides = [tuple(s) for s in strides] or [(1,) * dimensions]
    if len(strides) < 4:
        return strides
    stem = tuple(a * b for a, b in zip(strides[0], strides[1], strict=True))
    return [stem, *strides[2:]]


def unet_architecture(
    in_channels: int,
    out_channels: int,
    patch: Axes,
    strides: Sequence[Axes],
    *,
    kernels: Sequence[Axes] | None = None,
    residual: bool = False,
    width: float = 1.0,
) -> Architecture:
    """nnU-Net's plain convolutional U-Net, or its residual-encoder variant (docs/networks.md).

    Args:
        strides: of the stages after the first.
        kernels: one per stage, the first included; 3 on every axis by default.
    """
    dimensions = len(patch)
    all_strides = [(1,) * dimensions, *(tuple(s) for s in strides)]
    kernels = kernels or [(3,) * dimensions] * len(all_strides)
    levels = []
    for i, (stride, kernel) in enumerate(zip(all_strides, kernels, strict=True)):
        deepest = i == len(all_strides) - 1
        levels.append(
            Level(
                stride=stride,
                kernel=tuple(kernel),
                channels=_scaled(min(FIRST_WIDTH * 2**i, WIDEST[dimensions]), width),
                encoder_blocks=residual_depth(i) if residual else 2,
                decoder_blocks=0 if deepest else (1 if residual else 2),
            )
        )
    return Architecture(
        network="resunet" if residual else "unet",
        in_channels=in_channels,
        out_channels=out_channels,
        patch=tuple(patch),
        levels=tuple(levels),
        # nnU-Net also has a head at the coarsest decoder level, whose loss has weight 0.
        supervised_levels=max(1, len(levels) - 2),
        norm="instance",
    )


def residual_depth(stage: int) -> int:
    """Blocks of one encoder stage of the residual-encoder U-Net.

    >>> [residual_depth(stage) for stage in range(6)]
    [1, 3, 4, 6, 6, 6]
    """
    return RESIDUAL_DEPTHS[min(stage, len(RESIDUAL_DEPTHS) - 1)]


def _scaled(channels: int, width: float) -> int:
    """The nearest multiple of 8, at least 8."""
    return max(8, 8 * round(channels * width / 8))
