"""Convolutional building blocks in 2D and 3D, shared by all networks."""

import math
from collections.abc import Callable
from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from unetrpp.networks.cpu_kernels.convolution import convolve
from unetrpp.networks.cpu_kernels.normalize import normalize
from unetrpp.networks.drop_path import DropPath
from unetrpp.networks.layout import is_channels_last

Axes = tuple[int, ...]
NormMaker = Callable[[int], nn.Module]  # channels -> norm

SLOPE = 0.01  # of every LeakyReLU
SMALLEST_GROUP = 16  # values; fewer give no useful variance
GROUP_CHANNELS = 8  # channels of one group in norm "group"


class Convolution2d(nn.Conv2d):
    """A 2D convolution that is as fast for one sample on a CPU as for a batch."""

    def forward(self, x: Tensor) -> Tensor:
        return convolve(self, x)


class Convolution3d(nn.Conv3d):
    """A 3D convolution that is as fast for one sample on a CPU as for a batch."""

    def forward(self, x: Tensor) -> Tensor:
        return convolve(self, x)


CONVOLUTIONS = (nn.Conv2d, nn.Conv3d, nn.ConvTranspose2d, nn.ConvTranspose3d)


class Operators(NamedTuple):
    """Layer classes for 2D, or for 3D."""

    convolution: type[nn.Conv2d] | type[nn.Conv3d]
    transposed: type[nn.ConvTranspose2d] | type[nn.ConvTranspose3d]
    batch_norm: type[nn.BatchNorm2d] | type[nn.BatchNorm3d]
    instance_norm: type[nn.InstanceNorm2d] | type[nn.InstanceNorm3d]
    dropout: type[nn.Dropout2d] | type[nn.Dropout3d]
    average_pool: type[nn.AvgPool2d] | type[nn.AvgPool3d]


OPERATORS = {
    2: Operators(Convolution2d, nn.ConvTranspose2d, nn.BatchNorm2d, nn.InstanceNorm2d, nn.Dropout2d, nn.AvgPool2d),
    3: Operators(Convolution3d, nn.ConvTranspose3d, nn.BatchNorm3d, nn.InstanceNorm3d, nn.Dropout3d, nn.AvgPool3d),
}


