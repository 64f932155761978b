"""CUDA graphs are tried and compared with the network as written. A GPU is not needed: torch's recorder is replaced."""

from contextlib import nullcontext

import pytest
import torch
from torch import nn

from tests.helpers.tiny import configuration
from unetrpp.networks.build import build_network
from unetrpp.trainers import trainer
from unetrpp.trainers.attention_trainer import AttentionTrainer
from unetrpp.trainers.distributed import Processes
from unetrpp.trainers.inputs import Machine
from unetrpp.trainers.recording import one_pass, record_network

IMAGES = torch.rand(2, 1, 8, 16, 16, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def network(monkeypatch):
    monkeypatch.setattr(torch.cuda, "device", lambda device: nullcontext())
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: None)
    torch.manual_seed(0)
    return build_network(configuration().architecture)


def uncached():
    return torch.autocast("cpu", enabled=False)


def recorder(change):
    """A stand-in for torch's: in training ``forward`` returns what ``change`` makes of the outputs."""

    def record(network, images, *, allow_unused_input):
        assert network.training
        assert allow_unused_input
        written = network.forward
        network.forward = lambda x: [change(y) for y in written(x)] if network.training else written(x)

    return record


def test_a_recording_that_computes_the_same_is_kept_and_nothing_else_changes(monkeypatch, network, caplog):
    shapes = []

    def noted(y):
        shapes.append(y.shape)
        return y

    monkeypatch.setattr(torch.cuda, "make_graphed_callables", recorder(noted))
    before = {name: value.clone() for name, value in network.state_dict().items()}
    assert record_network(network, IMAGES, uncached())
    assert shapes
    assert network.training
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    assert all(p.grad is None for p in network.parameters())
    assert not caplog.records


@pytest.mark.parametrize("change", [lambda y: y * 1.1, lambda y: y.detach() + 0 * y, torch.zeros_like])
def test_one_that_computes_something_else_is_dropped(monkeypatch, network, caplog, change):
    """Wrong outputs, right outputs without their gradients, and neither."""
    monkeypatch.setattr(torch.cuda, "make_graphed_callables", recorder(change))
    assert not record_network(network, IMAGES, uncached())
    assert "forward" not in vars(network)
    assert "CUDA graphs do not work here" in caplog.text


def test_a_failure_leaves_the_network_as_it_was(monkeypatch, network, caplog):
    def fails(*_, **__):
        raise RuntimeError("capture failed\nlong story")

    monkeypatch.setattr(torch.cuda, "make_graphed_callables", fails)
    expected = one_pass(network, IMAGES)
    assert not record_network(network, IMAGES, uncached())
    assert "(capture failed)" in caplog.text
    assert torch.equal(one_pass(network, IMAGES), expected)


def test_networks_of_other_packages_are_left_alone(monkeypatch):
    monkeypatch.setattr(torch.cuda, "make_graphed_callables", None)
    assert not record_network(nn.Conv3d(1, 2, 1), IMAGES, uncached())


@pytest.mark.parametrize(
    ("machine", "expected"),
    [
        (Machine(torch.device("cuda")), True),
        (Machine(torch.device("cuda"), compile=False), False),
        (Machine(torch.device("cuda"), processes=Processes(count=2)), False),
        (Machine(torch.device("cpu")), False),
    ],
)
def test_they_are_for_a_gpu_of_one_process(machine, expected):
    assert machine.records is expected


def test_a_network_that_is_pruned_during_its_training_is_not_recorded(monkeypatch):
    monkeypatch.setattr(trainer, "record_network", None)  # calling it would raise
    AttentionTrainer.record(object.__new__(AttentionTrainer))
