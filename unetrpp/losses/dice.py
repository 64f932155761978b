"""Soft Dice plus cross entropy over the valid voxels: nnU-Net's loss, except that padding is not valid (truth.py).

Isensee et al., "nnU-Net", Nature Methods 18, 203-211 (2021); the soft Dice is Drozdzal et al.'s (arXiv 1608.04117).
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from unetrpp.losses.batch import whole_batch
from unetrpp.losses.truth import Truth

SMOOTH = 1e-5  # as in nnU-Net 2.8.1


class DiceAndCrossEntropy(nn.Module):
    """1 - mean soft Dice + cross entropy.

    With classes: softmax, and the mean Dice over the foreground classes. With ``regions``: sigmoid, the mean Dice over
    all regions, and binary cross entropy. With ``batch_dice`` the Dice of a class is that of its sums over the batch.
    """

    def __init__(self, *, regions: bool, batch_dice: bool):
        super().__init__()
        self.regions = regions
        self.batch_dice = batch_dice

    def forward(self, logits: Tensor, truth: Truth) -> Tensor:
        """``logits`` (B, C, *patch) float32 -> scalar in [0, inf)."""
        if self.regions:
            dice = soft_dice(logits.sigmoid(), truth.onehot, truth.valid, batch=self.batch_dice)
            return 1 - dice.mean() + binary_cross_entropy(logits, truth)
        probabilities = logits.softmax(1)[:, 1:]
        dice = soft_dice(probabilities, truth.onehot[:, 1:], truth.valid, batch=self.batch_dice)
        return 1 - dice.mean() + cross_entropy(logits, truth)


def soft_dice(probabilities: Tensor, onehot: Tensor, valid: Tensor, *, batch: bool) -> Tensor:
    """2 |p y| / (|p| + |y|) over valid voxels: (B, C), or (C,) of the sums over the batch.

    A class that is neither present nor predicted has Dice 1.
    """
    voxels = tuple(range(2, probabilities.ndim))
    axes = (0, *voxels) if batch else voxels
    overlap = (probabilities * onehot).sum(axes)
    size = (probabilities * valid).sum(axes) + onehot.sum(axes)
    if batch:
        overlap, size = whole_batch(overlap, size)
    return (2 * overlap + SMOOTH) / (size + SMOOTH)


def cross_entropy(logits: Tensor, truth: Truth) -> Tensor:
    """Mean over valid voxels of -log p of the true class; 0 where no voxel is valid."""
    total = F.cross_entropy(logits, truth.index, ignore_index=-1, reduction="sum")
    total, count = whole_batch(total, truth.valid.sum())
    return total / count.clamp(min=1)


def binary_cross_entropy(logits: Tensor, truth: Truth) -> Tensor:
    """Mean binary cross-entropy over valid voxels and regions. (Where there is an ignore label, nnU-Net 2.8.1 takes the sum
    over the regions instead of their mean.)
    """
    each = F.binary_cross_entropy_with_logits(logits, truth.onehot.to(logits.dtype), reduction="none")
    total, count = whole_batch(torch.where(truth.valid, each, 0).sum(), truth.valid.sum() * logits.shape[1])
    return total / count.clamp(min=1)
