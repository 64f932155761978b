"""The input of a cascade's second stage: the image and the first stage's segmentation.

The segmentation is passed on as one channel of class indices after those of the image. :func:`unfold_first_stage` makes one channel
per foreground class of it, patch by patch, so that no whole volume is ever held as one-hot channels. Training and
prediction both call it right before the network.
"""

import numpy as np
import torch
from torch import Tensor


def append_first_stage(image: np.ndarray, indices: np.ndarray) -> np.ndarray:
    """``image`` (C, Z, Y, X) with the segmentation (Z, Y, X) as one more channel: (C + 1, Z, Y, X)."""
    return np.concatenate([image, indices[None].astype(image.dtype)])


def unfold_first_stage(patches: Tensor, classes: int) -> Tensor:
    """Turn the last channel, class indices, into one channel of 0 and 1 per foreground class.

    Background and voxels outside the image (-1) are 0 in all of them.

    Args:
        patches: (B, C + 1, *patch) for a second stage.
        classes: number of foreground classes; 0 where there is no first stage, which leaves ``patches`` as they are.

    Returns:
        (B, C + classes, *patch).

    >>> unfold_first_stage(torch.tensor([[[0.5, 0.5, 0.5], [0.0, 2.0, 1.0]]]), 2)
    tensor([[[0.5000, 0.5000, 0.5000],
             [0.0000, 0.0000, 1.0000],
             [0.0000, 1.0000, 0.0000]]])
    """
    if classes == 0:
        return patches
    image, indices = patches[:, :-1], patches[:, -1:]
    foreground = torch.arange(1, classes + 1, device=indices.device, dtype=indices.dtype)
    one_hot = indices == foreground.view(-1, *(1,) * (indices.ndim - 2))
    return torch.cat([image, one_hot.to(image.dtype)], dim=1)
