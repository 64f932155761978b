"""The switch between CPU kernels and plain operators."""

import pytest
import torch

from unetrpp.networks.build import build_network
from unetrpp.networks.cpu_kernels.dispatch import plain_operators, takes_cpu_kernel
from unetrpp.networks.design import unetrpp_architecture

PATCH = (8, 16, 16)


def operators(network, x):
    """Names of the operators of one forward pass, from a trace that sees every call."""
    with torch.profiler.profile() as profile:
        network(x)
    return {event.key for event in profile.key_averages()}


def test_plain_operators_use_no_kernel_of_ours_and_agree():
    torch.manual_seed(0)
    network = build_network(unetrpp_architecture(1, 2, PATCH, [(2, 2, 2)] * 2, width=0.25, blocks=1)).eval()
    network.deep_supervision = False
    x = torch.randn(1, 1, *PATCH)
    ours = {"unetrpp::fused_norm", "unetrpp::chunked_attention"}
    with torch.no_grad():
        assert ours < operators(network, x)
        expected = network(x)
        with plain_operators():
            assert not any(name.startswith("unetrpp::") for name in operators(network, x))
            torch.testing.assert_close(network(x), expected, rtol=1e-4, atol=1e-4)
        assert ours < operators(network, x)


def test_the_switch_is_set_back_after_an_error():
    def fail():
        assert not takes_cpu_kernel(torch.zeros(1))
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError), plain_operators():
        fail()
    assert takes_cpu_kernel(torch.zeros(1))


def test_other_devices_take_plain_operators():
    assert not takes_cpu_kernel(torch.zeros(1, device="meta"))
