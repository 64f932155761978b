"""Dice on validation patches while training: pooled counts per class, safe for classes that do not occur."""

import torch

from unetrpp.labels import LabelScheme


class ClassOverlap:
    """Counts of true positives, false positives and false negatives over patches, per foreground class or region."""

    def __init__(self, labels: LabelScheme):
        self.labels = labels
        self.counts = torch.zeros(3, len(labels.regions) or len(labels.foreground), dtype=torch.float64)

    def add(self, logits: torch.Tensor, target: torch.Tensor) -> None:
        """Add logits (B, K, ...) against training indices (B, ...); unlabelled voxels (< 0 or ignored) are left out."""
        known = (target >= 0) & (target != (-1 if self.labels.ignore_index is None else self.labels.ignore_index))
        for i, (predicted, true) in enumerate(self._masks(logits, target)):
            hits = (predicted & true & known).sum()
            self.counts[0, i] += hits.item()
            self.counts[1, i] += ((predicted & known).sum() - hits).item()
            self.counts[2, i] += ((true & known).sum() - hits).item()

    def _masks(self, logits: torch.Tensor, target: torch.Tensor):  # type: ignore[no-untyped-def]
        if self.labels.regions:
            for i, region in enumerate(self.labels.regions):
                members = torch.tensor(region.members, device=target.device, dtype=target.dtype)
                yield logits[:, i] > 0, torch.isin(target, members)
        else:
            winner = logits.argmax(1)
            for c in self.labels.foreground:
                yield winner == c, target == c

    def dice(self) -> list[float | None]:
        """Dice per class; None where the class was neither there nor predicted."""
        hits, wrong, missed = self.counts
        size = 2 * hits + wrong + missed
        return [(2 * h / s).item() if s > 0 else None for h, s in zip(hits, size, strict=True)]

    @staticmethod
    def mean(dice: list[float | None]) -> float | None:
        """Mean over the defined ones."""
        defined = [d for d in dice if d is not None]
        return sum(defined) / len(defined) if defined else None
