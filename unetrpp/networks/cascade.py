"""The input of a cascade's second stage: the first stage's segmentation travels as one channel of class indices and
becomes one channel a foreground class where the network takes a patch, so that no volume is ever held as one-hot.
"""

import torch
from torch import Tensor, nn


def one_hot(indices: Tensor, classes: int) -> Tensor:
    """Channels (B, classes, *patch) of 0 and 1 from indices (B, 1, *patch); background and outside are 0 everywhere.

    >>> one_hot(torch.tensor([0.0, 2.0, -1.0, 1.0]).view(1, 1, 4), 2)
    tensor([[[0., 0., 0., 1.],
             [0., 1., 0., 0.]]])
    """
    foreground = torch.arange(1, classes + 1, device=indices.device, dtype=indices.dtype)
    return (indices == foreground.view(-1, *(1,) * (indices.ndim - 2))).to(indices.dtype)


def take_previous(network: nn.Module, classes: int) -> None:
    """Let ``network``, which has one input channel a foreground class behind the image's, take their indices instead.

    Its parameters and their names stay as they are.
    """

    def unfold(_: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        patch, *rest = inputs
        return (torch.cat([patch[:, :-1], one_hot(patch[:, -1:], classes)], dim=1), *rest)

    network.register_forward_pre_hook(unfold)
