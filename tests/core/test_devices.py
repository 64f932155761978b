"""Devices by name."""

from contextlib import nullcontext

import pytest
import torch

from unetrpp.core.devices import device_names, find_device, half_precision, is_out_of_memory, to_device, try_kernels
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


@pytest.mark.parametrize("name", ["cpu", "mps"])
def test_other_devices_have_no_half_precision(name):
    assert half_precision(torch.device(name)) is None


def test_cudnn_times_its_kernels_for_cuda_only(monkeypatch):
    monkeypatch.setattr(torch.backends.cudnn, "benchmark", False)
    try_kernels(CPU)
    assert not torch.backends.cudnn.benchmark
    try_kernels(torch.device("cuda"))
    assert torch.backends.cudnn.benchmark
