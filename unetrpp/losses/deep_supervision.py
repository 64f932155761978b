"""Deep supervision: one loss over the outputs of several decoder levels, each against labels of its resolution.

Lee et al., "Deeply-Supervised Nets" (2015). The weights are those of nnU-Net 2.8.1, except that it also has a head at the
coarsest decoder level, with weight 0: our U-Nets have no head there (networks/design.py), which trains the same.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from unetrpp.losses.distance import BoundaryWeights
from unetrpp.losses.truth import TruthEncoder


def head_weights(heads: int) -> tuple[float, ...]:
    """Weights that halve from head to head and add up to 1.

    >>> head_weights(2)
    (0.6666666666666666, 0.3333333333333333)
    """
    total = sum(2.0**-i for i in range(heads))
    return tuple(2.0**-i / total for i in range(heads))


def downsample_labels(target: Tensor, stride: Sequence[int]) -> Tensor:
    """A view of every ``stride``-th voxel of labels (B, *patch).

    It takes the voxel after the centre of each cell, as ``interpolate(mode="nearest-exact")`` does.
    """
    return target[(slice(None), *(slice(s // 2, None, s) for s in stride))]


class DeepSupervision(nn.Module):
    """Weighted sum of ``losses[i]`` of output i against the labels at ``strides[i]``, computed in float32."""

    def __init__(self, losses: Sequence[nn.Module], strides: Sequence[Sequence[int]], encoder: TruthEncoder):
        super().__init__()
        self.losses = nn.ModuleList(losses)
        self.strides = [tuple(stride) for stride in strides]
        self.encoder = encoder
        self.weights = head_weights(len(self.strides))

    def forward(self, outputs: Sequence[Tensor], target: Tensor) -> Tensor:
        """``outputs``: logits (B, C, *patch_i), full resolution first; ``target``: (B, *patch) training indices.

        Raises:
            ValueError: the number of outputs is not that of the losses.
        """
        total = torch.zeros((), device=target.device)
        # Sums over a million voxels overflow in float16 and lose their tail in bfloat16.
        with torch.autocast(target.device.type, enabled=False):
            for weight, loss, stride, logits in zip(self.weights, self.losses, self.strides, outputs, strict=True):
                total = total + weight * loss(logits.float(), self.encoder(downsample_labels(target, stride)))
        return total

    def set_progress(self, share: float) -> None:
        """Pass the share of the training that is done (0 to 1) to the distance penalty, whose strength grows with it."""
        for module in self.modules():
            if isinstance(module, BoundaryWeights):
                module.progress = share
