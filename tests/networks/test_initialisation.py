"""Fresh weights: of the presets against the distributions of the released code, of U-Nets against nnU-Net's own networks.

``tests/helpers/nnunet_start.py`` made tests/data/nnunet_start.json with nnU-Net 2.8.1. Where UNETRPP_NNUNET_PYTHON names the
Python of an environment with it, the file is also compared with what that nnU-Net gives.
"""

import json
import math
import os
import subprocess
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from tests.helpers import nnunet_start
from unetrpp.networks.blocks import ResidualBlock
from unetrpp.networks.build import build_network
from unetrpp.networks.design import unet_architecture
from unetrpp.networks.presets import PRESETS, preset

SIGMAS = 5  # of a mean or a standard deviation, by which it may miss what it estimates
GOLDEN = json.loads((Path(__file__).parents[1] / "data" / "nnunet_start.json").read_text())
NNUNET = os.environ.get("UNETRPP_NNUNET_PYTHON")


def agree(found: tuple[float, float, float], mean: float, std: float) -> bool:
    """Whether number, mean and std of values agree with those of a distribution that is at most as long-tailed as a normal one."""
    count, found_mean, found_std = found
    return (
        abs(found_mean - mean) <= SIGMAS * std / math.sqrt(count) + 1e-6 * abs(mean)  # constants are rounded to float32
        and abs(found_std - std) <= SIGMAS * std / math.sqrt(2 * count) + 2 * std / count
    )


def of(tensor: Tensor) -> tuple[float, float, float]:
    return tensor.numel(), tensor.mean().item(), tensor.std(correction=0).item()


def released_distribution(name: str, module: nn.Module, parameter: Tensor) -> tuple[float, float]:
    """Mean and standard deviation of a parameter of the released networks, from the released code's initialisers.

    PyTorch's default is uniform within 1 / sqrt(fan-in) for weight and bias, which has a standard deviation of
    1 / sqrt(3 fan-in). The encoder's linears are normal with 0.02, and ``EF`` is uniform within 1 / sqrt(P).
    """
    last = name.rpartition(".")[2]
    if isinstance(module, nn.Conv3d | nn.ConvTranspose3d):
        return 0.0, 1 / math.sqrt(3 * module.weight[0].numel())
    if isinstance(module, nn.Linear) and name.endswith("project_keys.weight") and module.bias is None:
        return 0.0, 1 / math.sqrt(3 * module.out_features)
    if isinstance(module, nn.Linear) and name.startswith("encoder."):
        return 0.0, 0.02 if last == "weight" else 0.0
    if isinstance(module, nn.Linear):
        return 0.0, 1 / math.sqrt(3 * module.in_features)
    constants = {"position": 0.0, "gamma": 1e-6, "channel_temperature": 1.0, "spatial_temperature": 1.0}
    return constants.get(last, 1.0 if last == "weight" else 0.0), 0.0  # of norms otherwise


@pytest.mark.parametrize("name", PRESETS)
def test_presets_start_as_released(name):
    torch.manual_seed(0)
    network = build_network(preset(name))
    modules = dict(network.named_modules())
    wrong = []
    for parameter_name, parameter in network.named_parameters():
        module = modules[parameter_name.rpartition(".")[0]]
        mean, std = released_distribution(parameter_name, module, parameter)
        if not agree(of(parameter.detach()), mean, std):
            wrong.append((parameter_name, of(parameter.detach()), (mean, std)))
    assert wrong == []


def test_the_tokens_parameter_of_preset_tumor():
    """The figures of the released code: 0.072, and 0.102 in the last stage of the encoder."""
    torch.manual_seed(0)
    network = build_network(preset("tumor"))
    stds = [stage.blocks[0].attention.project_keys.weight.std().item() for stage in network.encoder]
    assert stds == pytest.approx([0.072, 0.072, 0.072, 0.102], rel=0.02)


def ours(name: str) -> nn.Module:
    """The network of the same design as ``nnunet_start.theirs``."""
    kind, dimensions = name.split()[0], int(name.split()[1][0])
    strides = [(2,) * dimensions] * (len(nnunet_start.WIDTHS[dimensions]) - 1)
    patch = nnunet_start.PATCHES[dimensions]
    return build_network(unet_architecture(1, 3, patch, strides, residual=kind == "resunet"))


def statistics(network: nn.Module) -> dict[str, list[float]]:
    last = {id(module.norm2) for module in network.modules() if isinstance(module, ResidualBlock)}
    found = nnunet_start.pooled(
        network, last if any("stem" in name for name, _ in network.named_parameters()) else set()
    )
    return {key: value for key, value in found.items() if value[0]}


@pytest.mark.parametrize("name", nnunet_start.NETWORKS)
def test_unets_start_as_nnunets(name):
    torch.manual_seed(1)
    found, expected = statistics(ours(name)), GOLDEN[name]
    # Convolutions of our residual blocks have no bias: theirs is 0 and has no effect before a norm.
    biases = {key for key in expected if key.startswith("bias")}
    assert found.keys() - biases == expected.keys() - biases
    assert all(found[key][1:] == [0.0, 0.0] == expected[key][1:] for key in biases & found.keys())
    weights = found.keys() - biases
    assert [key for key in weights if found[key][0] != expected[key][0]] == []
    # Both are samples, so their difference is larger by the square root of 2 than that of one from its distribution.
    assert [key for key in weights if not agree(_half(found[key]), *expected[key][1:])] == []


def _half(found: list[float]) -> tuple[float, float, float]:
    return found[0] / 2, found[1], found[2]


@pytest.mark.skipif(
    NNUNET is None, reason="needs UNETRPP_NNUNET_PYTHON, the Python of an environment with nnunetv2 2.8.1"
)
def test_the_golden_file_is_nnunets():
    made = subprocess.run([str(NNUNET), nnunet_start.__file__], check=True, capture_output=True, text=True).stdout
    numbers = json.loads(made)
    assert {name: list(each) for name, each in numbers.items()} == {name: list(each) for name, each in GOLDEN.items()}
    for name, each in numbers.items():
        assert [key for key in each if not agree(_half(each[key]), *GOLDEN[name][key][1:])] == []
