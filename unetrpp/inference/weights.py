"""Loading the trained networks of a model folder from its checkpoints."""

from collections.abc import Sequence

import torch
from torch import nn

from unetrpp.core.devices import memory_format
from unetrpp.core.errors import UserError
from unetrpp.model import checkpoint
from unetrpp.model.folder import Checkpoint, ModelFolder
from unetrpp.networks.build import build_network


def load_networks(model: ModelFolder, folds: Sequence[str], which: Checkpoint, device: torch.device) -> list[nn.Module]:
    """One network per fold; see :func:`load_network`."""
    return [load_network(model, fold, which, device) for fold in folds]


def load_network(model: ModelFolder, fold: str, which: Checkpoint, device: torch.device) -> nn.Module:
    """The network of one fold on ``device``, in evaluation mode, without gradients and without deep supervision.

    Nothing in it changes while it predicts, so several threads may call it at the same time.

    Raises:
        UserError: the checkpoint is damaged, has another format, or does not fit the fold's architecture.
    """
    path = model.checkpoint(fold, which)
    content = checkpoint.load(path, device)
    architecture = model.architecture(fold)
    if "network" not in content:
        raise UserError(f"{path} is a checkpoint without weights; copy the whole model folder again")
    network = build_network(architecture)
    try:
        network.load_state_dict(content["network"])
    except RuntimeError as error:
        reason = str(error).splitlines()[-1].strip()
        raise UserError(
            f"{path} does not fit its fold's architecture ({reason}); copy the whole model folder again"
        ) from None
    network.deep_supervision = False  # type: ignore[assignment]
    network.to(device, memory_format=memory_format(architecture.dimensions))  # type: ignore[call-overload]
    return network.eval().requires_grad_(False)
