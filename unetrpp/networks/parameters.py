"""Which parameters of a network decay."""

from typing import Any

from torch import nn

from unetrpp.networks.gates import focal_modules

UNDECAYED = {"position", "channel_temperature", "spatial_temperature"}


def parameter_groups(network: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Groups for an optimiser: weights; norms, biases, layer scales, temperatures and positions without decay; and
    the focal gammas that are learned, a group of their own so that they can have a rate of their own.

    Groups carry a ``name``; empty and frozen ones are left out. The released recipe decays everything: pass
    ``network.parameters()`` to the optimiser instead.
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
