"""Unified Focal loss: a focal cross entropy and a focal Tversky loss that share gamma and delta.

Yeung, Sala, Schoenlieb, Rundo, "Unified Focal loss", arXiv 2102.04525 (2021). Background is the common class, every
foreground class is a rare one. As in the paper, gamma = 0 is the loss without focal powers.
"""

import torch
from torch import Tensor, nn

from unetrpp.losses.batch import whole_batch
from unetrpp.losses.distance import BoundaryWeights
from unetrpp.losses.truth import Truth

SMOOTH = 1e-5
LEAST_MISS = 1e-3  # (1 - TI)^(1 - gamma) has an unbounded slope at TI = 1; below this 1 - TI it continues as a line
LEAST_OTHERS = 1e-30  # 1 - p, so that its power has a finite gradient


class UnifiedFocal(nn.Module):
    """weight * focal Tversky + (1 - weight) * focal cross entropy.

    With ``boundary`` voxels are weighted by their distance to the boundaries of the classes (ours). With ``regions``
    every region is a two-class problem of its own, since the sigmoid of z is the softmax of (0, z).
    """

    def __init__(
        self,
        *,
        gamma: float,
        delta: float,
        weight: float,
        symmetric: bool,
        regions: bool,
        batch_dice: bool,
        boundary: BoundaryWeights | None = None,
    ):
        super().__init__()
        self.gamma = gamma
        self.delta = delta
        self.weight = weight
        self.symmetric = symmetric
        self.regions = regions
        self.batch_dice = batch_dice
        self.boundary = boundary

    def forward(self, logits: Tensor, truth: Truth) -> Tensor:
        """``logits`` (B, C, *patch) float32 -> scalar in [0, inf)."""
        batch = len(logits)
        onehot, valid = truth.onehot, truth.valid
        if self.regions:
            logits, onehot, valid = as_two_classes(logits, onehot, valid)
        weights = self.boundary(onehot, valid) if self.boundary else None
        log_p = logits.log_softmax(1)
        entropy = focal_cross_entropy(
            log_p, onehot, valid, gamma=self.gamma, delta=self.delta, symmetric=self.symmetric, weights=weights
        )
        index = tversky_index(
            log_p.exp(), onehot, valid, delta=self.delta, weights=weights, batch=batch if self.batch_dice else None
        )
        present = onehot.flatten(2).any(-1)
        if self.batch_dice:
            present = present.view(batch, -1, present.shape[1]).any(0)
            present = whole_batch(present.float())[0] > 0
        tversky = focal_tversky(index, present, gamma=self.gamma, symmetric=self.symmetric)
        return self.weight * tversky + (1 - self.weight) * entropy


def as_two_classes(logits: Tensor, onehot: Tensor, valid: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Regions (B, R, *patch) -> samples (B * R, 2, *patch) of background and region."""
    regions = logits.shape[1]
    two = torch.stack([torch.zeros_like(logits), logits], 2).flatten(0, 1)
    inside = onehot.flatten(0, 1)
    valid = valid.expand(-1, regions, *valid.shape[2:]).flatten(0, 1)
    return two, torch.stack([valid & ~inside, inside], 1), valid[:, None]


def focal_cross_entropy(
    log_p: Tensor,
    onehot: Tensor,
    valid: Tensor,
    *,
    gamma: float,
    delta: float,
    symmetric: bool,
    weights: Tensor | None = None,
) -> Tensor:
    """Mean over valid voxels of (1 - delta) (1 - p_0)^gamma CE for background and delta CE for foreground.

    ``symmetric`` puts the power on the foreground as well. All tensors are (B, C, *patch), ``valid`` is (B, 1, *patch);
    ``log_p`` is the log-softmax. With ``weights`` it is the mean weighted by each voxel's largest weight over the
    classes.
    """
    entropy = -(log_p * onehot).sum(1)
    # 1 - p is computed as the sum of the other probabilities, which loses no digits. Where that underflows, the power
    # of the clamped value has a finite gradient for every gamma in [0, 1].
    others = log_p.exp() * ~onehot if symmetric else log_p[:, 1:].exp()
    focal = others.sum(1).clamp(min=LEAST_OTHERS) ** gamma
    balance = torch.where(onehot[:, 0], (1 - delta) * focal, delta * focal if symmetric else delta)
    if weights is None:
        total, count = whole_batch((balance * entropy).sum(), valid.sum())
        return total / count.clamp(min=1)
    voxel = weights.amax(1) * valid[:, 0]
    total, count = whole_batch((voxel * balance * entropy).sum(), voxel.sum())
    return total / count.clamp(min=1)


def tversky_index(
    probabilities: Tensor,
    onehot: Tensor,
    valid: Tensor,
    *,
    delta: float,
    weights: Tensor | None = None,
    batch: int | None = None,
) -> Tensor:
    """TI = TP / (TP + delta FN + (1 - delta) FP) over valid voxels: (B, C).

    ``weights`` multiply TP, FN and FP alike, so that TI stays in [0, 1] and is 1 for a perfect prediction only. With
    ``batch`` the first axis holds that many groups in a row, whose sums are added up first.
    """
    there, known = (onehot, valid) if weights is None else (weights * onehot, weights * valid)
    voxels = tuple(range(2, probabilities.ndim))
    sums = [(probabilities * there).sum(voxels), there.sum(voxels), (probabilities * known).sum(voxels)]
    if batch is not None:
        sums = list(whole_batch(*(n.view(batch, -1, n.shape[1]).sum(0) for n in sums)))
    overlap, truth, predicted = sums
    return (overlap + SMOOTH) / (overlap + delta * (truth - overlap) + (1 - delta) * (predicted - overlap) + SMOOTH)


def focal_tversky(index: Tensor, present: Tensor, *, gamma: float, symmetric: bool) -> Tensor:
    """Mean over the classes present of 1 - TI, to the power 1 - gamma for foreground (for all when ``symmetric``).

    ``index`` and ``present`` are (B, C). Classes that a sample does not have are left out, and so are samples without any.
    """
    miss = 1 - index
    focal = miss * miss.clamp(min=LEAST_MISS) ** -gamma
    if not symmetric:
        focal = torch.cat([miss[:, :1], focal[:, 1:]], 1)
    classes = present.sum(1)
    samples = (focal * present).sum(1) / classes.clamp(min=1)
    total, count = whole_batch(samples.sum(), (classes > 0).sum())
    return total / count.clamp(min=1)
