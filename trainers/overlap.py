"""Dice on validation patches while training: pooled counts per class, safe for classes that do not occur."""

import torch

from unetrpp.dataset.labels import LabelScheme

CPU = torch.device("cpu")


class ClassOverlap:
    """Counts of true positives, false positives and false negatives over patches, per foreground class or region.

    They are kept on ``device``, where the patches are, and read once, by :meth:`dice`.
    """

    def __init__(self, labels: LabelScheme, device: torch.device = CPU):
        self.labels = labels
        shape = (3, len(labels.regions) or len(labels.foreground))
        self.counts = torch.zeros(shape, dtype=torch.int64, device=device)

    def add(self, logits: torch.Tensor, target: torch.Tensor) -> None:
        """Add logits (B, K, ...) against training indices (B, ...); unlabelled voxels (< 0 or ignored) are left out."""
        known = (target >= 0) & (target != (-1 if self.labels.ignore_index is None else self.labels.ignore_index))
        for i, (predicted, true) in enumerate(self._masks(logits, target)):
            hits = (predicted & true & known).sum()
            self.counts[:, i] += torch.stack([hits, (predicted & known).sum() - hits, (true & known).sum() - hits])

    def _masks(self, logits: torch.Tensor, target: torch.Tensor):  # type: ignore[no-untyped-def]
        if self.labels.regions:
            for i, region in enumerate(self.labels.regions):
                yield logits[:, i] > 0, torch.stack([target == member for member in region.members]).any(0)
        else:
            winner = logits.argmax(1)
            for c in self.labels.foreground:
                yield winner == c, target == c

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
