"""Swapping left and right labels where a patch is mirrored: a mirrored left kidney is a right one."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from unetrpp.augmentation.mask import OUTSIDE_MASK
from unetrpp.core.devices import to_device
from unetrpp.dataset.labels import label_table, output_table
from unetrpp.plans.plans import Configuration


@dataclass(frozen=True)
class LabelSwap:
    """Which classes change places when ``axis`` of the patch is mirrored.

    Training index i becomes ``labels[i]`` (the ignore label included), and channel k of the network's output becomes
    ``outputs[k]``; both tables are their own inverse.
    """

    axis: int
    labels: tuple[int, ...]
    outputs: tuple[int, ...]
    first_stage: bool = False  # whether the input's last channel holds the training indices of a cascade's first stage

    def swap_labels(self, label: Tensor, axes: Sequence[int]) -> Tensor:
        """Training indices (..., -1 outside the case) of a patch that was mirrored along ``axes``, with sides swapped."""
        return relabelled(label, self.labels) if self.axis in axes else label

    def swap_input(self, image: Tensor, axes: Sequence[int]) -> Tensor:
        """Network input (C, Z, Y, X) of a patch that was mirrored along ``axes``; a first stage's labels are swapped."""
        if not self.first_stage or self.axis not in axes:
            return image
        return torch.cat([image[:-1], relabelled(image[-1:], self.labels)])

    def swap_logits(self, logits: Tensor, axes: Sequence[int]) -> Tensor:
        """Logits (..., K, Z, Y, X) of a patch that was mirrored along ``axes``, with the channels swapped."""
        if self.axis not in axes:
            return logits
        return torch.stack([logits[..., k, :, :, :] for k in self.outputs], dim=-4)


def relabelled(label: Tensor, table: Sequence[int]) -> Tensor:
    """``table[label]``; -1 (outside the case) and -2 (outside the mask, while augmenting) stay."""
    return to_device(torch.tensor([*table, OUTSIDE_MASK, -1], dtype=label.dtype), label.device)[label.long()]


def label_swap_of(configuration: Configuration) -> LabelSwap | None:
    """The swap that the plans ask for; None where mirroring changes no label."""
    if configuration.swap_axis is None:
        return None
    scheme = configuration.preprocessing.labels
    table = label_table(scheme, configuration.swapped_labels)
    first_stage = configuration.first_stage is not None
    return LabelSwap(configuration.swap_axis, table, output_table(scheme, table), first_stage)
