"""The convolution of one sample against PyTorch's own layers."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from unetrpp.networks.blocks import Convolution2d, Convolution3d
from unetrpp.networks.layout import to_channels_last

LAYERS = {2: (Convolution2d, nn.Conv2d), 3: (Convolution3d, nn.Conv3d)}


@given(
    dimensions=st.sampled_from([2, 3]),
    batch=st.sampled_from([1, 2]),
    kernel=st.sampled_from([1, 2, 3]),
    stride=st.sampled_from([1, 2]),
    bias=st.booleans(),
    channels_last=st.booleans(),
)
@settings(max_examples=25, deadline=None)
def test_value_and_gradients(dimensions, batch, kernel, stride, bias, channels_last):
    torch.manual_seed(0)
    kernels, strides, padding = ((n,) * dimensions for n in (kernel, stride, (kernel - 1) // 2))
    ours, torchs = (layer(3, 4, kernels, strides, padding, bias=bias) for layer in LAYERS[dimensions])
    torchs.load_state_dict(ours.state_dict())
    x = torch.randn(batch, 3, *(6, 7, 5)[:dimensions])
    x = (to_channels_last(x) if channels_last else x).requires_grad_()
    found, expected = ours(x), torchs.double()(x.double())
    weights = torch.randn_like(found)
    gradients = torch.autograd.grad((found * weights).sum(), [x, *ours.parameters()])
    exact = torch.autograd.grad((expected * weights).sum(), [x, *torchs.parameters()])
    torch.testing.assert_close(found.double(), expected, rtol=1e-4, atol=1e-4)
    for ours_, torchs_ in zip(gradients, exact, strict=True):
        torch.testing.assert_close(ours_.double(), torchs_.double(), rtol=1e-4, atol=1e-3)


@pytest.mark.skipif(not torch.backends.mkldnn.is_available(), reason="this PyTorch has no oneDNN")
@pytest.mark.parametrize(("batch", "expected"), [(1, True), (2, False)])
def test_one_sample_goes_through_onednn(batch, expected):
    with torch.profiler.profile() as profile:
        Convolution3d(2, 2, 3, padding=1)(torch.randn(batch, 2, 4, 4, 4))
    direct = not any(event.key == "aten::conv3d" for event in profile.key_averages())
    assert direct is expected
