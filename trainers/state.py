"""The progress of a training: what a resumed run needs besides the weights, the optimiser and the loss scaler."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from typing import Any

BEST_SMOOTHING = 0.9  # nnU-Net selects checkpoint_best by the same exponential mean of the validation Dice


@dataclass
class TrainingState:
    """The fields are keys of checkpoint_latest.pt; release 0.1.0 wrote all of them up to ``seconds``.

    >>> state = TrainingState(step=3)
    >>> state.is_better([0.5, None]), state.is_better([0.4, None]), state.epochs_without_better
    (True, False, 1)
    >>> TrainingState.from_checkpoint(state.to_checkpoint()) == state
    True
    """

    step: int = 0  # optimiser steps done
    losses: list[float] = field(default_factory=list)  # of the current epoch, one per step
    smoothed_dice: float = math.nan  # mean of class_dice over the classes that have one
    best_dice: float = -1.0  # the largest smoothed Dice
    epochs_without_better: int = 0  # since then
    seconds: float = 0.0  # spent on this fold by earlier runs
    class_dice: list[float] = field(
        default_factory=list
    )  # exponential mean of each class's Dice over the epochs; NaN: none
    compute_threads: int = 0  # that compute a step on the CPU; 0: not chosen
    cores: int = 0  # that could be used when they were chosen

    def is_better(self, dice: Sequence[float | None]) -> bool:
        """Add an epoch's Dice of every class (None: undefined); returns whether the smoothed Dice is the best so far.

        A class keeps its value over epochs in which it is undefined, so that the mean does not jump when a difficult class is
        missing for once. An epoch without any Dice is passed over. With a class that had no Dice before, the comparison starts
        anew, because a mean over fewer classes says nothing about one over more.
        """
        if all(each is None for each in dice):
            return False
        before = self.class_dice or [self.smoothed_dice] * len(dice)
        if any(math.isnan(old) for old, new in zip(before, dice, strict=True) if new is not None):
            self.forget_best()
        self.class_dice = [_smoothed(old, new) for old, new in zip(before, dice, strict=True)]
        defined = [each for each in self.class_dice if not math.isnan(each)]
        self.smoothed_dice = sum(defined) / len(defined)
        self.epochs_without_better += 1
        if not self.smoothed_dice > self.best_dice:
            return False
        self.best_dice, self.epochs_without_better = self.smoothed_dice, 0
        return True

    def forget_best(self) -> None:
        """Let the next epoch be the best so far: the network was changed, so earlier scores do not count."""
        self.best_dice, self.epochs_without_better = -1.0, 0

    def to_checkpoint(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_checkpoint(cls, content: Mapping[str, Any]) -> "TrainingState":
        return cls(**{each.name: content[each.name] for each in fields(cls) if each.name in content})


def _smoothed(old: float, new: float | None) -> float:
    """
    >>> _smoothed(math.nan, 0.5), _smoothed(0.5, None)
    (0.5, 0.5)
    """
    if new is None:
        return old
    return new if math.isnan(old) else BEST_SMOOTHING * old + (1 - BEST_SMOOTHING) * new
