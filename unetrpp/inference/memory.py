"""What prediction keeps on the device, by its free memory: the image, the blended logits and the parts that export works in."""

import torch

# Shares of the free memory: the image and the blended logits together take at most a half; forward passes need the rest.
SHARE = 1 / 2
IMAGE_SHARE = 1 / 8
PART_SHARE = 1 / 64  # interpolation to a much finer grid needs several times the part

PART_VALUES = 1 << 23  # float32 of a part where the memory is not known: temporary arrays of a CPU stay small


def free_memory(device: torch.device) -> int | None:
    """Bytes that tensors on ``device`` may still take, with what torch has reserved; None where it does not say (not CUDA)."""
    if device.type != "cuda":
        return None
    cached = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    return torch.cuda.mem_get_info(device)[0] + cached


def image_device(size: int, device: torch.device) -> torch.device:
    """Where an image of ``size`` bytes is kept for a network on ``device``: there, or in the host's memory."""
    free = free_memory(device)
    return device if free is None or size <= IMAGE_SHARE * free else torch.device("cpu")


def accumulator_kind(values: int, device: torch.device, taken: int = 0) -> tuple[torch.device, torch.dtype]:
    """Device and precision of ``values`` blended logits, of a network on ``device``, where the image has ``taken`` bytes already."""
    free = free_memory(device)
    return (device, torch.float32) if free is None else fitting(values, int(SHARE * (free + taken)) - taken, device)


def fitting(values: int, room: int, device: torch.device) -> tuple[torch.device, torch.dtype]:
    """float32 on ``device`` if that takes at most ``room`` bytes, else float16, else the host's memory.

    >>> fitting(1000, 4000, torch.device("cuda")), fitting(1000, 2000, torch.device("cuda"))
    ((device(type='cuda'), torch.float32), (device(type='cuda'), torch.float16))
    >>> fitting(1000, 1999, torch.device("cuda"))
    (device(type='cpu'), torch.float32)
    """
    for dtype in (torch.float32, torch.float16):
        if values * dtype.itemsize <= room:
            return device, dtype
    return torch.device("cpu"), torch.float32


def part_values(device: torch.device) -> int:
    """How many logits export processes at once: on a GPU as many as its memory allows, because each part launches as many kernels."""
    free = free_memory(device)
    return PART_VALUES if free is None else max(PART_VALUES, int(PART_SHARE * free) // torch.float32.itemsize)
