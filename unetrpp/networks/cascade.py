"""The input of a cascade's second stage: the first stage's segmentation travels as one channel of class indices and
becomes one channel a foreground class where the network takes a patch, so that no volume is ever held as one-hot.
"""

import torch
from torch import Tensor, nn


def unfold_first_stage(patches: Tensor, classes: int) -> Tensor:
    """(B, C + 1, *patch), the segmentation's indices last -> (B, C + classes, *patch).

    The channels of the segmentation are 0 and 1; background and what lies outside the image are 0 in all of them.

    >>> unfold_first_stage(torch.tensor([[[0.5, 0.5, 0.5], [0.0, 2.0, 1.0]]]), 2)
    tensor([[[0.5000, 0.5000, 0.5000],
             [0.0000, 0.0000, 1.0000],
             [0.0000, 1.0000, 0.0000]]])
    """
    image, indices = patches[:, :-1], patches[:, -1:]
    foreground = torch.arange(1, classes + 1, device=indices.device, dtype=indices.dtype)
    one_hot = indices == foreground.view(-1, *(1,) * (indices.ndim - 2))
    return torch.cat([image, one_hot.to(image.dtype)], dim=1)


def unfold_first_stage_on_entry(network: nn.Module, classes: int) -> None:
    """Let ``network`` take the segmentation's indices and unfold them itself; its parameters keep their names."""

    def unfold(_: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        return (unfold_first_stage(inputs[0], classes), *inputs[1:])

    network.register_forward_pre_hook(unfold)
