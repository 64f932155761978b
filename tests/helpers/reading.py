"""What a reader makes of a file that may be damaged, and whether it mapped the file."""

import mmap

import numpy as np

from unetrpp.core.errors import UserError


def is_mapped(array: np.ndarray) -> bool:
    """Whether the array lies in a file that is mapped into memory."""
    base: object = array
    while isinstance(base, np.ndarray):
        base = base.base
    return isinstance(base, mmap.mmap)


def equal_or_refused(read, path, truth) -> bool:
    """Whether ``read`` refuses the file by its name; otherwise it must give ``truth``."""
    try:
        array, _ = read(path)
    except UserError as error:
        message = str(error)
    else:
        np.testing.assert_array_equal(array, truth)
        return False
    assert path.name in message
    return True
