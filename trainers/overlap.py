"""Dice on patches during training, from counts per class that are pooled over all patches."""

from collections.abc import Iterator, Sequence

import torch

from unetrpp.dataset.labels import LabelScheme

CPU = torch.device("cpu")


class ClassOverlap:
    """Counts of true positives, false positives and false negatives over patches, per foreground class or region.

    They stay on ``device``, where the patches are, and are read once, by :meth:`dice`.
    """

    def __init__(self, labels: LabelScheme, device: torch.device = CPU):
        self.labels = labels
        self.counts = torch.zeros((3, len(labels.targets)), dtype=torch.int64, device=device)

    def add(self, logits: torch.Tensor, target: torch.Tensor) -> None:
        """Count logits (B, K, ...) against training indices (B, ...), without voxels below 0 or of the ignore label."""
        known = self.labels.known(target)
        for i, (predicted, true) in enumerate(self._masks(logits, target)):
            hits = (predicted & true & known).sum()
            self.counts[:, i] += torch.stack([hits, (predicted & known).sum() - hits, (true & known).sum() - hits])

    def _masks(self, logits: torch.Tensor, target: torch.Tensor) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """Yield for every class or region where it is predicted, and where it is true."""
        decisions = None if self.labels.overlapping else logits.argmax(1)
        for i, each in enumerate(self.labels.targets):
            yield logits[:, i] > 0 if decisions is None else each.mask(decisions), each.mask(target)

    def dice(self) -> list[float | None]:
        """Dice per class; None where the class was neither present nor predicted."""
        counts = zip(*self.counts.tolist(), strict=True)
        return [
            2 * hits / (2 * hits + wrong + missed) if hits + wrong + missed else None for hits, wrong, missed in counts
        ]


def mean_dice(dice: Sequence[float | None]) -> float | None:
    """The mean over the classes whose Dice is defined; None where there is none.

    >>> mean_dice([0.5, None, 1.0])
    0.75
    """
    defined = [d for d in dice if d is not None]
    return sum(defined) / len(defined) if defined else None
