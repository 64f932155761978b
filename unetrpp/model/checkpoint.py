"""Checkpoints: tensors, numbers and strings only, written atomically, read with weights_only."""

from pathlib import Path
from typing import Any

import torch

from unetrpp.core.errors import UserError
from unetrpp.core.files import write_atomically

FORMAT = 1


def save(path: Path, content: dict[str, Any]) -> None:
    """Write ``content`` (state dicts, numbers, strings) with the format number."""
    write_atomically(path, lambda temporary: torch.save({"format": FORMAT, **content}, temporary))


def load(path: Path, device: torch.device) -> dict[str, Any]:
    """
    Raises:
        UserError: damaged, or of a newer format.
    """
    try:
        content = torch.load(path, map_location=device, weights_only=True)
    except Exception as error:
        raise UserError(
            f"{path} cannot be read as a checkpoint ({type(error).__name__}); copy it again, or delete it and train on"
        ) from error
    if content.get("format") != FORMAT:
        raise UserError(
            f"{path} has checkpoint format {content.get('format')}, this release reads {FORMAT}; install the matching unetrpp"
        )
    return content
