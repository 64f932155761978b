"""Channels that are 0 outside the mask of their z-scores stay 0 there, whatever augmentation did to the sample.

As in nnU-Net 2.8.1, the mask passes through augmentation as a label of its own among the background.
"""

import torch

OUTSIDE_MASK = -2  # beside -1, outside the case


def mark_outside(image: torch.Tensor, label: torch.Tensor, channels: tuple[int, ...]) -> torch.Tensor:
    """The label with ``OUTSIDE_MASK`` on background where all masked ``channels`` of the image (C, Z, Y, X) are exactly 0.

    ``label`` is (Z, Y, X), or (L, Z, Y, X), of which the first map is marked.
    """
    if not channels:
        return label
    inside = torch.stack([image[c] for c in channels]).any(0)
    own = label if label.ndim == 3 else label[0]
    marked = own.masked_fill(~inside & (own == 0), OUTSIDE_MASK)
    return marked if label.ndim == 3 else torch.cat([marked[None], label[1:]])


def clear_outside(image: torch.Tensor, label: torch.Tensor, channels: tuple[int, ...]) -> torch.Tensor:
    """Set the masked channels to 0, in place, where the label is marked or outside the case; returns the label without marks."""
    if not channels:
        return label
    outside = (label if label.ndim == 3 else label[0]) < 0
    for c in channels:
        image[c].masked_fill_(outside, 0)
    return label.masked_fill(label == OUTSIDE_MASK, 0)
