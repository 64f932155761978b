"""The exponential mean of a network's weights over its training steps, for validation and for the checkpoints that predict."""

import copy

import torch
from torch import nn


class WeightMean:
    """A copy of a network whose weights follow those in training.

    After step n the copy keeps min(decay, (1 + n) / (10 + n)) of itself, so that the first, poor weights are soon forgotten.
    Running statistics of norms are averaged alike.

    Args:
        decay: of a long run; 0.999 averages about the last thousand steps.
    """

    def __init__(self, network: nn.Module, decay: float):
        self.decay = decay
        self.network = copy.deepcopy(network).requires_grad_(False)

    @torch.no_grad()
    def update(self, network: nn.Module, step: int) -> None:
        """Take in the weights after ``step`` steps."""
        weight = 1 - min(self.decay, (1 + step) / (10 + step))
        mine, theirs = self.network.state_dict(), network.state_dict()
        averaged = [name for name, value in mine.items() if value.is_floating_point()]
        torch._foreach_lerp_([mine[name] for name in averaged], [theirs[name] for name in averaged], weight)
        for name in mine.keys() - averaged:
            mine[name].copy_(theirs[name])
