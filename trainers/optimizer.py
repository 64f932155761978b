"""The optimiser that a training config describes; `schedule.py` has its learning rate."""

from typing import Any

import torch

from unetrpp.networks.parameters import parameter_groups
from unetrpp.trainers.config import TrainingConfig
from unetrpp.trainers.muon import Muon

NARROWEST = 8  # channels in and out of a matrix that Muon makes orthogonal
FUSED = ("cpu", "cuda")  # devices with fused optimisers


def build_optimizer(network: torch.nn.Module, config: TrainingConfig) -> torch.optim.Optimizer:
    """SGD with Nesterov momentum, AdamW, or Muon. docs/training.md says which parameters weight decay leaves out."""
    groups = parameter_groups(network, config.weight_decay)
    gammas = [group | {"rate": config.gamma_rate} for group in groups if group["name"] == "gammas"]
    others = [group for group in groups if group["name"] != "gammas"]
    if config.decay_everything:
        learned = {id(p) for group in gammas for p in group["params"]}
        everything = [p for p in network.parameters() if id(p) not in learned]
        others = [{"params": everything, "weight_decay": config.weight_decay}]
    groups = others + gammas
    # One kernel for all parameters instead of several for each: these networks have hundreds of small ones.
    fused = next(network.parameters()).device.type in FUSED
    rate, betas = config.learning_rate, (0.9, config.second_moment)
    if config.optimizer == "adamw":
        return torch.optim.AdamW(groups, lr=rate, betas=betas, fused=fused)
    if config.optimizer == "muon":
        return Muon(_with_matrices(groups), lr=rate, betas=betas, fused=fused)
    nesterov = config.momentum > 0
    optimizer = torch.optim.SGD(groups, lr=rate, momentum=config.momentum, nesterov=nesterov, fused=fused)
    if nesterov:
        # The fused step allocates momentum and leaves it unwritten where the first gradients are infinite (fp16).
        for parameter in (p for group in optimizer.param_groups for p in group["params"]):
            optimizer.state[parameter]["momentum_buffer"] = torch.zeros_like(parameter, requires_grad=False)
    return optimizer


def _with_matrices(groups: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Groups whose matrices are apart: not vectors, nor the first and last layers and depthwise kernels, which are thin."""
    found = []
    for group in groups:
        matrices = [p for p in group["params"] if p.ndim > 1 and min(p.shape[:2]) >= NARROWEST]
        others = [p for p in group["params"] if p.ndim <= 1 or min(p.shape[:2]) < NARROWEST]
        if group.get("name") != "gammas" and matrices:
            found += [group | {"params": matrices, "orthogonal": True}] + (
                [group | {"params": others}] if others else []
            )
        else:
            found.append(group)
    return found


def set_learning_rate(optimizer: torch.optim.Optimizer, learning_rate: float) -> None:
    """A group with a ``rate`` gets that multiple of ``learning_rate``."""
    for group in optimizer.param_groups:
        group["lr"] = learning_rate * group.get("rate", 1.0)
