"""Sums over a batch that several processes share."""

from typing import Any

import torch
from torch import Tensor, distributed


def whole_batch(*sums: Tensor) -> tuple[Tensor, ...]:
    """Add up what each process summed over its part of the batch; in a single process the sums as they are.

    So every process has the loss of the whole batch. The gradients stay exact where the processes' ones are averaged,
    as data-parallel training does.

    Args:
        sums: of one shape; the first one's type is the result's.
    """
    if not (distributed.is_available() and distributed.is_initialized()):
        return sums
    total: Tensor = _SumOverProcesses.apply(torch.stack([s.to(sums[0].dtype) for s in sums]))
    return total.unbind()


class _SumOverProcesses(torch.autograd.Function):
    """An all-reduce; each process's part counts in every process's result, so the gradients are added up too."""

    @staticmethod
    def forward(ctx: Any, part: Tensor) -> Tensor:
        total = part.clone()
        distributed.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        total = gradient.clone()
        distributed.all_reduce(total)
        return total
