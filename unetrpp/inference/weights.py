"""Trained networks from the checkpoints of a model folder."""

from collections.abc import Sequence

import torch
from torch import nn

from unetrpp.core.devices import memory_format
from unetrpp.core.errors import UserError
from unetrpp.model import checkpoint
from unetrpp.model.folder import ModelFolder
from unetrpp.networks.build import build_network
from unetrpp.networks.cascade import unfold_first_stage_on_entry


def load_networks(model: ModelFolder, folds: Sequence[str], which: str, device: torch.device) -> list[nn.Module]:
    """One network a fold, in evaluation mode, with plain full-resolution output."""
    return [load_network(model, fold, which, device) for fold in folds]


def load_network(model: ModelFolder, fold: str, which: str, device: torch.device) -> nn.Module:
    """
    Raises:
        UserError: the checkpoint is damaged, of another format, or does not fit the plans.
    """
    path = model.checkpoint(fold, which)
    content = checkpoint.load(path, device)
    architecture = model.architecture(fold)
    network = build_network(architecture)
    try:
        network.load_state_dict(content["network"])
    except RuntimeError as error:
        reason = str(error).splitlines()[-1].strip()
        raise UserError(
            f"{path} does not fit its fold's architecture ({reason}); copy the model folder again from one training"
        ) from None
    if model.configuration.first_stage is not None:
        unfold_first_stage_on_entry(network, len(model.plans.labels.foreground))
    network.to(device, memory_format=memory_format(architecture.dimensions))  # type: ignore[call-overload]
    return network.eval().requires_grad_(False)
