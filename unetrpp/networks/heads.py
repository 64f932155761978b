"""Segmentation heads: the pointwise convolutions that turn decoder features into logits."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from unetrpp.networks.blocks import pointwise
from unetrpp.plans.architecture import Architecture

HEAD_WEIGHT_SCALE = 0.1  # of the weights where biases are given, so that the first output is close to the biases


def segmentation_heads(architecture: Architecture) -> nn.ModuleList:
    """One head for every supervised level, full resolution first.

    With ``architecture.initial_logits`` the first output is close to these logits, those of each class's share of the
    voxels (arXiv 1708.02002, 4.1). A head with random biases calls most voxels foreground, and unlearning that in the first
    steps can silence features for good (docs/training.md).
    """
    levels, outputs = architecture.levels[: architecture.supervised_levels], architecture.out_channels
    heads = [pointwise(level.channels, outputs, architecture.dimensions, bias=True) for level in levels]
    if architecture.initial_logits:
        with torch.no_grad():
            for head in heads:
                head.weight.mul_(HEAD_WEIGHT_SCALE)
                if head.bias is not None:
                    head.bias.copy_(torch.tensor(architecture.initial_logits))
    return nn.ModuleList(heads)


def apply_heads(heads: nn.ModuleList, features: Sequence[Tensor], deep_supervision: bool) -> list[Tensor] | Tensor:
    """Logits of every head, or of the first alone without deep supervision.

    Args:
        features: the decoder's, full resolution first; levels without a head are left out.
    """
    if deep_supervision:
        return [head(feature) for head, feature in zip(heads, features, strict=False)]
    logits: Tensor = heads[0](features[0])
    return logits
