"""Devices by name."""

import os
import subprocess
import sys
from contextlib import nullcontext

import pytest
import torch

from unetrpp.core.devices import (
    ALLOCATOR_VARIABLES,
    HostCopy,
    device_names,
    find_device,
    half_precision,
    is_out_of_memory,
    to_device,
    try_kernels,
)
from unetrpp.core.errors import UserError

CPU = torch.device("cpu")


def test_an_unknown_device_is_refused():
    with pytest.raises(UserError, match="device 'tpu' is not one of auto, cuda, mps, cpu"):
        find_device("tpu")


def test_auto_finds_one():
    assert find_device("auto").type in ("cuda", "mps", "cpu")


@pytest.mark.parametrize("devices", ["", [], "cuda:0,,cuda:1", "auto", "cpu,gpu"])
def test_lists_of_devices_that_are_refused(devices):
    with pytest.raises(UserError, match=r"devices has '.*'; give devices such as cuda:0,cuda:1"):
        device_names(devices)


READ = "print(repr(torch._C._accelerator_getAllocatorSettings()))"
FIND = "import torch; from unetrpp.core.devices import find_device; find_device('auto'); "


@pytest.mark.skipif(sys.platform != "linux", reason="set on Linux alone")
@pytest.mark.skipif(not hasattr(torch._C, "_accelerator_getAllocatorSettings"), reason="this torch does not tell")
@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, "expandable_segments:True"),
        ({"PYTORCH_ALLOC_CONF": "max_split_size_mb:100"}, "max_split_size_mb:100"),
        ({"PYTORCH_CUDA_ALLOC_CONF": "max_split_size_mb:100"}, "max_split_size_mb:100"),
    ],
)
def test_segments_of_cuda_memory_grow_unless_the_user_has_decided(given, expected):
    """torch itself says what it has read, in a new process because it reads once."""
    environment = {name: value for name, value in os.environ.items() if name not in ALLOCATOR_VARIABLES} | given
    done = subprocess.run(
        [sys.executable, "-c", FIND + READ], env=environment, capture_output=True, text=True, timeout=100
    )
    assert done.stdout.strip() == repr(expected), done.stderr


@pytest.mark.skipif(sys.platform != "linux", reason="set on Linux alone")
def test_segments_are_set_before_cuda_is_first_used(monkeypatch):
    for name in ALLOCATOR_VARIABLES:
        monkeypatch.delenv(name, raising=False)
    seen: list[str | None] = []
    monkeypatch.setattr(
        "torch.empty", lambda *_, **__: seen.extend(os.environ.get(name) for name in ALLOCATOR_VARIABLES)
    )
    assert find_device("cuda:0") == torch.device("cuda:0")
    assert "expandable_segments:True" in seen


def test_on_the_cpu_nothing_is_copied():
    tensor = torch.arange(3)
    assert to_device(tensor, CPU) is tensor


@pytest.mark.parametrize(
    ("message", "kind", "expected"),
    [
        ("CUDA out of memory. Tried to allocate 20.00 MiB", torch.OutOfMemoryError, True),
        ("MPS backend out of memory (MPS allocated: 5.05 GB)", RuntimeError, True),
        ("cuDNN error: CUDNN_STATUS_ALLOC_FAILED", RuntimeError, True),
        ("shapes do not match", RuntimeError, False),
    ],
)
def test_all_forms_of_out_of_memory_are_recognised(message, kind, expected):
    assert is_out_of_memory(kind(message)) is expected


@pytest.mark.parametrize(("capability", "expected"), [(7, torch.float16), (8, torch.bfloat16), (12, torch.bfloat16)])
def test_emulated_bfloat16_is_not_chosen(monkeypatch, capability, expected):
    """A Tesla T4 (7.5) reports support of bfloat16, which it emulates."""
    asked = []

    def current(device):
        asked.append(device)
        return nullcontext()

    monkeypatch.setattr(torch.cuda, "device", current)
    monkeypatch.setattr(
        torch.cuda, "is_bf16_supported", lambda including_emulation=True: including_emulation or capability >= 8
    )
    assert half_precision(torch.device("cuda:1")) is expected
    assert asked == [torch.device("cuda:1")]


