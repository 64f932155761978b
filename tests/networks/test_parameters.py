"""Weight decay: every trainable parameter is in exactly one group."""

import msgspec
import torch

from unetrpp.networks.build import build_network
from unetrpp.networks.design import unetrpp_architecture
from unetrpp.networks.focal_module import focal_modules
from unetrpp.networks.parameters import parameter_groups


def network():
    architecture = unetrpp_architecture(2, 3, (16, 16, 16), [(2, 2, 2)] * 2, width=0.25)
    levels = list(architecture.levels)
    levels[0] = msgspec.structs.replace(levels[0], gate=1.0)
    levels[1] = msgspec.structs.replace(levels[1], squeeze_excitation=0.5, gate=0.0)
    return build_network(msgspec.structs.replace(architecture, levels=tuple(levels)))


def test_weights_decay_and_the_rest_does_not():
    made = network()
    for _, module in focal_modules(made):
        if not module.off:
            module.learn(1.0)
    groups = {group["name"]: group for group in parameter_groups(made, 0.01)}
    assert {name: group["weight_decay"] for name, group in groups.items()} == {
        "weights": 0.01,
        "undecayed": 0.0,
        "gammas": 0.0,
    }
    names = {id(p): name for name, p in made.named_parameters()}
    undecayed = {names[id(p)].rpartition(".")[2] for p in groups["undecayed"]["params"]}
    assert undecayed == {"weight", "bias", "gamma", "position", "channel_temperature", "spatial_temperature"}
    decayed = [names[id(p)] for p in groups["weights"]["params"]]
    assert all(p.ndim > 1 for p in groups["weights"]["params"])
    assert any("project_keys.weight" in name for name in decayed)
    assert len(groups["gammas"]["params"]) == 2  # the gate with gamma 0 is off and frozen
    members = [id(p) for group in groups.values() for p in group["params"]]
    assert len(members) == len(set(members))
    assert set(members) == {id(p) for p in made.parameters() if p.requires_grad}


def test_a_plain_module_has_two_groups():
    groups = parameter_groups(torch.nn.Conv2d(2, 3, 3), 0.1)
    assert [group["name"] for group in groups] == ["weights", "undecayed"]
