"""Which device computes."""

import torch

from unetrpp.errors import UserError

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


def memory_format(dimensions: int) -> torch.memory_format:
    """Channels last: convolutions run faster in it, and tokens are a view of the volume."""
    return torch.channels_last_3d if dimensions == 3 else torch.channels_last
