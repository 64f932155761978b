"""Where blended logits are kept and in which precision, by the memory that the device has left."""

import torch

SHARE = 0.5  # of the free memory, at most: forward passes and export need the rest


def accumulator_kind(values: int, device: torch.device) -> tuple[torch.device, torch.dtype]:
    """For ``values`` numbers beside a network on ``device``. Only CUDA says how much memory is left."""
    if device.type != "cuda":
        return device, torch.float32
    held = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    return fitting(values, torch.cuda.mem_get_info(device)[0] + held, device)


def fitting(values: int, free: int, device: torch.device) -> tuple[torch.device, torch.dtype]:
    """The first of float32 and float16 on ``device`` that leaves half of its ``free`` bytes, else the host's memory.

    >>> fitting(1000, 8000, torch.device("cuda")), fitting(1000, 4000, torch.device("cuda"))
    ((device(type='cuda'), torch.float32), (device(type='cuda'), torch.float16))
    >>> fitting(1000, 3999, torch.device("cuda"))
    (device(type='cpu'), torch.float32)
    """
    for dtype in (torch.float32, torch.float16):
        if values * dtype.itemsize <= SHARE * free:
            return device, dtype
    return torch.device("cpu"), torch.float32
