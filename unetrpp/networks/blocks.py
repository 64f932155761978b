"""Convolutional building blocks for 2D and 3D, shared by all networks."""

import math
from collections.abc import Callable
from typing import Literal, NamedTuple

from torch import Tensor, nn

Axes = tuple[int, ...]
NormMaker = Callable[[int], nn.Module]  # channels -> norm

SLOPE = 0.01  # of LeakyReLU, everywhere
SMALLEST_GROUP = 16  # values a group needs for its variance to mean something
GROUP_CHANNELS = 8  # a group of norm "group"


class Operators(NamedTuple):
    """The layers of one dimensionality."""

    convolution: type[nn.Conv2d] | type[nn.Conv3d]
    transposed: type[nn.ConvTranspose2d] | type[nn.ConvTranspose3d]
    batch_norm: type[nn.BatchNorm2d] | type[nn.BatchNorm3d]
    instance_norm: type[nn.InstanceNorm2d] | type[nn.InstanceNorm3d]
    dropout: type[nn.Dropout2d] | type[nn.Dropout3d]
    average_pool: type[nn.AvgPool2d] | type[nn.AvgPool3d]


OPERATORS = {
    2: Operators(nn.Conv2d, nn.ConvTranspose2d, nn.BatchNorm2d, nn.InstanceNorm2d, nn.Dropout2d, nn.AvgPool2d),
    3: Operators(nn.Conv3d, nn.ConvTranspose3d, nn.BatchNorm3d, nn.InstanceNorm3d, nn.Dropout3d, nn.AvgPool3d),
}


def convolution(
    inputs: int, outputs: int, kernel: Axes, stride: Axes | None = None, *, bias: bool = False
) -> nn.Module:
    """A convolution that keeps the size (odd kernels), or divides it by ``stride``."""
    padding = tuple((k - 1) // 2 for k in kernel)
    return OPERATORS[len(kernel)].convolution(inputs, outputs, kernel, stride or 1, padding, bias=bias)  # type: ignore[arg-type]


def pointwise(inputs: int, outputs: int, dimensions: int, *, bias: bool = False) -> nn.Module:
    """A 1^n convolution."""
    return convolution(inputs, outputs, (1,) * dimensions, bias=bias)


def transposed(inputs: int, outputs: int, stride: Axes, *, bias: bool = False) -> nn.Module:
    """A transposed convolution with kernel = stride: every coarse voxel fills its own block."""
    return OPERATORS[len(stride)].transposed(inputs, outputs, stride, stride, bias=bias)  # type: ignore[arg-type]


def norm_maker(
    kind: Literal["batch", "instance", "group"], dimensions: int, voxels: int, affine: bool = True
) -> NormMaker:
    """Makes the norm of a level; where a sample may be a single voxel, only a group norm has a variance."""

    def make(channels: int) -> nn.Module:
        if kind == "group" or voxels == 1:
            return nn.GroupNorm(_groups(channels, channels // GROUP_CHANNELS, voxels), channels, affine=affine)
        if kind == "batch":
            return OPERATORS[dimensions].batch_norm(channels, affine=affine)
        return OPERATORS[dimensions].instance_norm(channels, affine=affine)

    return make


def _groups(channels: int, wanted: int, voxels: int) -> int:
    """The most groups up to ``wanted`` that divide the channels and hold SMALLEST_GROUP values each."""
    fits = (g for g in range(max(1, wanted), 0, -1) if channels % g == 0 and channels // g * voxels >= SMALLEST_GROUP)
    return next(fits, 1)


class Downsample(nn.Sequential):
    """Stem or downsampling of UNETR++: a convolution with kernel = stride, then GroupNorm; no activation."""

    def __init__(self, inputs: int, outputs: int, stride: Axes, groups: int | None, voxels: int):
        """``groups``: None for gcd(inputs, outputs), as published where it divides; ``voxels``: of the output."""
        wanted = groups or math.gcd(inputs, outputs)
        convolution = OPERATORS[len(stride)].convolution(inputs, outputs, stride, stride, bias=False)  # type: ignore[arg-type]
        super().__init__(convolution, nn.GroupNorm(_groups(outputs, wanted, voxels), outputs))


class ConvolutionBlock(nn.Sequential):
    """Convolution - norm - LeakyReLU, the block of the plain U-Net."""

    def __init__(self, inputs: int, outputs: int, kernel: Axes, norm: NormMaker, stride: Axes | None = None):
        super().__init__(
            convolution(inputs, outputs, kernel, stride, bias=True), norm(outputs), nn.LeakyReLU(SLOPE, inplace=True)
        )


class ResidualBlock(nn.Module):
    """Convolution - norm - LeakyReLU - convolution - norm - add - LeakyReLU (He et al. 2016).

    The skip is the identity; average-pooled where there is a stride, a 1^n convolution with norm where the
    channels change.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        kernel: Axes,
        norm: NormMaker,
        stride: Axes | None = None,
        *,
        bias: bool = False,
    ):
        super().__init__()
        self.conv1 = convolution(inputs, outputs, kernel, stride, bias=bias)
        self.norm1 = norm(outputs)
        self.conv2 = convolution(outputs, outputs, kernel, bias=bias)
        self.norm2 = norm(outputs)
        self.activation = nn.LeakyReLU(SLOPE, inplace=True)
        skip: list[nn.Module] = []
        if stride is not None and max(stride) > 1:
            skip.append(OPERATORS[len(kernel)].average_pool(stride, stride))  # type: ignore[arg-type]
        if inputs != outputs:
            skip += [pointwise(inputs, outputs, len(kernel)), norm(outputs)]
        self.skip = nn.Sequential(*skip)

    def forward(self, x: Tensor) -> Tensor:
        y = self.activation(self.norm1(self.conv1(x)))
        y = self.norm2(self.conv2(y))
        return self.activation(y + self.skip(x))


def initialise_linears(module: nn.Module) -> None:
    """Normal weights (std 0.02) and zero biases for every Linear, as the released encoder starts.

    Theirs is a normal distribution truncated at 2, a hundred standard deviations away.
    """
    for part in module.modules():
        if isinstance(part, nn.Linear):
            nn.init.normal_(part.weight, std=0.02)
            if part.bias is not None:
                nn.init.zeros_(part.bias)
