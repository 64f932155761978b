"""A check of the modality: Hounsfield units in a channel that is not called CT, and a CT without Hounsfield units."""

from collections.abc import Iterator

import numpy as np

SAMPLE = 50_000  # voxels examined, on a regular grid
AIR_HU = (-1100.0, -900.0)
AIR_SHARE = 0.02  # of the voxels: more in AIR_HU look like Hounsfield units
NARROWEST_CT = 50.0  # a CT spans more than this many HU
ZERO_SHARE = 0.3  # of the voxels, and no value below COLD_HU: the CT was masked with 0, or windowed
COLD_HU = -300.0


def check_modality(channel: np.ndarray, name: str) -> Iterator[tuple[str, bool]]:
    """Messages about one channel (Z, Y, X) of finite values, each with True for an error and False for a warning."""
    values = _sample(channel)
    low, high = float(values.min()), float(values.max())
    if name.casefold() == "ct":
        if high - low < NARROWEST_CT:
            yield (
                f"channel 'CT' spans {low:g} to {high:g}, which are not Hounsfield units; convert it back",
                True,
            )
        elif low >= 0:
            yield (
                f"channel 'CT' has no value below 0 (found {low:g} to {high:g}), so it is offset or rescaled; convert it to HU",
                True,
            )
        elif (values == 0).mean() > ZERO_SHARE and low > COLD_HU:
            yield (
                f"channel 'CT' has background 0 and no air (lowest value {low:g}); set the background to -1000 HU",
                True,
            )
    elif _looks_like_ct(values, low, high):
        yield f"channel {name!r} looks like Hounsfield units ({low:g} to {high:g}); if it is CT, call it CT", False


def _looks_like_ct(values: np.ndarray, low: float, high: float) -> bool:
    air = ((values >= AIR_HU[0]) & (values <= AIR_HU[1])).mean()
    return bool(-4096 <= low <= AIR_HU[1] and 100 < high <= 32767 and air > AIR_SHARE)


def _sample(channel: np.ndarray) -> np.ndarray:
    step = max(1, round((channel.size / SAMPLE) ** (1 / 3)))
    return channel[::step, ::step, ::step]
