"""The estimate against real steps: what malloc holds after a forward pass, and closed forms."""

import ctypes
import math

import pytest
import torch
from torch import nn

from unetrpp.networks.build import build_network
from unetrpp.networks.cost import FLOAT32, estimate, reference_loss, step_memory
from unetrpp.networks.design import unet_architecture, unetrpp_architecture

SMALL = {
    "unetrpp": unetrpp_architecture(1, 3, (32, 48, 32), [(2, 2, 2)] * 3),
    "unetrpp 2d": unetrpp_architecture(2, 3, (320, 320), [(2, 2)] * 5),
    "unet": unet_architecture(1, 3, (32, 48, 32), [(2, 2, 2)] * 3),
    "resunet": unet_architecture(2, 3, (32, 48, 32), [(2, 2, 2)] * 3, residual=True),
}


class Mallinfo(ctypes.Structure):
    names = ("arena", "ordblks", "smblks", "hblks", "hblkhd", "usmblks", "fsmblks", "uordblks", "fordblks", "keepcost")
    _fields_ = tuple((name, ctypes.c_size_t) for name in names)


def allocated() -> int:
    """Bytes that the C library holds for this process."""
    try:
        mallinfo = ctypes.CDLL("libc.so.6").mallinfo2
    except (OSError, AttributeError):
        pytest.skip("needs glibc 2.33 to ask malloc what it holds")
    mallinfo.restype = Mallinfo
    info = mallinfo()
    return info.uordblks + info.hblkhd


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("name", SMALL)
def test_kept_activations_are_those_of_a_real_step(name, precision):
    architecture = SMALL[name]
    torch.manual_seed(0)
    network = build_network(architecture)

    def forward():
        x = torch.randn(2, architecture.in_channels, *architecture.patch)
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
            outputs = network(x)
        return reference_loss(outputs)

    forward()  # whatever is allocated once
    before = allocated()
    loss = forward()
    kept = allocated() - before
    # Python objects of the graph come on top: two megabytes at most.
    assert kept == pytest.approx(estimate(architecture, 2, precision).activation_bytes, rel=0.02, abs=2 << 20)
    del loss


@pytest.mark.parametrize("name", SMALL)
def test_fake_and_real_tensors_agree_about_the_whole_step(name):
    architecture = SMALL[name]
    x = torch.randn(2, architecture.in_channels, *architecture.patch)
    real = step_memory(build_network(architecture), x, reference_loss)
    cost = estimate(architecture, 2)
    assert cost.activation_bytes == pytest.approx(real.kept, rel=1e-3)
    assert cost.activation_bytes + cost.temporary_bytes == pytest.approx(real.peak, rel=0.05)


def test_every_batch_follows_from_two_and_three():
    architecture = SMALL["unetrpp"]
    x = torch.randn(5, 1, *architecture.patch)
    direct = step_memory(build_network(architecture), x, reference_loss)
    cost = estimate(architecture, 5)
    assert cost.activation_bytes == pytest.approx(direct.kept, rel=1e-3)
    assert cost.activation_bytes + cost.temporary_bytes == pytest.approx(direct.peak, rel=0.02)


def test_weights_gradients_and_states():
    architecture = SMALL["unet"]
    sgd, adam = estimate(architecture, 2), estimate(architecture, 2, optimizer_states=2)
    parameters = sum(p.numel() for p in build_network(architecture).parameters())
    assert sgd.parameters == parameters
    assert adam.training_bytes - sgd.training_bytes == parameters * FLOAT32
    assert sgd.training_bytes == sgd.activation_bytes + sgd.temporary_bytes + 3 * parameters * FLOAT32
    assert sgd.patch_bound_parameters == 0


def test_multiply_adds_and_bound_parameters_in_closed_form():
    """Products of two convolutions; position embeddings and token projections of every level."""
    architecture = SMALL["unetrpp"]
    level, tokens = architecture.levels[-1], architecture.tokens()[-1]
    bound = estimate(architecture, 1).patch_bound_parameters
    per_level = [
        n
        * (
            lv.encoder_blocks * (lv.channels + lv.encoder_projection)
            + lv.decoder_blocks * (lv.channels + lv.decoder_projection)
        )
        for lv, n in zip(architecture.levels[1:], architecture.tokens()[1:], strict=True)
    ]
    assert bound == sum(per_level)
    assert per_level[-1] == tokens * 3 * (level.channels + level.encoder_projection)

    plain = unet_architecture(1, 2, (16, 16), [])
    convolutions = 9 * 1 * 32 + 9 * 32 * 32  # two convolutions at full resolution
    assert estimate(plain, 1).multiply_adds == math.prod((16, 16)) * (convolutions + 32 * 2)


def test_any_module_can_be_measured():
    network = nn.Sequential(nn.Linear(1000, 1000), nn.ReLU(), nn.Linear(1000, 1000))
    x = torch.randn(50, 1000)
    memory = step_memory(network, x, lambda outputs: outputs[0].sum())
    one = 50 * 1000 * FLOAT32
    assert memory.kept == pytest.approx(2 * one, rel=1e-3)  # the input, and the hidden layer after its activation
    assert memory.peak >= 3 * one
