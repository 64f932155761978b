"""Dice on validation patches while training: pooled counts per class, safe for classes that do not occur."""

from collections.abc import Iterator

import torch

from unetrpp.dataset.labels import LabelScheme

CPU = torch.device("cpu")


class ClassOverlap:
    """Counts of true positives, false positives and false negatives over patches, per foreground class or region.

    They are kept on ``device``, where the patches are, and read once, by :meth:`dice`.
    """

    def __init__(self, labels: LabelScheme, device: torch.device = CPU):
        self.labels = labels
        self.counts = torch.zeros((3, len(labels.targets)), dtype=torch.int64, device=device)

    def add(self, logits: torch.Tensor, target: torch.Tensor) -> None:
        """Add logits (B, K, ...) against training indices (B, ...); unlabelled voxels (< 0 or ignored) are left out."""
        known = self.labels.known(target)
        for i, (predicted, true) in enumerate(self._masks(logits, target)):
            hits = (predicted & true & known).sum()
            self.counts[:, i] += torch.stack([hits, (predicted & known).sum() - hits, (true & known).sum() - hits])

    def _masks(self, logits: torch.Tensor, target: torch.Tensor) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """For every class or region: where it is predicted, and where it is true."""
        decisions = None if self.labels.overlapping else logits.argmax(1)
        for i, each in enumerate(self.labels.targets):
            yield logits[:, i] > 0 if decisions is None else each.mask(decisions), each.mask(target)

    def dice(self) -> list[float | None]:
        """Dice per class; None where the class was neither there nor predicted."""
        counts = zip(*self.counts.tolist(), strict=True)
        return [
            2 * hits / (2 * hits + wrong + missed) if hits + wrong + missed else None for hits, wrong, missed in counts
        ]

    @staticmethod
    def mean(dice: list[float | None]) -> float | None:
        """Mean over the defined ones."""
        defined = [d for d in dice if d is not None]
        return sum(defined) / len(defined) if defined else None
