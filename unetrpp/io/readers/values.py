"""What all readers do to values: exact whole numbers or float32, no complex ones, and no alpha channel."""

import re
from pathlib import Path

import numpy as np

from unetrpp.core.errors import UserError
from unetrpp.core.large_arrays import as_float32
from unetrpp.io.readers.content import shown

DECIMAL = re.compile(rb"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")  # float() also takes 6_5, which ITK reads as 6
EXACT_FLOAT32, EXACT_FLOAT64 = 1 << 24, 1 << 53  # below which all whole numbers are floats, and nothing rounds to one


def exact(path: Path, array: np.ndarray) -> np.ndarray:
    """Whole numbers in the machine's byte order as they are, all others as float32.

    Raises:
        UserError: complex numbers.
    """
    if array.dtype.kind == "c":
        raise UserError(f"{shown(path)} holds complex numbers; write the magnitude")
    if array.dtype.kind == "b":
        return array.astype(np.uint8)
    if array.dtype.kind == "f":
        return _single_precision(array)
    return np.ascontiguousarray(array, array.dtype.newbyteorder("="))


def _single_precision(array: np.ndarray) -> np.ndarray:
    """float32, or int64 where that would round whole numbers, as of labels in double precision."""
    if array.dtype.itemsize > 4:
        largest = max(array.max(initial=0), -array.min(initial=0))
        if EXACT_FLOAT32 <= largest < EXACT_FLOAT64 and (np.rint(array) == array).all():
            return array.astype(np.int64)
    with np.errstate(over="ignore"):
        return np.require(as_float32(array), np.float32, ("C", "W"))


def without_alpha(path: Path, array: np.ndarray) -> np.ndarray:
    """The colours (C - 1, Z, Y, X) of an image whose last channel says that every pixel is opaque.

    Raises:
        UserError: pixels that are transparent: what colour they have is for the user to decide.
    """
    alpha = array[-1]
    opaque = np.iinfo(alpha.dtype).max if alpha.dtype.kind in "iu" else 1
    if (alpha != opaque).any():
        share = float((alpha != opaque).mean())
        raise UserError(
            f"{shown(path)} has transparent pixels ({share:.0%}); put it on a background and save it without the alpha channel"
        )
    return array[:-1]
