"""Focal gates and squeeze-and-excitation: gamma 0 is the identity, bounds, scales, learning and pruning."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from unetrpp.networks.design import unet_architecture
from unetrpp.networks.focal_module import OPEN, clamp_gammas, focal_modules
from unetrpp.networks.gates import AttentionGate, SqueezeExcitation, attention_gate, squeeze_excitation
from unetrpp.networks.layout import to_channels_last


def gate(gamma: float, stride=(1, 2, 2)) -> AttentionGate:
    torch.manual_seed(0)
    return AttentionGate(8, 12, stride, gamma)


def skip_and_signal(stride=(1, 2, 2), coarse=(3, 4, 5)):
    torch.manual_seed(1)
    size = [n * s for n, s in zip(coarse, stride, strict=True)]
    return torch.randn(2, 8, *size, requires_grad=True), torch.randn(2, 12, *coarse)


def test_gamma_zero_is_the_identity_bit_for_bit_and_is_skipped():
    skip, signal = skip_and_signal()
    module = gate(0.0)
    assert module(skip, signal) is skip
    assert SqueezeExcitation(8, 0.0)(skip) is skip
    assert not any(p.requires_grad for p in module.parameters())
    assert attention_gate(unet_architecture(1, 2, (8, 8, 8), [(2, 2, 2)]), 0)(skip, signal) is skip
    assert squeeze_excitation(8, None)(skip) is skip


@given(gamma=st.floats(0.01, 4), scale=st.floats(0.01, 1000))
@settings(max_examples=25, deadline=None)
def test_coefficients_are_a_power_of_a_sigmoid_of_fixed_scale(gamma, scale):
    skip, signal = skip_and_signal()
    module = gate(gamma).double()
    with torch.no_grad():
        skip, signal = scale * skip.double(), scale * signal.double()
        features = F.relu(module.of_skip(skip) + module.of_signal(signal)).movedim(1, -1)
        features = F.layer_norm(features, (4,))
        logits = features @ (module.weight[0] / module.weight[0].norm()) + module.bias
        expected = torch.sigmoid(logits)[:, None] ** gamma
        # The features are normalised, so no logit leaves [-2, 2] (root of the inner width) around the bias.
        assert float((logits - module.bias).abs().max()) <= 2.0
        torch.testing.assert_close(module.coefficients(skip, signal).double(), expected, rtol=1e-5, atol=1e-6)


def test_coefficients_equal_the_power_and_stay_finite_where_the_sigmoid_underflows():
    module = gate(2.0)
    with torch.no_grad():
        module.bias.fill_(-200.0)  # sigmoid is 0 in float32
    skip, signal = skip_and_signal()
    module(skip, signal).sum().backward()
    assert all(torch.isfinite(p.grad).all() for p in module.parameters() if p.grad is not None)


def test_the_skip_is_weighted_by_the_upsampled_map():
    skip, signal = skip_and_signal()
    module = gate(1.5)
    up = F.interpolate(module.coefficients(skip, signal), skip.shape[2:], mode="trilinear", align_corners=False)
    torch.testing.assert_close(module(skip, signal), skip * up)
    torch.testing.assert_close(module(to_channels_last(skip), to_channels_last(signal)), skip * up)


@torch.no_grad()
@pytest.mark.parametrize("gamma", [0.5, 1.0, 2.0])
def test_a_new_module_is_nearly_open(gamma):
    skip, signal = skip_and_signal()
    assert float(gate(gamma).coefficients(skip, signal).mean()) == pytest.approx(OPEN, abs=0.08)
    assert float(SqueezeExcitation(8, gamma).coefficients(skip).mean()) == pytest.approx(OPEN, abs=0.15)


def test_squeeze_excitation_is_its_formula_in_two_dimensions():
    module = SqueezeExcitation(16, 1.0).double()
    x = torch.randn(3, 16, 5, 7, dtype=torch.float64)
    hidden = F.relu(F.linear(x.mean((2, 3)), module.squeeze.weight, module.squeeze.bias))
    assert hidden.shape[1] == 4  # 16 / 8, but at least 4
    logits = F.layer_norm(hidden, (4,)) @ F.normalize(module.weight, dim=1).T + module.bias
    torch.testing.assert_close(module(x), x * torch.sigmoid(logits)[..., None, None], rtol=1e-5, atol=1e-6)


def test_gamma_grows_from_zero_and_is_kept_above_it():
    module = gate(1.0)
    assert not module.gamma.requires_grad
    module.learn(0.0)
    skip, signal = skip_and_signal()
    (module(skip, signal) * skip).sum().backward()  # a smaller output lowers this: gamma must rise
    assert float(module.gamma.grad) < 0
    with torch.no_grad():
        module.gamma.fill_(-0.3)
    clamp_gammas(torch.nn.Sequential(module))
    assert module.gamma.item() == 0.0
    assert module(skip, signal) is not skip  # learned: computed on

    module.fix(0.7)
    assert not module.gamma.requires_grad
    assert module.weight.requires_grad
    module.fix(0.0)
    assert module(skip, signal) is skip


def test_the_mean_replaces_the_pattern():
    module = gate(1.0)
    skip, signal = skip_and_signal()
    mean = module.coefficients(skip, signal).mean((1, 2, 3, 4), keepdim=True)
    module.averaged = True
    torch.testing.assert_close(module(skip, signal), skip * mean)


def test_focal_modules_are_found_by_name():
    network = torch.nn.ModuleDict({"a": gate(1.0), "b": torch.nn.Sequential(SqueezeExcitation(8, 0.5))})
    assert [name for name, _ in focal_modules(network)] == ["a", "b.0"]


def test_gradients_reach_every_parameter():
    skip, signal = skip_and_signal()
    for module, arguments in ((gate(1.0), (skip, signal)), (SqueezeExcitation(8, 1.0), (skip,))):
        module.learn(1.0)
        (module(*arguments) * torch.randn_like(skip)).sum().backward()
        assert all(p.grad is not None and p.grad.any() for p in module.parameters())