def convolution(
    inputs: int, outputs: int, kernel: Axes, stride: Axes | None = None, *, bias: bool = False
) -> nn.Module:
    """A convolution that keeps the size (odd kernels), or divides it by ``stride``."""
    padding = tuple((k - 1) // 2 for k in kernel)
    return OPERATORS[len(kernel)].convolution(inputs, outputs, kernel, stride or 1, padding, bias=bias)  # type: ignore[arg-type]


def pointwise(inputs: int, outputs: int, dimensions: int, *, bias: bool = False) -> nn.Conv2d | nn.Conv3d:
    """A 1 x 1 or 1 x 1 x 1 convolution."""
    layer: type[nn.Conv2d] | type[nn.Conv3d] = Pointwise2d if dimensions == 2 else Pointwise3d
    return layer(inputs, outputs, 1, bias=bias)


class Pointwise2d(nn.Conv2d):
    """A 1 x 1 convolution, computed as one matrix product where the channels are last in memory."""

    def forward(self, x: Tensor) -> Tensor:
        return _as_linear(self, x) if is_channels_last(x) else super().forward(x)


class Pointwise3d(nn.Conv3d):
    """A 1 x 1 x 1 convolution, computed as one matrix product where the channels are last in memory."""

    def forward(self, x: Tensor) -> Tensor:
        return _as_linear(self, x) if is_channels_last(x) else super().forward(x)


def _as_linear(layer: nn.Conv2d | nn.Conv3d, x: Tensor) -> Tensor:
    return F.linear(x.movedim(1, -1), layer.weight.flatten(1), layer.bias).movedim(-1, 1)


def transposed(inputs: int, outputs: int, stride: Axes, *, bias: bool = False) -> nn.Module:
    """A transposed convolution with kernel = stride: every coarse voxel fills its own block of fine voxels."""
    return OPERATORS[len(stride)].transposed(inputs, outputs, stride, stride, bias=bias)  # type: ignore[arg-type]


def norm_maker(
    kind: Literal["batch", "instance", "group"], dimensions: int, voxels: int, affine: bool = True
) -> NormMaker:
    """A function that makes the norm layers of a level with this many voxels.

    With a single voxel only a group norm has a variance, so it is used whatever ``kind`` says. The planners choose
    "batch" (UNETR++) and "instance" (U-Nets); "group" is an arm of benchmarks/ablation.py.
    """

    def make(channels: int) -> nn.Module:
        if kind == "group" or voxels == 1:
            return nn.GroupNorm(_groups(channels, channels // GROUP_CHANNELS, voxels), channels, affine=affine)
        if kind == "batch":
            return OPERATORS[dimensions].batch_norm(channels, affine=affine)
        return OPERATORS[dimensions].instance_norm(channels, affine=affine)

    return make


def _groups(channels: int, most: int, voxels: int) -> int:
    """The largest number of groups, ``most`` or fewer, that divides the channels with SMALLEST_GROUP values each."""
    fits = (g for g in range(max(1, most), 0, -1) if channels % g == 0 and channels // g * voxels >= SMALLEST_GROUP)
    return next(fits, 1)


class Downsample(nn.Module):
    """Stem or downsampling of UNETR++: a convolution with kernel = stride, then GroupNorm; no activation.

    Args:
        groups: of the norm; None for gcd(inputs, outputs), which is the published number where it divides the channels.
        voxels: of the output.
    """

    def __init__(self, inputs: int, outputs: int, stride: Axes, *, groups: int | None, voxels: int):
        super().__init__()
        self.conv = OPERATORS[len(stride)].convolution(inputs, outputs, stride, stride, bias=False)  # type: ignore[arg-type]
        self.norm = nn.GroupNorm(_groups(outputs, groups or math.gcd(inputs, outputs), voxels), outputs)

    def forward(self, x: Tensor) -> Tensor:
        return normalize(self.norm, self.conv(x))


class ConvolutionBlock(nn.Module):
    """Convolution - norm - LeakyReLU, the block of the plain U-Net."""

    def __init__(self, inputs: int, outputs: int, kernel: Axes, *, norm: NormMaker, stride: Axes | None = None):
        super().__init__()
        self.conv = convolution(inputs, outputs, kernel, stride, bias=True)
        self.norm = norm(outputs)

    def forward(self, x: Tensor) -> Tensor:
        return normalize(self.norm, self.conv(x), slope=SLOPE)


class ResidualBlock(nn.Module):
    """Convolution - norm - LeakyReLU - convolution - norm - add - LeakyReLU (He et al. 2016).

    The skip is average-pooled where there is a stride, and goes through a pointwise convolution with norm where the
    channels change; otherwise it is the identity.
    """

    def __init__(self, inputs: int, outputs: int, kernel: Axes, *, norm: NormMaker, stride: Axes | None = None):
        super().__init__()
        self.conv1 = convolution(inputs, outputs, kernel, stride)
        self.norm1 = norm(outputs)
        self.conv2 = convolution(outputs, outputs, kernel)
        self.norm2 = norm(outputs)
        strided = stride is not None and max(stride) > 1
        self.pool = OPERATORS[len(kernel)].average_pool(stride, stride) if strided else nn.Identity()  # type: ignore[arg-type]
        self.skip = Skip(inputs, outputs, len(kernel), norm) if inputs != outputs else nn.Identity()
        self.drop_path = DropPath()

    def forward(self, x: Tensor) -> Tensor:
        y = normalize(self.norm1, self.conv1(x), slope=SLOPE)
        if self.training and self.drop_path.rate:
            branch = self.drop_path(normalize(self.norm2, self.conv2(y)))
            return F.leaky_relu(branch + self.skip(self.pool(x)), SLOPE)
        return normalize(self.norm2, self.conv2(y), self.skip(self.pool(x)), SLOPE)


class Skip(nn.Module):
    """The skip of a residual block that changes the channels."""

    def __init__(self, inputs: int, outputs: int, dimensions: int, norm: NormMaker):
        super().__init__()
        self.conv = pointwise(inputs, outputs, dimensions)
        self.norm = norm(outputs)

    def forward(self, x: Tensor) -> Tensor:
        return normalize(self.norm, self.conv(x))


class TokenParameter(nn.Linear):
    """A linear map of tokens to P tokens without bias, uniform within 1 / sqrt(P): the released code's parameter ``EF``."""

    def __init__(self, tokens: int, projected: int):
        super().__init__(tokens, projected, bias=False)

    def reset_parameters(self) -> None:
        bound = 1 / math.sqrt(self.out_features)
        nn.init.uniform_(self.weight, -bound, bound)


def initialise_linears(module: nn.Module) -> None:
    """Normal weights (std 0.02) and zero biases for every Linear, as in the released encoder.

    The released code truncates the normal distribution at 2, which is a hundred standard deviations away. A
    :class:`TokenParameter` keeps its own start, since there it is no Linear.
    """
    for part in module.modules():
        if isinstance(part, nn.Linear) and not isinstance(part, TokenParameter):
            nn.init.normal_(part.weight, std=0.02)
            if part.bias is not None:
                nn.init.zeros_(part.bias)


@torch.no_grad()
def initialise_as_nnunet(module: nn.Module) -> None:
    """The start of nnU-Net 2.8.1's U-Nets: He et al.'s normal weights (arXiv 1502.01852), zero biases.

    A weight's std is sqrt(2 / ((1 + SLOPE ** 2) * fan-in)), in transposed convolutions with the fan-in of PyTorch: output
    channels times kernel. The last norm of a residual block starts at 0, so that the block is its skip at first.
    """
    for part in module.modules():
        if isinstance(part, CONVOLUTIONS):
            nn.init.kaiming_normal_(part.weight, a=SLOPE)
            if part.bias is not None:
                nn.init.zeros_(part.bias)
        elif isinstance(part, ResidualBlock):
            for parameter in part.norm2.parameters():
                parameter.zero_()
