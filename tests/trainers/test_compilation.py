"""torch.compile is tried first, and leaves nothing behind where it fails."""

import pytest
import torch

from unetrpp.trainers.compilation import compile_network


@pytest.mark.parametrize("works", [True, False])
def test_the_trial_changes_nothing_and_a_failure_disables_compilation(monkeypatch, caplog, works):
    network = torch.nn.Sequential(torch.nn.Conv3d(1, 2, 1), torch.nn.BatchNorm3d(2))
    before = {name: value.clone() for name, value in network.state_dict().items()}
    calls = []

    def loss():
        calls.append(1)
        if not works:
            raise RuntimeError("no compiler\nlong story")
        return network.forward(torch.rand(2, 1, 4, 4, 4)).sum()

    monkeypatch.setattr(network, "compile", lambda: None)
    assert compile_network(network, loss) is works
    assert calls == [1]
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    assert all(p.grad is None for p in network.parameters())
    assert ("no compiler" in caplog.text) is not works
