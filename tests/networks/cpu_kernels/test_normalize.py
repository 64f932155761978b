"""The fused norm against PyTorch's operators in float64, and its precision where theirs loses it."""

import copy

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from unetrpp.networks.cpu_kernels import normalize as module
from unetrpp.networks.cpu_kernels.normalize import fused_norm, normalize
from unetrpp.networks.layout import is_channels_last, to_channels_last

NORMS = {
    "instance": lambda dims, channels: (nn.InstanceNorm2d, nn.InstanceNorm3d)[dims - 2](channels),
    "affine": lambda dims, channels: (nn.InstanceNorm2d, nn.InstanceNorm3d)[dims - 2](channels, affine=True),
    "group": lambda dims, channels: nn.GroupNorm(2, channels),
    "layer": lambda dims, channels: nn.GroupNorm(1, channels, affine=False),
    "batch": lambda dims, channels: (nn.BatchNorm2d, nn.BatchNorm3d)[dims - 2](channels),
}


@given(
    kind=st.sampled_from(list(NORMS)),
    size=st.lists(st.integers(1, 5), min_size=2, max_size=3).filter(lambda size: max(size) > 1),
    batch=st.integers(1, 3),
    channels=st.sampled_from([2, 4, 6]),
    added=st.booleans(),
    slope=st.sampled_from([1.0, 0.01]),
)
@settings(max_examples=40, deadline=None)
def test_value_and_gradients(kind, size, batch, channels, added, slope):
    torch.manual_seed(0)
    norm = NORMS[kind](len(size), channels).double()
    for parameter in norm.parameters():
        nn.init.normal_(parameter)
    plain = copy.deepcopy(norm)
    x = to_channels_last(torch.randn(batch, channels, *size, dtype=torch.float64) + 3).requires_grad_()
    residual = to_channels_last(torch.randn_like(x)).requires_grad_() if added else None
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "PIECE", 16)  # several pieces, the last one incomplete
        found = normalize(norm, x, residual, slope)
        weights = torch.randn_like(found)
        inputs = [x, *norm.parameters(), *([residual] if residual is not None else [])]
        gradients = torch.autograd.grad((found * weights).sum(), inputs)
    expected = plain(x) if residual is None else plain(x) + residual
    expected = F.leaky_relu(expected, slope)
    inputs = [x, *plain.parameters(), *([residual] if residual is not None else [])]
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(gradients, torch.autograd.grad((expected * weights).sum(), inputs))


@pytest.mark.parametrize("kind", ["instance", "layer"])
def test_a_million_values_lose_no_digits(kind):
    x = to_channels_last(torch.randn(1, 4, 64, 64, 64) + 3)
    norm = NORMS[kind](3, 4)
    exact = norm(x.double().contiguous())
    found = normalize(norm, x)
    assert is_channels_last(found)
    assert float((found - exact).abs().max()) < 1e-5


def test_low_precision_is_normalised_in_float32():
    x = to_channels_last(torch.randn(1, 4, 8, 8, 8) * 5 + 100).bfloat16()
    found = normalize(nn.InstanceNorm3d(4), x, slope=0.01)
    assert found.dtype == torch.bfloat16
    expected = F.leaky_relu(F.instance_norm(x.double()), 0.01)
    torch.testing.assert_close(found.double(), expected, rtol=0.01, atol=0.01)


def test_other_layouts_take_the_plain_operators():
    x = torch.randn(1, 4, 3, 4, 5)
    torch.testing.assert_close(normalize(nn.InstanceNorm3d(4), x, x, 0.01), F.leaky_relu(F.instance_norm(x) + x, 0.01))


def test_the_registered_operator_passes_torchs_checks():
    x = to_channels_last(torch.randn(2, 4, 3, 2, 2)).requires_grad_()
    weight, bias = torch.ones(4, requires_grad=True), torch.zeros(4, requires_grad=True)
    tests = ("test_schema", "test_autograd_registration", "test_faketensor")
    torch.library.opcheck(fused_norm, (x, weight, bias, None, 4, 1e-5, 0.01), test_utils=tests)
    torch.library.opcheck(fused_norm, (x, None, None, x.detach(), 2, 1e-5, 1.0), test_utils=tests)