@pytest.mark.parametrize(
    ("capabilities", "expected"),
    [({"amx_bf16": True, "avx512_bf16": True}, torch.bfloat16), ({"avx512_bf16": True}, None), ({"neon": True}, None)],
)
def test_a_cpu_needs_matrix_units_for_bfloat16(monkeypatch, capabilities, expected):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities, raising=False)
    assert half_precision(torch.device("cpu")) is expected


def test_a_torch_that_cannot_tell_trains_in_float32_on_a_cpu(monkeypatch):
    monkeypatch.delattr(torch.cpu, "get_capabilities", raising=False)
    assert half_precision(torch.device("cpu")) is None


def test_an_apple_gpu_has_no_half_precision():
    assert half_precision(torch.device("mps")) is None


def test_cudnn_times_its_kernels_for_cuda_only(monkeypatch):
    monkeypatch.setattr(torch.backends.cudnn, "benchmark", False)
    try_kernels(CPU)
    assert not torch.backends.cudnn.benchmark
    try_kernels(torch.device("cuda"))
    assert torch.backends.cudnn.benchmark


class OnGpu(torch.Tensor):
    """A tensor that says it is on a GPU, and that counts as copied back only once the event after it has passed."""

    is_cuda = property(lambda self: True)


def on_gpu(*values: float) -> torch.Tensor:
    return torch.Tensor._make_subclass(OnGpu, torch.tensor(values))


def test_a_host_copy_on_cuda_is_pinned_and_waited_for_when_it_is_read(monkeypatch):
    log: list[str] = []

    class Event:
        def __init__(self, blocking):
            assert blocking  # the waiting thread leaves its core to others

        def record(self, stream):
            log.append(f"event after {len([line for line in log if line == 'copy'])} copies in {stream}")

        def synchronize(self):
            log.append("wait")

    def empty_like(tensor, *, device, pin_memory):
        assert device == "cpu"
        assert pin_memory
        return Pinned(torch.zeros(tensor.shape))

    class Pinned:
        def __init__(self, memory):
            self.memory = memory

        def copy_(self, tensor, *, non_blocking):
            assert non_blocking
            log.append("copy")
            return self.memory.copy_(tensor.as_subclass(torch.Tensor))

    monkeypatch.setattr(torch, "empty_like", empty_like)
    monkeypatch.setattr(torch.cuda, "Event", Event)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: "the current stream")
    copied = HostCopy({"network": {"a": on_gpu(1, 2)}, "optimizer": [on_gpu(3), torch.ones(1)], "step": 4})
    assert log == ["copy", "copy", "event after 2 copies in the current stream"]
    content = copied.get()
    assert log[3:] == ["wait"]
    assert content["network"]["a"].tolist() == [1, 2]
    assert [each.tolist() for each in content["optimizer"]] == [[3], [1]]
    assert content["step"] == 4


def test_a_host_copy_keeps_the_values_of_its_moment():
    network = torch.nn.Conv3d(2, 2, 3)
    network.weight.data = network.weight.data.contiguous(memory_format=torch.channels_last_3d)
    state = network.state_dict()
    copied, before = HostCopy({"network": state, "losses": (losses := [0.5])}), network.weight.detach().clone()
    with torch.no_grad():
        network.weight.zero_()
    losses.append(1.0)
    found = copied.get()
    assert torch.equal(found["network"]["weight"], before)
    assert found["network"]["weight"].stride() == network.weight.stride()
    assert type(found["network"]) is type(state)
    assert vars(found["network"]) == vars(state)  # the versions of the modules
    assert found["losses"] == [0.5]
