"""The memory layout the networks compute in: channels last, so that a volume's tokens (B, N, C) are a view of it."""

import torch
from torch import Tensor

CHANNELS_LAST = {4: torch.channels_last, 5: torch.channels_last_3d}  # by number of axes, batch and channels included


def is_channels_last(x: Tensor) -> bool:
    return x.ndim in CHANNELS_LAST and x.is_contiguous(memory_format=CHANNELS_LAST[x.ndim])


def to_channels_last(x: Tensor) -> Tensor:
    """A batch (B, C, *size) with its channels last in memory; the shape stays."""
    return x.to(memory_format=CHANNELS_LAST[x.ndim])
