"""Arrays that may be larger than memory: above a size they lie in a file, whose pages the system reads and drops as it needs.

What is computed from them is the same. Files that are read are mapped as they are; new arrays get a temporary file, without a name
where the system allows that, in the folder of ``tempfile.gettempdir()``. Where that folder lies in memory itself, nothing is gained.
"""

import logging
import math
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import IO

import numpy as np
from numpy.typing import DTypeLike

LOG = logging.getLogger(__name__)

LARGE_BYTES = 1 << 29  # 512 x 512 x 512 voxels of float32 still are in memory


def new_array(shape: Sequence[int], dtype: DTypeLike) -> np.ndarray:
    """An array of ``shape`` whose values are not set, as ``np.empty`` gives it; above LARGE_BYTES in a temporary file.

    Where the folder of temporary files has no room for it, it is in memory, which is logged.
    """
    size = math.prod(shape) * np.dtype(dtype).itemsize
    if size > LARGE_BYTES:
        try:
            with tempfile.TemporaryFile() as file:
                _reserve(file, size)
                return np.memmap(file, dtype, "r+", shape=tuple(shape)).view(np.ndarray)
        except OSError as error:
            what = f"{size / 1e9:.1f} GB of an image stay in memory"
            LOG.info("%s: %s (%s); TMPDIR names another folder", what, tempfile.gettempdir(), error.strerror)
    return np.empty(shape, dtype)


def _reserve(file: IO[bytes], size: int) -> None:
    """Give a file its size, on the disk too where the system can: a full disk is an error here, and would end the process later."""
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(file.fileno(), 0, size)
    else:
        file.truncate(size)


def read_or_map(path: Path, start: int = 0, size: int | None = None) -> np.ndarray:
    """Bytes of a file from ``start`` on, fewer than ``size`` where it ends before; more than LARGE_BYTES are mapped.

    The array can be written to, which never changes the file.
    """
    available = max(path.stat().st_size - start, 0)
    count = available if size is None else min(size, available)
    if count > LARGE_BYTES:
        return np.memmap(path, np.uint8, "c", offset=start, shape=(count,)).view(np.ndarray)
    with path.open("rb") as stream:  # numpy leaves a file open where the system gives it no second descriptor
        return np.fromfile(stream, np.uint8, count, offset=start)


def as_float32(array: np.ndarray) -> np.ndarray:
    """The array itself where it is float32, else a copy."""
    if array.dtype == np.float32:
        return array
    copy = new_array(array.shape, np.float32)
    np.copyto(copy, array, casting="unsafe")
    return copy


def is_finite(array: np.ndarray) -> bool:
    """Whether no value of an array (C, Z, Y, X) is NaN or infinite; slice by slice, for a mask of all would take memory."""
    return all(np.isfinite(part).all() for channel in array for part in channel)
