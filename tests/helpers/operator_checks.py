"""Operators that a step of every network dispatches under CUDA's autocast; tests/networks/test_operators.py runs this file.

Every operator that is not a view starts a kernel on a GPU. "python -m tests.helpers.operator_checks" prints the counts.
"""

from collections import Counter

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

from tests.helpers.second_device import Watch, register
from unetrpp.networks.build import build_network
from unetrpp.networks.design import unet_architecture
from unetrpp.networks.presets import PRESETS

GPU = register()
NO_KERNEL = {"aten._unsafe_view", "aten.empty", "aten.new_empty", "aten.new_empty_strided", "prim.device"}
PATCH, STRIDES = (64, 128, 128), [(1, 2, 2), *[(2, 2, 2)] * 4]
NETWORKS = {
    **PRESETS,
    "unet": unet_architecture(1, 3, PATCH, STRIDES),
    "resunet": unet_architecture(1, 3, PATCH, STRIDES, residual=True),
}
# The most operators and casts of the forward pass, and of the backward pass: those counted here, and 2%.
LIMITS = {
    "synapse": (1341, 379, 2320, 506),
    "acdc": (1662, 486, 2641, 635),
    "tumor": (1148, 272, 2020, 399),
    "lung": (1662, 486, 2641, 635),
    "unet": (214, 65, 282, 63),
    "resunet": (511, 89, 578, 87),
}


class Operators(TorchDispatchMode):
    """Counts the operators that start a kernel; "casts" are those that only change the type."""

    def __init__(self) -> None:
        super().__init__()
        self.counts: Counter[str] = Counter()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if not func.is_view and func._schema.name.replace("::", ".") not in NO_KERNEL:
            self.counts["all"] += 1
            self.counts["casts"] += func is torch.ops.aten._to_copy.default and "dtype" in (kwargs or {})
        return func(*args, **(kwargs or {}))


def count(name: str) -> list[int]:
    """Operators and casts of the forward pass, then those of the backward pass, at batch 2 in bfloat16."""
    architecture = NETWORKS[name]
    with FakeTensorMode(allow_non_fake_inputs=True) as mode, Watch(mode):
        network = build_network(architecture).to(GPU)
        image = torch.zeros(2, architecture.in_channels, *architecture.patch, device=GPU)
        with torch.autocast(GPU.type, torch.bfloat16), Operators() as forward:
            outputs = network(image)
        gradients = [torch.zeros_like(y) for y in outputs]
        with Operators() as backward:
            torch.autograd.backward(outputs, gradients)
    return [passed.counts[kind] for passed in (forward, backward) for kind in ("all", "casts")]


@pytest.mark.parametrize("name", list(NETWORKS))
def test_a_step_dispatches_few_operators(name):
    for counted, limit in zip(count(name), LIMITS[name], strict=True):
        assert 0.9 * limit < counted <= limit  # update the limits when a network needs fewer


if __name__ == "__main__":
    print("network     forward   casts  backward   casts")
    for each in NETWORKS:
        print(f"{each:10s} {'{:8d}{:8d}{:10d}{:8d}'.format(*count(each))}", flush=True)
