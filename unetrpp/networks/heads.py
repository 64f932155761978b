"""Segmentation heads: the 1^n convolutions that turn decoder features into logits."""

import torch
from torch import nn

from unetrpp.networks.blocks import pointwise
from unetrpp.plans.architecture import Architecture

HEAD_WEIGHT_SCALE = 0.1  # factor on the first weights of heads that start at given logits, so that their biases speak


def segmentation_heads(architecture: Architecture) -> nn.ModuleList:
    """One head for every supervised level; they start at ``architecture.initial_logits`` where there are some.

    A head that starts at random calls most voxels foreground. Unlearning that within the first steps can silence
    features for good (docs/training.md), so a fresh network says how rare the classes are: arXiv 1708.02002, 4.1.
    """
    levels, outputs = architecture.levels[: architecture.supervised_levels], architecture.out_channels
    heads = nn.ModuleList(pointwise(level.channels, outputs, architecture.dimensions, bias=True) for level in levels)
    if architecture.initial_logits:
        with torch.no_grad():
            for head in heads:
                head.weight.mul_(HEAD_WEIGHT_SCALE)  # type: ignore[operator]
                head.bias.copy_(torch.tensor(architecture.initial_logits))  # type: ignore[operator]
    return heads
