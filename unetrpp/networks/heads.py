"""Segmentation heads: the pointwise convolutions that turn decoder features into logits."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from unetrpp.networks.blocks import pointwise
from unetrpp.plans.architecture import Architecture

HEAD_WEIGHT_SCALE = 0.1  # of the weights where biases are given, so that the first output is close to the biases


def segmentation_heads(architecture: Architecture) -> nn.ModuleList:
    """One head for every supervised level, full resolution first."""
    levels, outputs = architecture.levels[: architecture.supervised_levels], architecture.out_channels
    return nn.ModuleList(pointwise(level.channels, outputs, architecture.dimensions, bias=True) for level in levels)


@torch.no_grad()
def initialise_heads(heads: nn.ModuleList, initial_logits: Sequence[float]) -> None:
    """Let the first output be close to these logits, those of each class's share of the voxels (arXiv 1708.02002, 4.1).

    Without any, the heads stay random. A head with random biases calls most voxels foreground, and unlearning that in the
    first steps can silence features for good (docs/experiments.md).
    """
    if not initial_logits:
        return
    for head in heads:
        weight, bias = head.parameters()
        weight.mul_(HEAD_WEIGHT_SCALE)
        bias.copy_(torch.tensor(initial_logits))


def apply_heads(heads: nn.ModuleList, features: Sequence[Tensor], deep_supervision: bool) -> list[Tensor] | Tensor:
    """Logits of every head, or of the first alone without deep supervision.

    Args:
        features: the decoder's, full resolution first; levels without a head are left out.
    """
    if deep_supervision:
        return [head(feature) for head, feature in zip(heads, features, strict=False)]
    logits: Tensor = heads[0](features[0])
    return logits
