"""A check of the intensities: every voxel is a number, and none is so large that normalisation would lose the others."""

import numpy as np

from unetrpp.core.text import counted

# Squares are summed in float32, where the last digits of a sum depend on its order: half of the largest number is safe.
LARGEST_SUM_OF_SQUARES = float(np.finfo(np.float32).max) / 2


def unusable(channel: np.ndarray, name: str, *, clipped: bool = False) -> str | None:
    """Why a channel (Z, Y, X) cannot be normalised in float32, in words; None where it can.

    One sum of squares tells all: it is finite only if every voxel is, and if a standard deviation can be computed. A single
    fill value such as -3.4e38 or 1e20 would make every other voxel of a z-score 0.

    Args:
        clipped: normalisation clips the values to a known range, as of CT, so that large ones do no harm.
    """
    if channel.dtype.kind != "f" and channel.dtype.itemsize < 8:
        return None  # an integer of 32 bits is never too large
    if _sum_of_squares(channel) <= LARGEST_SUM_OF_SQUARES:
        return None
    bad = sum(int(part.size - np.isfinite(part).sum()) for part in channel)
    if bad:
        return (
            f"channel {name!r} holds {counted(bad, 'voxel that is', 'voxels that are')} NaN or infinite; replace them"
        )
    if clipped:
        return None
    largest = max(float(channel.min()), float(channel.max()), key=abs)
    return (
        f"channel {name!r} holds {largest:g}, too large for a standard deviation in float32; "
        "if it is a fill value, replace it by the value of the background"
    )


def _sum_of_squares(channel: np.ndarray) -> float:
    """Slice by slice, without an array of the volume's size; BLAS needs half the time of a sum in float64."""
    total = 0.0
    with np.errstate(over="ignore", invalid="ignore"):
        for part in channel:
            flat = part.ravel("K").astype(np.float32, copy=False)
            total += float(np.dot(flat, flat))
    return total
