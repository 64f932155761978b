"""From logits to probabilities, decisions and uncertainty. Tensors (F, K, ...) hold K outputs of F folds."""

import math
from typing import Literal, TypeAlias

import torch
from torch import Tensor

from unetrpp.dataset.labels import LabelScheme

Averaging: TypeAlias = Literal["probabilities", "logits"]  # what is averaged over folds, and resampled


def fold_probabilities(logits: Tensor, scheme: LabelScheme) -> Tensor:
    """Softmax over the classes, or a sigmoid per region: (F, K, ...)."""
    return logits.sigmoid() if scheme.overlapping else logits.softmax(dim=1)


def mean_logits(logits: Tensor) -> Tensor:
    """The mean over folds (F, K, ...) -> (K, ...) of an imported model: in float16, in which nnU-Net 2.8.1 keeps logits."""
    total = logits[0].half()
    for fold in logits[1:]:
        total = total + fold.half()
    return (total / len(logits)).float() if len(logits) > 1 else total.float()


def decide(probability: Tensor, scheme: LabelScheme) -> Tensor:
    """Arg-max over the classes, or the last region above one half: (K, ...) -> (...), for ``LabelScheme.decode``."""
    return last_above(probability, 0.5) if scheme.overlapping else arg_max(probability)


def decide_logits(logits: Tensor, scheme: LabelScheme) -> Tensor:
    """:func:`decide` on ``logits`` (K, ...): the same decisions, as softmax and sigmoid keep the order."""
    return last_above(logits, 0.0) if scheme.overlapping else arg_max(logits)


def arg_max(values: Tensor) -> Tensor:
    """Arg-max over the first axis, the lower index on ties: (K, ...) -> uint8 or int16.

    A running maximum over whole slabs: on a CPU 5-50 times faster than ``Tensor.argmax``, which walks across them. On CUDA, where
    every class would launch four kernels, ``Tensor.argmax``, which promises the first of equal values.
    """
    if values.device.type not in ("cpu", "mps"):
        return values.argmax(dim=0).to(_index_type(len(values)))
    best = values[0].clone()
    winner = torch.zeros(best.shape, dtype=_index_type(len(values)), device=values.device)
    for k in range(1, len(values)):
        wins = (values[k] > best).view(torch.uint8).to(winner.dtype)  # a view or, above 256 classes, a copy
        torch.maximum(best, values[k], out=best)
        # A later class has a higher index, so the maximum is the last class that exceeded all before it.
        torch.maximum(winner, wins.mul_(k), out=winner)
    return winner


def last_above(values: Tensor, threshold: float) -> Tensor:
    """1 + the last index along the first axis whose value exceeds ``threshold``, 0 where none does."""
    winner = torch.zeros(values.shape[1:], dtype=_index_type(len(values) + 1), device=values.device)
    for k, value in enumerate(values, start=1):
        winner.masked_fill_(value > threshold, k)
    return winner


def _index_type(count: int) -> torch.dtype:
    return torch.uint8 if count <= 256 else torch.int16


def entropy(mean: Tensor, scheme: LabelScheme) -> Tensor:
    """Entropy of probabilities (K, ...) divided by its maximum: 0 to 1. With regions the mean of their binary entropies."""
    if scheme.overlapping:
        both = torch.stack([mean, 1 - mean])
        return -_x_log_x(both).sum(dim=0).mean(dim=0) / math.log(2)
    return -_x_log_x(mean).sum(dim=0) / math.log(len(mean))


def _x_log_x(values: Tensor) -> Tensor:
    """x log x, 0 at 0."""
    product: Tensor = torch.special.xlogy(values, values)
    return product


def disagreement(folds: Tensor, mean: Tensor, scheme: LabelScheme) -> Tensor:
    """Share of the folds (F, K, ...) whose decision differs from that of their ``mean``."""
    ensemble = decide(mean, scheme)
    return torch.stack([decide(fold, scheme) != ensemble for fold in folds]).float().mean(dim=0)
