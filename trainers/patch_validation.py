"""Validation on patches at the end of an epoch: mean loss, and Dice per class."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from unetrpp.trainers.distributed import Processes
from unetrpp.trainers.overlap import ClassOverlap, mean_dice


@dataclass(frozen=True)
class PatchScores:
    loss: float | None  # mean over the batches; None without validation cases
    dice: Sequence[float | None]  # per foreground class or region; None where it was neither present nor predicted

    @property
    def mean_dice(self) -> float | None:
        return mean_dice(self.dice)


@torch.no_grad()
def score_patches(
    predicted: Iterable[tuple[list[Tensor], Tensor]],
    loss: Callable[[list[Tensor], Tensor], Tensor],
    overlap: ClassOverlap,
    processes: Processes,
) -> PatchScores:
    """The scores over ``predicted`` batches of all processes: outputs, full resolution first, and training indices.

    Losses and counts (in ``overlap``, empty at first) are read from the device once, at the end.
    """
    losses = []
    for outputs, target in predicted:
        losses.append(loss(outputs, target))
        overlap.add(outputs[0], target)
    overlap.counts = processes.all_reduce_sum(overlap.counts.cpu())
    mean_loss = sum(torch.stack(losses).tolist()) / len(losses)
    return PatchScores(processes.all_reduce_mean([mean_loss])[0], overlap.dice())
