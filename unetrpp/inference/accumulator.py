"""On which device and in which precision blended logits are kept, by the free memory of the device."""

import torch

SHARE = 0.5  # of the free memory at most; forward passes and export need the rest


def accumulator_kind(values: int, device: torch.device) -> tuple[torch.device, torch.dtype]:
    """Device and precision for ``values`` numbers, with a network on ``device``. Only CUDA reports its free memory."""
    if device.type != "cuda":
        return device, torch.float32
    cached = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    return fitting(values, torch.cuda.mem_get_info(device)[0] + cached, device)


def fitting(values: int, free: int, device: torch.device) -> tuple[torch.device, torch.dtype]:
    """float32 on ``device`` if that takes at most half of its ``free`` bytes, else float16, else the host's memory.

    >>> fitting(1000, 8000, torch.device("cuda")), fitting(1000, 4000, torch.device("cuda"))
    ((device(type='cuda'), torch.float32), (device(type='cuda'), torch.float16))
    >>> fitting(1000, 3999, torch.device("cuda"))
    (device(type='cpu'), torch.float32)
    """
    for dtype in (torch.float32, torch.float16):
        if values * dtype.itemsize <= SHARE * free:
            return device, dtype
    return torch.device("cpu"), torch.float32
