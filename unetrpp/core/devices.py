"""Which device computes, and what is to be known about it."""

import torch

from unetrpp.core.errors import UserError

KNOWN = ("cuda", "mps", "cpu")


def find_device(name: str) -> torch.device:
    """``auto`` takes CUDA, then MPS, then the CPU; anything else must be one of these and exist.

    Raises:
        UserError: no such device here.
    """
    if name == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    if name.split(":")[0] not in KNOWN:
        raise UserError(f"device {name!r} is none of auto, {', '.join(KNOWN)}, or one by number such as cuda:1")
    try:
        device = torch.device(name)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(f"device {name!r} cannot be used here ({reason}); take --device auto or cpu") from None
    return device


def to_device(tensor: torch.Tensor, device: torch.device) -> torch.Tensor:
    """A tensor of the host's memory on ``device``; on CUDA without waiting for what the device does before.

    That takes pinned memory, which torch keeps until the copy is done. MPS does not keep what it copies from, so there
    the host waits.
    """
    if device.type == "cuda":
        tensor = tensor.pin_memory()
    return tensor.to(device, non_blocking=device.type != "mps")


def half_precision(device: torch.device) -> torch.dtype | None:
    """The half precision in which ``device`` is faster than in float32, None where no one knows of any.

    NVIDIA's GPUs before compute capability 8.0 only emulate bfloat16, slowly.
    """
    if device.type != "cuda":
        return None
    with torch.cuda.device(device):  # of several GPUs the current one is asked
        return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float16


def try_kernels(device: torch.device) -> None:
    """Let cuDNN time its convolutions once a shape and keep the fastest: patches have one shape."""
    if device.type == "cuda":
        torch.backends.cudnn.benchmark = True


def is_out_of_memory(error: RuntimeError) -> bool:
    """CUDA's allocator has a type for it; MPS, the driver and cuDNN say it in words."""
    said = ("out of memory", "ALLOC_FAILED")
    return isinstance(error, torch.OutOfMemoryError) or any(words in str(error) for words in said)


def memory_format(dimensions: int) -> torch.memory_format:
    """Channels last: convolutions run faster in it, and tokens are a view of the volume."""
    return torch.channels_last_3d if dimensions == 3 else torch.channels_last
