"""The published variants: parameter counts exactly, multiply-adds as torch counts them."""

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.reference_unetrpp import ReferenceUNETRPP
from unetrpp.core.errors import UserError
from unetrpp.networks.cost import estimate
from unetrpp.networks.presets import PRESETS, preset

PARAMETERS = {"synapse": 42_952_850, "acdc": 66_796_404, "tumor": 42_647_604, "lung": 121_174_798}
GFLOP = {"synapse": 94.937, "acdc": 86.824, "tumor": 145.586, "lung": 249.965}


@pytest.mark.parametrize("name", PRESETS)
def test_parameters_and_multiply_adds(name):
    cost = estimate(preset(name), 1)
    assert cost.parameters == PARAMETERS[name]
    assert 2e-9 * cost.multiply_adds == pytest.approx(GFLOP[name], rel=1e-4)


def test_the_reference_network_of_the_benchmark_costs_the_same():
    with FakeTensorMode(), torch.no_grad(), FlopCounterMode(display=False) as counter:
        network = ReferenceUNETRPP(preset("acdc")).eval()
        network(torch.empty(1, 1, 16, 160, 160))
    assert sum(p.numel() for p in network.parameters()) == PARAMETERS["acdc"]
    assert counter.get_total_flops() / 1e9 == pytest.approx(GFLOP["acdc"], rel=1e-4)


def test_an_unknown_preset():
    with pytest.raises(UserError, match="synapse, acdc, tumor, lung"):
        preset("heart")
