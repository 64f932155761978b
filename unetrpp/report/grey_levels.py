"""Grey levels: the at most 256 intensities that an image in a page is rounded to, so that a voxel takes one byte."""

import numpy as np

from unetrpp.core.errors import UserError

# Hounsfield units from, to, and the share of the levels: steps are fine where soft tissues differ.
CT_RANGES = ((-1024, -150, 1 / 8), (-150, 250, 5 / 8), (250, 2000, 1 / 4))
CT_WINDOW = (-160.0, 240.0)  # soft tissue: level 40, width 400
OUTSIDE = 0.05  # per cent of the voxels below the lowest level, and above the highest one
DARK_AND_BRIGHT = (0.5, 99.5)  # percentiles that are shown black and white at first


def is_ct(channel: str) -> bool:
    """Whether the name stands for Hounsfield units, as in the dataset's description.

    >>> is_ct("ct"), is_ct("CT angio")
    (True, False)
    """
    return channel.casefold() == "ct"


def grey_levels(values: np.ndarray, channel: str, count: int) -> list[float]:
    """At most ``count`` increasing intensities for the values of a channel.

    A CT gets Hounsfield units with fine steps in soft tissue. Whole numbers of a narrow range, as in most photographs,
    stay exact. Otherwise the steps are equal, from the 0.05th to the 99.95th percentile.

    Raises:
        UserError: a value is NaN or infinite.
    """
    low, high = float(values.min()), float(values.max())
    if not np.isfinite([low, high]).all():
        raise UserError("the image holds NaN or infinite values; repair the file")
    if is_ct(channel):
        levels = _ct_levels(count)
    elif high - low < count and (values == np.rint(values)).all():
        levels = np.arange(low, high + 1)
    else:
        inner = np.percentile(values, (OUTSIDE, 100 - OUTSIDE))
        low, high = inner if inner[0] < inner[1] else (low, high)
        levels = np.linspace(low, high, count)
    return sorted({float(f"{level:.7g}") for level in levels})


def _ct_levels(count: int) -> np.ndarray:
    last = len(CT_RANGES) - 1
    parts = [
        np.linspace(low, high, round(share * count), endpoint=i == last)
        for i, (low, high, share) in enumerate(CT_RANGES)
    ]
    return np.concatenate(parts)


def nearest_level(values: np.ndarray, levels: list[float]) -> np.ndarray:
    """The index (uint8) of the nearest level of every value.

    >>> nearest_level(np.array([-9.0, 0.4, 0.6, 9.0]), [0.0, 1.0, 2.0]).tolist()
    [0, 0, 1, 2]
    """
    table = np.array(levels)
    indices: np.ndarray = np.searchsorted((table[1:] + table[:-1]) / 2, values).astype(np.uint8)
    return indices


def first_window(values: np.ndarray, channel: str) -> tuple[float, float]:
    """The intensities that are shown black and white at first: soft tissue of a CT, else the 0.5th and 99.5th percentile."""
    if is_ct(channel):
        return CT_WINDOW
    low, high = (float(f"{value:.4g}") for value in np.percentile(values, DARK_AND_BRIGHT))
    return (low, high) if low < high else (float(values.min()), float(values.min()) + 1)
