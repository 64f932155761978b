"""Parameter groups of an optimiser: which parameters of a network have weight decay."""

from typing import Any

from torch import nn

from unetrpp.networks.focal_module import focal_modules

UNDECAYED = {"position", "channel_temperature", "spatial_temperature"}  # last parts of names


def parameter_groups(network: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Groups for an optimiser: the weights; norms, biases, layer scales, temperatures and positions without decay; and
    the learned focal gammas, so that they can have a learning rate of their own.

    Every group carries a ``name``; empty groups and frozen parameters are left out. The released recipe decays all
    parameters: ``decay_everything`` of a training configuration gives the optimiser ``network.parameters()`` instead.
    """
    gammas = {id(module.gamma) for _, module in focal_modules(network)}
    groups: dict[str, list[nn.Parameter]] = {"weights": [], "undecayed": [], "gammas": []}
    for name, parameter in network.named_parameters():
        if not parameter.requires_grad:
            continue
        if id(parameter) in gammas:
            groups["gammas"].append(parameter)
        elif parameter.ndim <= 1 or name.rpartition(".")[2] in UNDECAYED:
            groups["undecayed"].append(parameter)
        else:
            groups["weights"].append(parameter)
    decay = {"weights": weight_decay, "undecayed": 0.0, "gammas": 0.0}
    return [{"name": k, "params": members, "weight_decay": decay[k]} for k, members in groups.items() if members]
