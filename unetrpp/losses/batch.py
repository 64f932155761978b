"""Sums over a batch that is split over several processes."""

from typing import Any

import torch
from torch import Tensor, distributed


def whole_batch(*sums: Tensor) -> tuple[Tensor, ...]:
    """Each sum over the whole batch, from this process's sums over its part; in a single process the sums themselves.

    Every process then computes the loss of the whole batch. Its gradients are exact when they are averaged over the
    processes, as data-parallel training does.

    Args:
        sums: tensors of one shape; the results have the type of the first one.
    """
    if not (distributed.is_available() and distributed.is_initialized()):
        return sums
    total: Tensor = _SumOverProcesses.apply(  # type: ignore[no-untyped-call]
        torch.stack([s.to(sums[0].dtype) for s in sums])
    )
    return total.unbind()


class _SumOverProcesses(torch.autograd.Function):
    """An all-reduce. Each process's part counts in the result of every process, so its gradients are added up too."""

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
