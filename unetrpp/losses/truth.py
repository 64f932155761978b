"""The target of a loss: which voxels count and which class or regions are true there."""

from dataclasses import dataclass

import torch
from torch import Tensor

from unetrpp.core.devices import to_device
from unetrpp.dataset.labels import LabelScheme


@dataclass(frozen=True)
class Truth:
    """A head's target for C outputs (classes, or regions that may overlap).

    ``index`` (B, *patch) int64 is the class, -1 where nothing is known; ``onehot`` (B, C, *patch) bool is true where
    the output should be 1; ``valid`` (B, 1, *patch) bool marks the voxels that count.
    """

    index: Tensor
    onehot: Tensor
    valid: Tensor


class TruthEncoder:
    """Training indices -> Truth, by a dataset's labels."""

    def __init__(self, labels: LabelScheme):
        self.ignore_index = labels.ignore_index
        self.table = torch.eye(len(labels.values), dtype=torch.bool)  # (outputs, classes)
        if labels.regions:
            members = [[i in region.members for i in range(len(labels.values))] for region in labels.regions]
            self.table = torch.tensor(members)

    def __call__(self, target: Tensor) -> Truth:
        """``target`` (B, *patch) holds training indices, the ignore index, or -1 outside the case.

        nnU-Net counts the padding around a case as background. Here it counts as nothing: no one annotated it, and the
        network sees a constant there.
        """
        target = target.long()
        valid = target >= 0
        if self.ignore_index is not None:
            valid &= target != self.ignore_index
        index = torch.where(valid, target, -1)
        if self.table.device != target.device:
            self.table = to_device(self.table, target.device)
        onehot = self.table[:, index.clamp(min=0)].transpose(0, 1) & valid[:, None]
        return Truth(index, onehot, valid[:, None])
