"""Reading checkpoints that other programs wrote, without running any code of theirs."""

from pathlib import Path
from typing import Any

import numpy as np
import torch

from unetrpp.core.errors import UserError, limit_of
from unetrpp.core.zips import require_stored


def read_foreign(path: Path) -> Any:
    """The content of a checkpoint on the CPU. Only tensors, numbers, strings, devices and numpy scalars are unpickled.

    Raises:
        UserError: no such file, no checkpoint, or a checkpoint that holds other objects.
    """
    try:
        require_stored(path)
        with torch.serialization.safe_globals([*_numpy_scalars(), torch.device]):
            return torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise UserError(f"{path} does not exist; give the path of a checkpoint") from None
    except UserError:
        raise
    except Exception as error:  # an unpickler may raise anything on a damaged file
        if limit_of(error) is not None:  # of memory or files: the checkpoint is not to blame
            raise
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise UserError(f"{path} holds more than tensors and numbers, or is not a checkpoint: {reason}") from None


def _numpy_scalars() -> list[Any]:
    """The functions and types that a pickled numpy scalar names; numpy 1 and numpy 2 pickle them under different modules."""
    scalar = np.float64(0).__reduce__()[0]
    kinds = [np.bool_, np.int8, np.int16, np.int32, np.int64, np.uint8, np.uint16, np.uint32, np.uint64]
    dtypes = {type(np.dtype(kind)) for kind in [*kinds, np.float16, np.float32, np.float64]}
    makers = [
        (scalar, "numpy.core.multiarray.scalar"),
        (scalar, "numpy._core.multiarray.scalar"),
        (np.dtype, "numpy.dtype"),
    ]
    return [*makers, *dtypes]
