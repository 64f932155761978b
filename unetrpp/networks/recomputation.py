"""Gradient checkpointing: training keeps the inputs of a stage and computes the rest again in the backward pass.

Chen et al., "Training Deep Nets with Sublinear Memory Cost" (arXiv 1604.06174). Gradients are the same; a step needs half to
two thirds of the memory and one more forward pass.
"""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.checkpoint import checkpoint


def run_stage(stage: nn.Module, *inputs: Tensor, recompute: bool) -> Tensor:
    """``stage(*inputs)``; with ``recompute``, in training, without keeping what the backward pass needs besides the inputs.

    Dropout and drop path draw the same numbers again, and running statistics see a batch once.
    """
    if not (recompute and stage.training and torch.is_grad_enabled()):
        out: Tensor = stage(*inputs)
        return out

    def contexts() -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
        return nullcontext(), statistics_kept(stage)

    out = checkpoint(stage, *inputs, use_reentrant=False, context_fn=contexts)
    return out


@contextmanager
def statistics_kept(stage: nn.Module) -> Iterator[None]:
    """While entered, batch norms in training update copies of their running statistics, which are dropped afterwards."""
    norms = [module for module in stage.modules() if isinstance(module, _BatchNorm)]
    kept = [dict(norm.named_buffers(recurse=False)) for norm in norms]
    for norm, buffers in zip(norms, kept, strict=True):
        for name, buffer in buffers.items():
            setattr(norm, name, buffer.clone())
    try:
        yield
    finally:
        for norm, buffers in zip(norms, kept, strict=True):
            for name, buffer in buffers.items():
                setattr(norm, name, buffer)
