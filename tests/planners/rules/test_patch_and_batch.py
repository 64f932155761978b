"""Budgets: the proxy in closed form, and the network's estimate against a full search."""

import pytest

from unetrpp.core.text import GIGABYTE
from unetrpp.networks.cost import estimate
from unetrpp.networks.design import unet_architecture
from unetrpp.networks.training_memory import training_memory
from unetrpp.planners.rules import patch_and_batch
from unetrpp.planners.rules.element_budget import feature_map_elements
from unetrpp.planners.rules.patch_and_batch import fit_by_cost, fit_by_proxy
from unetrpp.planners.rules.topology import Topology, candidates, pool

TOPOLOGY = Topology((8, 8, 8), ((2, 2, 2),), ((3, 3, 3), (3, 3, 3)))


def network(topology):
    return unet_architecture(1, 3, topology.patch, topology.strides, kernels=topology.kernels)


def test_feature_map_elements_in_closed_form():
    # Encoder: two maps of 32 x 512 and two of 64 x 64; decoder: two convolutions and the transposed one; three outputs.
    assert feature_map_elements(TOPOLOGY, 3) == 2 * 32 * 512 + 2 * 64 * 64 + 3 * 32 * 512 + 3 * 512


def test_a_requested_batch_shrinks_the_patch():
    topologies = list(candidates((1.0, 1.0, 1.0), (200, 200, 200), True))
    two, eight = (fit_by_proxy(topologies, 3, gpu_memory_gb=8.0, batch_size=batch) for batch in (None, 8))
    assert feature_map_elements(eight.topology, 3) < feature_map_elements(two.topology, 3) / 3
    assert eight.bytes_of(8) <= 8 * GIGABYTE


@pytest.mark.parametrize("gigabytes", [1.4, 2.2])
def test_the_largest_patch_that_fits_is_found_with_few_estimates(gigabytes, monkeypatch):
    topologies = list(candidates((2.0, 1.0, 1.0), (40, 96, 96), True))
    allowed = (gigabytes * 0.9 - 1) * GIGABYTE

    def fits(topology):
        return training_memory(network(topology)).of(2) <= allowed

    expected = next(topology for topology in topologies if fits(topology))
    calls = []

    def counted(architecture):
        calls.append(architecture)
        return training_memory(architecture)

    monkeypatch.setattr(patch_and_batch, "training_memory", counted)
    found = fit_by_cost(topologies, network, 3, gpu_memory_gb=gigabytes)
    assert found.topology == expected
    assert len(calls) <= 4


def test_bytes_agree_with_the_networks_own_estimate():
    architecture = network(pool((32, 32, 32), (1.0, 1.0, 1.0)))
    memory = training_memory(architecture)
    for batch in (2, 6):
        assert memory.of(batch) == pytest.approx(estimate(architecture, batch, "bf16").training_bytes, rel=0.1)
