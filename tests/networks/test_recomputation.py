"""Stages that are computed again in the backward pass: the same gradients and statistics, from less memory."""

import msgspec
import pytest
import torch

from unetrpp.networks.build import build_network
from unetrpp.networks.cost import estimate, reference_loss
from unetrpp.networks.design import unet_architecture, unetrpp_architecture, with_pooled_attention
from unetrpp.networks.drop_path import set_drop_path
from unetrpp.plans.architecture import Architecture

STRIDES = [(1, 2, 2), (2, 2, 2)]


def gated(architecture: Architecture) -> Architecture:
    """A gate and a squeeze-and-excitation at every level that may have one."""
    levels = [msgspec.structs.replace(level, gate=1.5, squeeze_excitation=0.7) for level in architecture.levels]
    levels[-1] = msgspec.structs.replace(levels[-1], gate=None)
    return msgspec.structs.replace(architecture, levels=tuple(levels))


RELEASED = unetrpp_architecture(1, 3, (8, 32, 32), STRIDES, width=0.5, norm="batch", dropout=0.1)
ARCHITECTURES = {
    "unetrpp": with_pooled_attention(unetrpp_architecture(1, 3, (8, 32, 32), STRIDES, width=0.5)),
    "unetrpp, as released": RELEASED,
    "unetrpp, gated": gated(with_pooled_attention(RELEASED)),
    "unetrpp, gates with batch norms": msgspec.structs.replace(gated(RELEASED), gates="focus"),
    "unetrpp, 2d": with_pooled_attention(unetrpp_architecture(2, 2, (64, 64), [(2, 2)] * 3, width=0.5)),
    "unet": unet_architecture(1, 3, (8, 32, 32), STRIDES, width=0.25),
    "unet, batch norms": msgspec.structs.replace(
        unet_architecture(1, 3, (8, 32, 32), STRIDES, width=0.25), norm="batch"
    ),
    "resunet": unet_architecture(1, 3, (8, 32, 32), STRIDES, width=0.25, residual=True),
    "resunet, 2d": unet_architecture(3, 2, (64, 64), [(2, 2)] * 3, width=0.25, residual=True),
}
DROPPED = ("unetrpp, as released", "unetrpp, gated", "resunet")  # also with drop path


def recomputing(architecture: Architecture) -> Architecture:
    return msgspec.structs.replace(architecture, checkpointing=True)


def trained(network, x, precision, steps=2):
    """Outputs and gradients of the last of some passes, statistics, and the next random number."""
    torch.manual_seed(1)
    for _ in range(steps):
        network.zero_grad(set_to_none=True)
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
            outputs = network(x)
        reference_loss(outputs).backward()
    gradients = {name: p.grad for name, p in network.named_parameters() if p.grad is not None}
    found = {f"output {i}": output.detach() for i, output in enumerate(outputs)} | gradients
    return found | dict(network.named_buffers()) | {"next": torch.rand(3)}


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("name", ARCHITECTURES)
def test_gradients_and_statistics_are_equal_bit_by_bit(name, precision):
    architecture = ARCHITECTURES[name]
    torch.manual_seed(0)
    plain, again = build_network(architecture), build_network(recomputing(architecture))
    again.load_state_dict(plain.state_dict())
    for network in (plain, again) if name in DROPPED else ():
        set_drop_path(network, 0.5)
    x = torch.randn(2, architecture.in_channels, *architecture.patch)
    expected, found = trained(plain, x, precision), trained(again, x, precision)
    assert expected.keys() == found.keys()
    assert [key for key, value in expected.items() if not torch.equal(found[key], value)] == []


@pytest.mark.parametrize("name", ["unetrpp, as released", "unet", "resunet"])
def test_a_step_needs_less_memory_and_one_more_forward_pass(name):
    plain, again = estimate(ARCHITECTURES[name], 2), estimate(recomputing(ARCHITECTURES[name]), 2)
    assert again.activation_bytes < 0.5 * plain.activation_bytes
    assert again.training_bytes < 0.8 * plain.training_bytes
    assert again.step_multiply_adds - plain.step_multiply_adds == plain.multiply_adds
