"""Groups and steps of the optimiser against PyTorch's plain ones."""

import pytest
import torch

from tests.helpers.tiny import configuration
from unetrpp.networks.build import build_network
from unetrpp.trainers.config import TrainingConfig
from unetrpp.trainers.optimizer import build_optimizer, set_learning_rate


def config(**changed) -> TrainingConfig:
    return TrainingConfig(**({"fold": 0, "weight_decay": 0.1} | changed))


@pytest.mark.parametrize("name", ["sgd", "adamw"])
def test_steps_equal_the_plain_optimiser(name):
    torch.manual_seed(0)
    network, twin = (build_network(configuration().architecture) for _ in range(2))
    twin.load_state_dict(network.state_dict())
    ours = build_optimizer(network, config(optimizer=name, decay_everything=True))
    plain = (
        torch.optim.AdamW(twin.parameters(), lr=0.02, weight_decay=0.1, foreach=False)
        if name == "adamw"
        else torch.optim.SGD(twin.parameters(), lr=0.02, momentum=0.99, nesterov=True, weight_decay=0.1, foreach=False)
    )
    set_learning_rate(ours, 0.02)
    for step in range(3):
        for a, b in zip(network.parameters(), twin.parameters(), strict=True):
            a.grad = torch.full_like(a, 0.1 * (step + 1))
            b.grad = torch.full_like(b, 0.1 * (step + 1))
        ours.step()
        plain.step()
    for a, b in zip(network.parameters(), twin.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-6)


def test_norms_and_biases_do_not_decay_unless_everything_does():
    network = build_network(configuration().architecture)
    decays = {id(p): g["weight_decay"] for g in build_optimizer(network, config()).param_groups for p in g["params"]}
    assert len(decays) == len(list(network.parameters()))
    for parameter in network.parameters():
        assert decays[id(parameter)] == (0.1 if parameter.ndim > 1 else 0.0)
    (group,) = build_optimizer(network, config(decay_everything=True)).param_groups
    assert group["weight_decay"] == 0.1
