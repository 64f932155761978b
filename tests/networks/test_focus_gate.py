"""The gate of the authors' code against a straight reading of its description, and in a network."""

import math

import msgspec
import numpy as np
import pytest
import torch
from scipy import ndimage
from scipy.special import expit

from unetrpp.networks.build import build_network
from unetrpp.networks.design import unet_architecture
from unetrpp.networks.focal_module import clamp_gammas
from unetrpp.networks.focus_gate import FocusGate, odd_kernel
from unetrpp.networks.gates import modules_by_place


def numpy_of(tensor):
    return tensor.detach().double().numpy()


def pointwise(layer, x):
    """A 1 x 1 convolution of (C, *size)."""
    weight = numpy_of(layer.weight).reshape(layer.weight.shape[:2])
    out = np.tensordot(weight, x, 1)
    return out if layer.bias is None else out + numpy_of(layer.bias).reshape(-1, *(1,) * (x.ndim - 1))


def evaluated_norm(norm, x):
    shape = (-1, *(1,) * (x.ndim - 1))
    mean, variance, weight, bias = (
        numpy_of(t).reshape(shape) for t in (norm.running_mean, norm.running_var, norm.weight, norm.bias)
    )
    return (x - mean) / np.sqrt(variance + 1e-3) * weight + bias


def by_description(gate, skip, signal, stride):
    """One sample, (C, *size) and (G, *coarse), step by step with numpy and scipy."""
    signal = evaluated_norm(gate.signal_norm, np.maximum(pointwise(gate.signal, signal), 0))
    strided = skip[(slice(None), *(slice(None, None, s) for s in stride))]
    act = np.maximum(pointwise(gate.of_skip, strided) + pointwise(gate.of_signal, signal), 0)
    means = act.reshape(len(act), -1).mean(1)
    channel = expit(ndimage.correlate1d(means, numpy_of(gate.channel_attention.weight)[0, 0], mode="constant"))
    kernel = numpy_of(gate.spatial_attention.weight)[0, 0]
    spatial = expit(ndimage.correlate(act.mean(0), kernel, mode="constant"))
    weights = channel.reshape(-1, *(1,) * len(stride)) * spatial
    weights = np.clip(weights, 1e-7, 1) ** gate.gamma.item()
    for axis, factor in enumerate(stride, 1):
        weights = np.repeat(weights, factor, axis)
    return evaluated_norm(gate.out_norm, pointwise(gate.out, weights * skip))


@pytest.mark.parametrize("stride", [(2, 2), (1, 2, 2), (2, 2, 2)])
@pytest.mark.parametrize("gamma", [0.4, 1.0, 2.5])
def test_it_is_what_the_description_says(stride, gamma):
    torch.manual_seed(0)
    coarse = (4, 5, 6)[-len(stride) :]
    gate = FocusGate(16, 24, stride, size=coarse, gamma=gamma).double()
    for parameter in gate.parameters():
        if parameter.ndim:
            torch.nn.init.normal_(parameter, std=0.5)
    skip = torch.randn(2, 16, *(n * s for n, s in zip(coarse, stride, strict=True)), dtype=torch.float64)
    signal = torch.randn(2, 24, *coarse, dtype=torch.float64)
    gate(skip, signal)  # moves the running statistics of the norms
    found = gate.eval()(skip, signal)
    for b in range(2):
        expected = by_description(gate, skip[b].numpy(), signal[b].numpy(), stride)
        np.testing.assert_allclose(found[b].detach(), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("n", range(2, 300))
def test_kernels_are_odd_and_follow_the_formula(n):
    expected = int(abs(math.log2(n / 2) + 0.5))
    assert odd_kernel(n) % 2 == 1
    assert odd_kernel(n) - expected in (0, 1)


def test_gamma_is_learned_from_the_plans_value_and_kept_at_0_or_above():
    gate = FocusGate(8, 8, (2, 2, 2), size=(4, 4, 4), gamma=1.0)
    skip, signal = torch.randn(2, 8, 8, 8, 8), torch.randn(2, 8, 4, 4, 4)
    gate(skip, signal).square().sum().backward()
    assert gate.gamma.requires_grad
    assert float(gate.gamma.grad.abs()) > 0
    with torch.no_grad():
        gate.gamma.fill_(-0.5)
    clamp_gammas(gate)
    assert gate.gamma.item() == 0
    gate.fix(0)
    assert gate(skip, signal) is skip


def test_the_architecture_chooses_the_form_and_resuming_finds_the_gates_by_place():
    made = unet_architecture(1, 2, (8, 16, 16), [(1, 2, 2), (2, 2, 2)], width=0.25).with_focal(
        {"gate@0": 1.0, "se@1": 1.0}
    )
    made = msgspec.structs.replace(made, gates="focus")
    network = build_network(made)
    places = modules_by_place(network, made)
    assert isinstance(places["gate@0"], FocusGate)
    assert list(places) == ["gate@0", "se@1"]
    assert places["gate@0"].spatial_attention.kernel_size == tuple(odd_kernel(n) for n in (8, 8, 8))
    output = network(torch.randn(2, 1, 8, 16, 16))[0]
    output.square().mean().backward()
    assert all(p.grad is not None for p in places["gate@0"].parameters())
