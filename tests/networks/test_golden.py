"""Parity with the released networks: heads, intermediates and gradients at fixed places (tests/helpers/golden.py).

Every test runs twice: with the CPU kernels, and on the plain PyTorch operators that a GPU takes.
"""

from contextlib import nullcontext

import msgspec
import numpy as np
import pytest
import torch
from torch import Tensor, nn

from tests.helpers import golden
from unetrpp.networks.build import build_network
from unetrpp.networks.cpu_kernels.dispatch import plain_operators
from unetrpp.networks.presets import preset
from unetrpp.networks.released import convert_state, official_name

# The released modules whose outputs are in the golden files, and ours.
PLACES = {
    "unetr_pp_encoder.downsample_layers.0": "encoder.0.downsample",
    "unetr_pp_encoder.stages.0.0.epa_block": "encoder.0.blocks.0.attention",
    "unetr_pp_encoder.stages.0.0": "encoder.0.blocks.0",
    "unetr_pp_encoder.stages.0": "encoder.0",
    "unetr_pp_encoder.stages.1": "encoder.1",
    "unetr_pp_encoder.stages.2": "encoder.2",
    "unetr_pp_encoder.stages.3.0.epa_block": "encoder.3.blocks.0.attention",
    "unetr_pp_encoder.stages.3": "encoder.3",
    "encoder1": "entry",
    "decoder5.transp_conv": "decoder.3.upsample",
    "decoder5": "decoder.3",
    "decoder4": "decoder.2",
    "decoder3": "decoder.1",
    "decoder2": "decoder.0",
}
MINIS = ["synapse_mini", "acdc_mini", "tumor_mini"]


@pytest.fixture(params=["cpu kernels", "plain operators"], autouse=True)
def _branch(request):
    with plain_operators() if request.param == "plain operators" else nullcontext():
        yield


def network(numbers: golden.Golden, dtype: torch.dtype) -> nn.Module:
    published = preset(numbers.variant.removesuffix("_mini"))
    architecture = msgspec.structs.replace(published, patch=numbers.input_shape[2:])
    theirs = {name: torch.from_numpy(value) for name, value in golden.state(numbers).items()}
    ours = build_network(architecture)
    ours.load_state_dict(convert_state(theirs, architecture))
    return ours.to(dtype).eval()


def assert_close(found: Tensor | None, numbers: golden.TensorSample | None, tolerance: float) -> None:
    assert found is not None
    assert numbers is not None
    values = found.detach().contiguous().flatten()[numbers.flat_indices].double().numpy()
    assert tuple(found.shape) == numbers.shape
    np.testing.assert_allclose(values, numbers.values, rtol=0, atol=tolerance * numbers.absmax)


def record(module: nn.Module, names: list[str]) -> dict[str, Tensor]:
    """Outputs of the named released modules, filled when the network runs."""
    outputs: dict[str, Tensor] = {}
    for name in names:
        module.get_submodule(PLACES[name]).register_forward_hook(
            lambda _m, _i, y, name=name: outputs.__setitem__(name, y)
        )
    return outputs


@pytest.mark.parametrize("name", MINIS)
def test_heads_intermediates_and_gradients_in_float64(name):
    numbers = golden.read(name)
    ours = network(numbers, torch.float64)
    outputs = record(ours, list(numbers.intermediates))
    x = torch.from_numpy(golden.network_input(numbers)).double().requires_grad_()
    heads = ours(x)
    for head, expected in zip(heads, numbers.heads.values(), strict=True):
        assert_close(head, expected, 1e-7)
    for place, expected in numbers.intermediates.items():
        assert_close(outputs[place], expected, 1e-7)

    loss = sum(weight / 7 * (head**2).mean() for weight, head in zip((4, 2, 1), heads, strict=True))
    assert loss.item() == pytest.approx(numbers.loss_value, rel=1e-6)
    loss.backward()
    assert_close(x.grad, numbers.grad_input, 1e-6)
    found = {official_name(k, projection_of(name)): p.grad for k, p in ours.named_parameters()}
    assert set(found) == set(numbers.gradient_norm_and_sum)
    for parameter, (norm, total) in numbers.gradient_norm_and_sum.items():
        gradient = found[parameter]
        assert gradient is not None
        assert float(gradient.norm()) == pytest.approx(norm, rel=1e-6), parameter
        # A sum may cancel; its scale is the norm times the root of the count.
        scale = norm * gradient.numel() ** 0.5
        assert float(gradient.sum()) == pytest.approx(total, rel=1e-6, abs=1e-7 * scale), parameter


def projection_of(name: str) -> str:
    return preset(name.removesuffix("_mini")).projection


@pytest.mark.parametrize(("name", "tolerance"), [*((mini, 5e-3) for mini in MINIS), ("synapse", 5e-4)])
def test_heads_and_intermediates_in_float32(name, tolerance):
    numbers = golden.read(name)
    ours = network(numbers, torch.float32)
    outputs = record(ours, list(numbers.intermediates))
    with torch.no_grad():
        heads = ours(torch.from_numpy(golden.network_input(numbers)))
    for head, expected in zip(heads, numbers.heads.values(), strict=True):
        assert_close(head, expected, tolerance)
    for place, expected in numbers.intermediates.items():
        assert_close(outputs[place], expected, tolerance)


def test_full_size_in_float64():
    numbers = golden.read("synapse")
    ours = network(numbers, torch.float64)
    outputs = record(ours, list(numbers.intermediates))
    with torch.no_grad():
        heads = ours(torch.from_numpy(golden.network_input(numbers)).double())
    for head, expected in zip(heads, numbers.heads.values(), strict=True):
        assert_close(head, expected, 1e-7)
    for place, expected in numbers.intermediates.items():
        assert_close(outputs[place], expected, 1e-7)
