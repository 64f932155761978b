"""The target of a loss: which voxels count, and which class or regions are true there."""

from dataclasses import dataclass

import torch
from torch import Tensor

from unetrpp.core.devices import to_device
from unetrpp.dataset.labels import LabelScheme


@dataclass(frozen=True)
class Truth:
    """The target of one head with C outputs (classes, or regions that may overlap).

    ``index`` (B, *patch) int64 is the class, -1 where it is unknown; ``onehot`` (B, C, *patch) bool is true where the
    output should be 1; ``valid`` (B, 1, *patch) bool is true at the voxels that count.
    """

    index: Tensor
    onehot: Tensor
    valid: Tensor


class TruthEncoder:
    """Makes the Truth of training indices, for the labels of a dataset."""

    def __init__(self, labels: LabelScheme):
        self.labels = labels
        self.table = torch.from_numpy(labels.membership())  # (outputs, classes)

    def __call__(self, target: Tensor) -> Truth:
        """``target`` (B, *patch) holds training indices, the ignore index, or -1 outside the case.

        nnU-Net counts the padding around a case as background. Here it does not count, for no one annotated it, and the
        network sees a constant there; with ``padding="background"`` the trainer has made it background (trainers/step.py).
        """
        target = target.long()
        valid = self.labels.known(target)
        index = torch.where(valid, target, -1)
        if self.table.device != target.device:
            self.table = to_device(self.table, target.device)
        onehot = self.table[:, index.clamp(min=0)].transpose(0, 1) & valid[:, None]
        return Truth(index, onehot, valid[:, None])
