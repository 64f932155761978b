"""The progress of a training: what a resumed run needs besides the weights, the optimiser and the loss scaler."""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any

BEST_SMOOTHING = 0.9  # nnU-Net selects checkpoint_best by the same exponential mean of the validation Dice


@dataclass
class TrainingState:
    """The fields are keys of checkpoint_latest.pt; files of earlier releases have the same ones.

    >>> state = TrainingState(step=3)
    >>> state.is_better(0.5), state.is_better(0.4), state.epochs_without_better
    (True, False, 1)
    >>> TrainingState.from_checkpoint(state.to_checkpoint()) == state
    True
    """

    step: int = 0  # optimiser steps done
    losses: list[float] = field(default_factory=list)  # of the current epoch, one per step
    smoothed_dice: float = math.nan  # exponential mean of the epochs' mean Dice on validation patches
    best_dice: float = -1.0  # the largest smoothed Dice
    epochs_without_better: int = 0  # since then
    seconds: float = 0.0  # spent on this fold by earlier runs

    def is_better(self, dice: float | None) -> bool:
        """Add the mean Dice of an epoch (None: undefined); returns whether the smoothed Dice is the best so far."""
        if dice is not None:
            before = dice if math.isnan(self.smoothed_dice) else self.smoothed_dice
            self.smoothed_dice = BEST_SMOOTHING * before + (1 - BEST_SMOOTHING) * dice
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
        return cls(**{each.name: content[each.name] for each in fields(cls)})
