"""Convolutions of a single sample through oneDNN: PyTorch's own choice for them is up to five times slower."""

from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from unetrpp.networks.cpu_kernels.dispatch import takes_cpu_kernel


def convolve(layer: nn.Conv2d | nn.Conv3d, x: Tensor) -> Tensor:
    """``layer`` applied to x (B, C, *size); its padding is a number of voxels along each axis, filled with zeros."""
    padding = cast("tuple[int, ...]", layer.padding)
    if _torch_would_be_slow(x):
        return torch.mkldnn_convolution(
            x, layer.weight, layer.bias, padding, layer.stride, layer.dilation, layer.groups
        )
    operator = F.conv2d if isinstance(layer, nn.Conv2d) else F.conv3d
    return operator(x, layer.weight, layer.bias, layer.stride, padding, layer.dilation, layer.groups)


def _torch_would_be_slow(x: Tensor) -> bool:
    """One float32 sample on a CPU. Under autocast PyTorch takes oneDNN by itself; a fake tensor (networks/cost.py) has
    no values to compute with, so it keeps PyTorch's operator.
    """
    if not takes_cpu_kernel(x) or torch.is_autocast_enabled("cpu"):
        return False  # before torch.compile meets a call that it cannot trace
    available: bool = torch.backends.mkldnn.is_available()
    return available and type(x) is Tensor and x.dtype == torch.float32 and len(x) == 1
