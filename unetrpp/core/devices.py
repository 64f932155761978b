"""Computing devices (CUDA, MPS, CPU): choosing one, moving tensors to it, and what it supports."""

import os
import sys
from collections.abc import Sequence

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
    so the host waits.
    """
    if device.type == "cuda":
        tensor = tensor.pin_memory()
    return tensor.to(device, non_blocking=device.type != "mps")


def half_precision(device: torch.device) -> torch.dtype | None:
    """The half-precision type in which ``device`` is faster than in float32; None if there is none.

    NVIDIA GPUs before compute capability 8.0 only emulate bfloat16, which is slow.
    """
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
