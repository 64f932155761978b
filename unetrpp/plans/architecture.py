"""The description of a network: the part of the plans from which ``networks/build.py`` builds it. Imports no torch."""

import math
from collections.abc import Mapping, Sequence
from typing import ClassVar, Literal

import msgspec

from unetrpp.core.files import Record


def as_3d(size: Sequence[int]) -> tuple[int, int, int]:
    """A size (z, y, x); that of a 2D image (y, x) becomes one slice.

    >>> as_3d((320, 256)), as_3d((64, 128, 128))
    ((1, 320, 256), (64, 128, 128))
    """
    z, y, x = (1, *size) if len(size) == 2 else size
    return z, y, x


def cut(size: Sequence[int], cell: Sequence[int]) -> tuple[int, ...]:
    """Cells along every axis; the last one may be smaller.

    >>> cut((20, 28, 5), (2, 3, 8))
    (10, 10, 1)
    """
    return tuple(-(-n // side) for n, side in zip(size, cell, strict=True))


class Level(Record, frozen=True, kw_only=True):
    """One resolution level: its encoder stage, its skip and, except at the deepest, its decoder stage.

    ``gate`` and ``squeeze_excitation`` hold the focal gamma of the module; None means that there is none.
    """

    later_fields: ClassVar[frozenset[str]] = frozenset({"cell", "token"})
    stride: tuple[int, ...]  # from the level above; the first level has ones
    kernel: tuple[int, ...]  # of its convolutions
    channels: int
    encoder_blocks: int
    decoder_blocks: int  # 0 at the deepest level
    attention: Literal["epa", "conv"] = "conv"
    encoder_projection: int = 64  # P: tokens that keys and values are projected to
    decoder_projection: int = 64
    cell: tuple[int, ...] | None = None  # tokens whose mean is one key and value of EPA (ours); None: projections
    token: tuple[int, ...] | None = None  # with cells: voxels whose mean is one token; None: every voxel is one
    gate: float | None = None
    squeeze_excitation: float | None = None


class Architecture(Record, frozen=True, kw_only=True):
    """A UNETR++ or a U-Net of any depth for 2D or 3D patches; the deepest level comes last.

    In a UNETR++, level 0 is the full-resolution residual block, the stride of level 1 is the stem and the levels
    from 1 on hold EPA (or plain residual) blocks. In a U-Net every level is convolutional.
    """

    later_fields: ClassVar[frozenset[str]] = frozenset({"residual_decoder", "gates", "checkpointing"})
    network: str  # "unetrpp", "unet", "resunet", or a registered entry point of group unetrpp.networks
    in_channels: int
    out_channels: int
    patch: tuple[int, ...]  # voxels (z, y, x) or (y, x)
    levels: tuple[Level, ...]
    supervised_levels: int  # heads: on this many decoder levels from full resolution down
    heads: int = 4
    projection: Literal["shared", "separate", "parameter"] = (
        "shared"  # Linear E = F | Linear E and F | one N x P parameter
    )
    fusion: Literal["concat", "sum"] = "concat"
    residual_convs: Literal[1, 2] = 1
    spatial_layout: Literal["correct", "released"] = "correct"
    stem_groups: int = 1
    norm: Literal["batch", "instance", "group"] = "batch"  # inside EPA blocks
    attention_dropout: float = 0.1
    dropout: float = 0.1
    layer_scale: float = 1e-6  # initial gamma of the EPA residual
    residual_decoder: bool = False  # of a "resunet": residual blocks in the decoder, too (nnU-Net's ResidualUNet)
    gates: Literal["additive", "focus"] = "additive"  # ours, or that of the authors' code
    initial_logits: tuple[float, ...] = ()  # of a new network, one per output; () leaves heads random, as released
    checkpointing: bool = False  # in training, stages are computed again in the backward pass: recomputation.py

    @property
    def dimensions(self) -> int:
        return len(self.patch)

    def sizes(self) -> list[tuple[int, ...]]:
        """Voxels per axis at every level.

        The plans pad patches to a multiple of the product of the strides, so the division is exact.
        """
        sizes = [self.patch]
        for level in self.levels[1:]:
            sizes.append(tuple(n // s for n, s in zip(sizes[-1], level.stride, strict=True)))
        return sizes

    def tokens(self) -> list[int]:
        """N, the voxels of a patch at every level."""
        return [math.prod(size) for size in self.sizes()]

    def head_strides(self) -> list[tuple[int, ...]]:
        """Stride of every supervised output relative to the patch, full resolution first."""
        return [self.stride(i) for i in range(min(self.supervised_levels, len(self.levels)))]

    def stride(self, i: int) -> tuple[int, ...]:
        """Stride of level ``i`` relative to the patch: the product of the strides down to it."""
        return tuple(n // m for n, m in zip(self.patch, self.sizes()[i], strict=True))

    def focal_gammas(self) -> dict[str, float]:
        """The gamma of every focal module by its place: ``gate@LEVEL``, then ``se@LEVEL`` (squeeze-and-excitation)."""
        gates = {f"gate@{i}": level.gate for i, level in enumerate(self.levels)}
        squeezes = {f"se@{i}": level.squeeze_excitation for i, level in enumerate(self.levels)}
        return {place: gamma for place, gamma in (gates | squeezes).items() if gamma is not None}

    def with_focal(self, gammas: Mapping[str, float]) -> "Architecture":
        """This network with focal modules at these places and nowhere else."""
        levels = (
            msgspec.structs.replace(level, gate=gammas.get(f"gate@{i}"), squeeze_excitation=gammas.get(f"se@{i}"))
            for i, level in enumerate(self.levels)
        )
        return msgspec.structs.replace(self, levels=tuple(levels))

    def focal_candidates(self) -> "Architecture":
        """The network from which training learns the gammas (unetrpp.trainers.attention_trainer).

        It has the focal modules of this one; where this one has none, every gate and squeeze-and-excitation, with
        gamma 1.
        """
        if self.focal_gammas():
            return self
        count = len(self.levels)
        gates = {f"gate@{i}": 1.0 for i in range(count - 1)}
        return self.with_focal(gates | {f"se@{i}": 1.0 for i in range(count)})
