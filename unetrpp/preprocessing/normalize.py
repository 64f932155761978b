"""Normalization of the intensities of one channel, with the scheme that the plans chose by the channel's name."""

import numpy as np

from unetrpp.core.errors import UserError
from unetrpp.plans.plans import Normalization

SMALLEST_STD = 1e-8
PIECE = 2**18  # voxels: longer sums of float32 lose small squares


def normalize(channel: np.ndarray, plan: Normalization, mask: np.ndarray | None) -> np.ndarray:
    """Scale one channel (Z, Y, X) float32, in place where that is possible.

    ``mask`` is True on foreground. Only a masked z-score uses it; outside it the result is 0.

    Raises:
        UserError: an RGB channel holds values outside 0..255, or a z-score one so large that the standard deviation overflows.
    """
    if plan.scheme == "ct":
        statistics = plan.statistics
        np.clip(channel, statistics.percentile_00_5, statistics.percentile_99_5, out=channel)
        channel -= np.float32(statistics.mean)
        channel /= np.float32(max(statistics.std, SMALLEST_STD))
        return channel
    if plan.scheme == "zscore":
        if plan.masked and mask is not None:
            inside = _zscore(channel[mask], plan.channel)
            channel[...] = 0
            channel[mask] = inside
            return channel
        return _zscore(channel, plan.channel)
    if plan.scheme == "rescale_0_1":
        low, high = channel.min(), channel.max()
        channel -= low
        channel /= max(high - low, SMALLEST_STD)
        return channel
    if plan.scheme == "rgb_to_0_1":
        if channel.min() < 0 or channel.max() > 255:
            found = f"{channel.min():g} to {channel.max():g}"
            raise UserError(f"channel {plan.channel!r} holds {found}, but RGB values are 0 to 255; rename the channel")
        channel /= np.float32(255)
    return channel


def _zscore(values: np.ndarray, name: str) -> np.ndarray:
    if not values.size:  # of a masked image that is all background
        return values
    values -= values.mean(dtype=np.float64).astype(np.float32)
    flat = values.ravel()
    pieces = (flat[start : start + PIECE] for start in range(0, flat.size, PIECE))
    with np.errstate(over="ignore"):  # BLAS takes a third of the time of values.std(), but adds in float32
        std = np.sqrt(np.float32(sum(float(np.dot(piece, piece)) for piece in pieces) / flat.size))
    if np.isinf(std):  # everything would become 0
        raise UserError(
            f"channel {name!r} holds values too large for a standard deviation in float32; replace fill values by the "
            "value of the background"
        )
    values /= max(std, np.float32(SMALLEST_STD))
    return values
