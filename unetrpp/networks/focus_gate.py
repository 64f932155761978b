"""The gate of the authors' own code: spatial times channel attention, to a learned power (github.com/mlyg/focus-u-net).

The code was published in May 2022 and names the paper as the source of its gamma. It is for 2D; the form for 3D is ours: strides
and kernels by axis.
"""

import math
from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn

from unetrpp.networks.blocks import OPERATORS, Axes, pointwise
from unetrpp.networks.focal_module import Gate

SMALLEST = 1e-7  # coefficients are clipped to [SMALLEST, 1]
NORM_EPS = 1e-3


class FocusGate(Gate):
    """A skip (B, C, *size) and the coarser signal (B, G, *size / stride) -> the weighted skip (B, C, *size).

    Both are mapped to C channels at the coarse size, added and rectified. A channel attention (their mean over positions, a
    convolution across channels) times a spatial attention (their mean over channels, a convolution) is raised to gamma and
    repeated to the skip's size. A pointwise convolution and a batch norm follow on the weighted skip. gamma is learned.

    Args:
        size: of the coarse map at the planned patch, from which the kernels of the spatial attention follow.
        gamma: that training starts from; 1 in the authors' code.
    """

    def __init__(self, channels: int, signal_channels: int, stride: Axes, *, size: Axes, gamma: float):
        super().__init__(gamma)
        operators, dimensions = OPERATORS[len(stride)], len(stride)
        self.signal = pointwise(signal_channels, channels, dimensions, bias=True)
        self.signal_norm = operators.batch_norm(channels, eps=NORM_EPS)
        self.of_signal = pointwise(channels, channels, dimensions, bias=True)
        self.of_skip = operators.convolution(channels, channels, 1, stride, bias=False)  # type: ignore[arg-type]
        across = odd_kernel(channels)
        self.channel_attention = nn.Conv1d(1, 1, across, padding=across // 2, bias=False)
        kernel = tuple(odd_kernel(n) for n in size)
        padding = tuple(k // 2 for k in kernel)
        self.spatial_attention = operators.convolution(1, 1, kernel, 1, padding, bias=False)  # type: ignore[arg-type]
        self.out = pointwise(channels, channels, dimensions, bias=True)
        self.out_norm = operators.batch_norm(channels, eps=NORM_EPS)
        self.learn(gamma)

    def coefficients(self, skip: Tensor, signal: Tensor) -> Tensor:
        """A^gamma (B, C, *coarse size), float32."""
        signal = self.signal_norm(F.relu(self.signal(signal)))
        features = F.relu(self.of_skip(skip) + self.of_signal(signal))
        channel = self.channel_attention(features.flatten(2).mean(-1).unsqueeze(1)).squeeze(1)  # (B, C)
        spatial = self.spatial_attention(features.mean(1, keepdim=True))
        channel = channel.view(*channel.shape, *(1,) * (spatial.ndim - 2))
        logarithms = F.logsigmoid(channel.float()) + F.logsigmoid(spatial.float())
        clipped = logarithms.clamp_min(math.log(SMALLEST))
        return self.raised(clipped.movedim(1, -1)).movedim(-1, 1)

    def forward(self, skip: Tensor, signal: Tensor) -> Tensor:
        if self.off:
            return skip
        weights = self.upsampled(self.coefficients(skip, signal), skip.shape[2:])
        out: Tensor = self.out_norm(self.out(skip * weights.to(skip.dtype)))
        return out

    def upsampled(self, coefficients: Tensor, size: Sequence[int]) -> Tensor:
        return F.interpolate(coefficients, tuple(size), mode="nearest")


def odd_kernel(n: int) -> int:
    """The kernel for n channels, or for a map of side n: the whole part of |log2(n / 2) + 1 / 2|, made odd.

    >>> [odd_kernel(n) for n in (4, 16, 32, 64, 256)]
    [1, 3, 5, 5, 7]
    """
    kernel = int(abs(math.log2(n / 2) + 1 / 2))
    return kernel if kernel % 2 else kernel + 1
