"""Computing devices (CUDA, MPS, CPU): choosing one, moving tensors to it and back, and what it supports."""

import copy
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch

from unetrpp.core.errors import UserError
from unetrpp.core.machine import usable_cores

KNOWN = ("cuda", "mps", "cpu")
ALLOCATOR_VARIABLES = ("PYTORCH_ALLOC_CONF", "PYTORCH_CUDA_ALLOC_CONF")  # torch reads the first from 2.9 on


def find_device(name: str) -> torch.device:
    """``auto`` takes CUDA, then MPS, then the CPU; anything else must be one of these and exist.

    Everything that computes asks here first, so this also limits the threads (:func:`limit_threads`).

    Raises:
        UserError: there is no such device on this machine.
    """
    limit_threads()
    _let_segments_grow()
    if name == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    if name.split(":")[0] not in KNOWN:
        raise UserError(f"device {name!r} is not one of auto, {', '.join(KNOWN)}, or a numbered one such as cuda:1")
    try:
        device = torch.device(name)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(f"device {name!r} cannot be used here ({reason}); use --device auto or cpu") from None
    return device


def limit_threads(processes: int = 1) -> None:
    """Let torch compute on the CPU with no more threads than there are cores for each of ``processes``.

    Torch itself starts one for every core of the machine, whatever the CPU quota of its container.
    """
    torch.set_num_threads(max(1, min(torch.get_num_threads(), usable_cores() // processes)))


def device_names(devices: str | Sequence[str]) -> list[str]:
    """The devices of ``--devices``: a list, or text with commas in which a number alone is that of a CUDA device.

    >>> device_names("0,1"), device_names(["cuda:0", "cpu"])
    (['cuda:0', 'cuda:1'], ['cuda:0', 'cpu'])

    Raises:
        UserError: one has no known name.
    """
    given = devices.split(",") if isinstance(devices, str) else devices
    names = [f"cuda:{name.strip()}" if name.strip().isdigit() else name.strip() for name in given]
    for name in names or [""]:
        if name.split(":")[0] not in KNOWN:
            raise UserError(f"devices has {name!r}; give devices such as cuda:0,cuda:1 or cpu,cpu, with commas")
    return names


def _let_segments_grow() -> None:
    """Set torch's CUDA allocator to segments that grow, unless the user has set the allocator up.

    A fixed segment that is a little too small for the next tensor stays unused; one that grows leaves no such gaps, so that
    what is reserved stays near what was planned. torch reads the variable when it first allocates on CUDA, so later
    calls, and calls without CUDA, have no effect. Only Linux supports it in all releases of torch from 2.5 on.
    """
    if sys.platform == "linux" and not any(name in os.environ for name in ALLOCATOR_VARIABLES):
        generic, older = ALLOCATOR_VARIABLES
        os.environ[generic if torch.__version__ >= "2.9" else older] = "expandable_segments:True"


def to_device(tensor: torch.Tensor, device: torch.device) -> torch.Tensor:
    """Copy a tensor from host memory to ``device``; on CUDA without waiting for the device.

    Copying without waiting needs pinned memory, which torch keeps until the copy is done. On MPS the source is not kept,
    so the host waits. A tensor that is on the device already is returned as it is.
    """
    if device.type == "cuda" and tensor.device.type == "cpu":
        tensor = tensor.pin_memory()  # itself, if it is pinned
    return tensor.to(device, non_blocking=device.type != "mps")


class HostCopy:
    """A copy of tensors in host memory. On CUDA it is made without waiting: :meth:`get` waits for it.

    Operations that follow on the same stream may change the tensors; the copy has the values of this moment.

    Args:
        content: a tensor, or dicts, lists and tuples of tensors and other values.

    >>> weight = torch.ones(2)
    >>> copied = HostCopy({"weight": weight, "step": 3})
    >>> weight.zero_().tolist(), copied.get()
    ([0.0, 0.0], {'weight': tensor([1., 1.]), 'step': 3})
    """

    def __init__(self, content: Any):
        self._content = _in_host_memory(content)
        devices = {tensor.device for tensor in _tensors(content) if tensor.is_cuda}
        self._copied = [current_event(device) for device in devices]

    def get(self) -> Any:
        """The copy, once it is complete."""
        for event in self._copied:
            event.synchronize()
        return self._content


def current_event(device: torch.device) -> torch.cuda.Event:
    """The end of all that the current stream of a CUDA device was given; a thread that waits for it leaves its core free."""
    event = torch.cuda.Event(blocking=True)
    event.record(torch.cuda.current_stream(device))
    return event


def _tensors(content: Any) -> Iterator[torch.Tensor]:
    if isinstance(content, torch.Tensor):
        yield content
    elif isinstance(content, dict | list | tuple):
        for each in content.values() if isinstance(content, dict) else content:
            yield from _tensors(each)


def _in_host_memory(content: Any) -> Any:
    """The same containers with copies of all tensors, which on CUDA may still be on their way into pinned memory."""
    if isinstance(content, torch.Tensor):
        tensor = content.detach()
        if tensor.is_cuda:
            return torch.empty_like(tensor, device="cpu", pin_memory=True).copy_(tensor, non_blocking=True)
        return tensor.clone() if tensor.device.type == "cpu" else tensor.cpu()
    if isinstance(content, dict):
        copied = copy.copy(content)  # a state dict has attributes, too
        copied.update({key: _in_host_memory(value) for key, value in content.items()})
        return copied
    if isinstance(content, list | tuple):
        return type(content)(_in_host_memory(each) for each in content)
    return content


def half_precision(device: torch.device) -> torch.dtype | None:
    """The half-precision type in which ``device`` trains faster than in float32; None if there is none.

    NVIDIA GPUs before compute capability 8.0 only emulate bfloat16, which is slow, and so do CPUs without Intel's matrix units (AMX).
    """
    if device.type == "cpu":
        capabilities: Mapping[str, object] = getattr(torch.cpu, "get_capabilities", dict)()  # torch 2.10 cannot tell
        return torch.bfloat16 if capabilities.get("amx_bf16") else None
    if device.type != "cuda":
        return None
    with torch.cuda.device(device):  # is_bf16_supported asks the current GPU
        return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float16


def try_kernels(device: torch.device) -> None:
    """Let cuDNN time its convolution kernels once per shape and keep the fastest, because all patches have one shape."""
    if device.type == "cuda":
        torch.backends.cudnn.benchmark = True


def is_out_of_memory(error: RuntimeError) -> bool:
    """Whether the device ran out of memory. CUDA's allocator has an exception type; MPS, the driver and cuDNN have a message."""
    messages = ("out of memory", "ALLOC_FAILED")
    return isinstance(error, torch.OutOfMemoryError) or any(message in str(error) for message in messages)


def memory_format(dimensions: int) -> torch.memory_format:
    """Channels last: convolutions are faster in it, and the tokens of attention are a view of the volume."""
    return torch.channels_last_3d if dimensions == 3 else torch.channels_last
