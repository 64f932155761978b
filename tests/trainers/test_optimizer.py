"""Groups and steps of the optimiser against PyTorch's plain ones."""

import copy

import numpy as np
import pytest
import torch

from tests.helpers.tiny import configuration
from unetrpp.networks.build import build_network
from unetrpp.trainers.config import TrainingConfig
from unetrpp.trainers.muon import Muon, orthogonal_updates
from unetrpp.trainers.optimizer import build_optimizer, set_learning_rate


def config(**changed) -> TrainingConfig:
    return TrainingConfig(**({"fold": 0, "weight_decay": 0.1} | changed))


def twins() -> tuple[torch.nn.Module, torch.nn.Module]:
    """Two networks with the same weights."""
    torch.manual_seed(0)
    network, twin = (build_network(configuration().architecture) for _ in range(2))
    twin.load_state_dict(network.state_dict())
    return network, twin


@pytest.mark.parametrize("name", ["sgd", "adamw"])
def test_steps_equal_the_plain_optimiser(name):
    network, twin = twins()
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


def test_muon_gives_matrices_a_nearly_orthogonal_step_and_the_rest_those_of_adamw():
    """numpy's singular values of the update, and torch's AdamW."""
    network, twin = twins()
    ours = build_optimizer(network, config(optimizer="muon", learning_rate=0.02))
    plain = build_optimizer(twin, config(optimizer="adamw", learning_rate=0.02))
    before = {name: p.detach().clone() for name, p in network.named_parameters()}
    for a, b in zip(network.parameters(), twin.parameters(), strict=True):
        a.grad = torch.randn_like(a)
        b.grad = a.grad.clone()
    ours.step()
    plain.step()
    matrices = {id(p) for g in ours.param_groups if g["orthogonal"] for p in g["params"]}
    assert 0 < len(matrices) < len(before)
    for (name, p), other in zip(network.named_parameters(), twin.parameters(), strict=True):
        if id(p) not in matrices:
            torch.testing.assert_close(p, other)
            continue
        update = (before[name] * (1 - 0.02 * 0.1) - p.detach()).flatten(1).numpy() / 0.02
        values = np.linalg.svd(update / (0.2 * max(update.shape) ** 0.5), compute_uv=False)
        assert values.min() > 0.6, name
        assert values.max() < 1.3, name


def test_muon_steps_vectors_with_the_second_moment_of_the_recipe():
    network, twin = twins()
    ours = build_optimizer(network, config(optimizer="muon", second_moment=0.5))
    plain = build_optimizer(twin, config(optimizer="adamw", second_moment=0.5))
    for scale in (1.0, 5.0):  # the first step of Adam is the same with every second moment
        for a, b in zip(network.parameters(), twin.parameters(), strict=True):
            a.grad = scale * torch.ones_like(a)
            b.grad = a.grad.clone()
        ours.step()
        plain.step()
    others = [(p, q) for p, q in zip(network.parameters(), twin.parameters(), strict=True) if p.ndim == 1]
    assert others
    for p, q in others:
        torch.testing.assert_close(p, q)


def test_muon_follows_the_mean_of_the_gradients_and_resumes_exactly():
    """With one singular value the nearest orthogonal matrix is known: the outer product of its vectors."""
    left, right = np.linalg.qr(np.random.default_rng(0).normal(size=(12, 12)))[0][:, 0], np.eye(9)[0]
    weight = torch.nn.Parameter(torch.zeros(12, 9))
    muon = Muon([{"params": [weight], "orthogonal": True, "weight_decay": 0.0}], lr=1.0)
    weight.grad = torch.from_numpy(np.outer(left, right)).float()
    muon.step()
    step = weight.detach().numpy() / (0.2 * 12**0.5)
    assert np.linalg.svd(step, compute_uv=False)[1:].max() < 1e-5
    np.testing.assert_allclose(step / np.linalg.norm(step), -np.outer(left, right), atol=1e-5)
    twin = torch.nn.Parameter(weight.detach().clone())
    resumed = Muon([{"params": [twin], "orthogonal": True, "weight_decay": 0.0}], lr=1.0)
    resumed.load_state_dict(copy.deepcopy(muon.state_dict()))
    for optimizer, p in ((muon, weight), (resumed, twin)):
        p.grad = torch.arange(108.0).reshape(12, 9).sin()
        optimizer.step()
    assert torch.equal(weight, twin)


def test_muon_updates_weights_alike_in_any_layout_and_beside_others():
    """Each alone, in torch's usual layout, gives the same as all together with channels last, and the layout stays."""
    torch.manual_seed(0)
    shapes = [(8, 16, 3, 3, 3), (16, 8, 2, 2, 2), (32, 8), (8, 16, 3, 3, 3), (8, 40)]
    weights = [torch.randn(shape) for shape in shapes]
    given = [w.to(memory_format=torch.channels_last_3d) if w.ndim == 5 else w for w in weights]
    for weight, like, update in zip(weights, given, orthogonal_updates(given), strict=True):
        (alone,) = orthogonal_updates([weight])
        torch.testing.assert_close(update, alone)
        assert update.stride() == like.stride()


@pytest.mark.parametrize("name", ["sgd", "adamw", "muon"])
def test_a_scaled_step_with_an_infinite_gradient_changes_no_weight(name):
    """As of a loss in float16 that overflows: the scaler halves its scale, and training goes on."""
    network, twin = twins()
    optimizer, scaler = build_optimizer(network, config(optimizer=name)), torch.amp.GradScaler("cpu", init_scale=2.0)
    for infinite in (True, False):
        optimizer.zero_grad()
        loss = torch.stack([(p**2).sum() for p in network.parameters()]).sum()
        scaler.scale(loss).backward()
        first = next(network.parameters())
        assert first.grad is not None
        if infinite:
            first.grad.flatten()[0] = torch.inf
        scaler.unscale_(optimizer)
        torch.nn.utils.clip_grad_norm_(network.parameters(), 12.0)
        scaler.step(optimizer)
        scaler.update()
        same = all(torch.equal(a, b) for a, b in zip(network.parameters(), twin.parameters(), strict=True))
        assert same is infinite
        assert all(p.isfinite().all() for p in network.parameters())


def test_norms_and_biases_do_not_decay_unless_everything_does():
    network = build_network(configuration().architecture)
    decays = {id(p): g["weight_decay"] for g in build_optimizer(network, config()).param_groups for p in g["params"]}
    assert len(decays) == len(list(network.parameters()))
    for parameter in network.parameters():
        assert decays[id(parameter)] == (0.1 if parameter.ndim > 1 else 0.0)
    (group,) = build_optimizer(network, config(decay_everything=True)).param_groups
    assert group["weight_decay"] == 0.1
