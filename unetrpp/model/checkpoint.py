"""Checkpoint files: state dicts, numbers and strings, written atomically and read without unpickling any code."""

from pathlib import Path
from typing import Any

import torch

from unetrpp.core.errors import UserError, limit_of
from unetrpp.core.files import write_atomically
from unetrpp.core.zips import require_stored

FORMAT = 1


def save(path: Path, content: dict[str, Any]) -> None:
    """Write ``content`` (state dicts, numbers, strings) together with the format number."""

    def write(temporary: Path) -> None:
        with temporary.open("wb") as file:  # into a path PyTorch would also write the name of the temporary file
            torch.save({"format": FORMAT, **content}, file)

    write_atomically(path, write)


def load(path: Path, device: torch.device) -> dict[str, Any]:
    """The content of a checkpoint, its tensors on ``device``.

    Raises:
        UserError: the file is damaged, compressed inside, holds more than tensors, numbers and strings, or has another format.
    """
    try:
        require_stored(path)
        content: dict[str, Any] = torch.load(path, map_location=device, weights_only=True)
    except UserError:
        raise
    except Exception as error:
        if limit_of(error) is not None:  # of memory or files: the checkpoint is not to blame
            raise
        raise UserError(
            f"{path} cannot be read as a checkpoint ({type(error).__name__}); copy it again, or delete it and train again"
        ) from error
    found = content.get("format") if isinstance(content, dict) else None
    if found != FORMAT:
        raise UserError(
            f"{path} has checkpoint format {found}, this release reads {FORMAT}; install the matching unetrpp"
        )
    return content
