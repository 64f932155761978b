"""A check of the modality: Hounsfield units in a channel that is not called CT, and a CT without Hounsfield units."""

from collections.abc import Iterator

import numpy as np

SAMPLE = 50_000  # voxels examined, on a regular grid
AIR_HU = (-1100.0, -900.0)
AIR_SHARE = 0.02  # of the voxels: more in AIR_HU look like Hounsfield units
NARROWEST_CT = 50.0  # a CT spans more than this many HU
ZERO_SHARE = 0.3  # of the voxels, and no value below COLD_HU: the CT was masked with 0, or windowed
COLD_HU = -300.0
OFFSET = 1024.0  # added to Hounsfield units in files that hold no negative numbers
OFFSET_TISSUE = (800.0, 1300.0)  # where soft tissue then lies; from 150 up, most of what is not air
OFFSET_AIR = 150.0
OVERRIDE = 'if it is right, add "check_modality": false to dataset.json'


def check_modality(channel: np.ndarray, name: str) -> Iterator[tuple[str, bool]]:
    """Messages about one channel (Z, Y, X) of finite values, each with True for an error and False for a warning.

    Only what cannot be Hounsfield units is an error: a CT without negative values may be a crop of an organ. The key
    "check_modality" of dataset.json lets callers skip the check.
    """
    values = _sample(channel)
    low, high = float(values.min()), float(values.max())
    if name.casefold() == "ct":
        if high - low < NARROWEST_CT:
            fault = (
                f"spans {low:g} to {high:g}, which are not Hounsfield units; convert it to Hounsfield units; {OVERRIDE}"
            )
            yield f"channel 'CT' {fault}", True
        elif low >= 0:
            found, offset = f"channel 'CT' has no value below 0 (found {low:g} to {high:g})", _looks_offset(values)
            reason = (
                f"and soft tissue near {OFFSET:g}, so it is offset: subtract {OFFSET:g}"
                if offset
                else "as in a crop of an organ, or after an offset or rescaling, which you would have to undo"
            )
            yield f"{found}, {reason}; {OVERRIDE}", offset
        elif (values == 0).mean() > ZERO_SHARE and low > COLD_HU:
            fault = (
                f"has a background of 0 and no air (lowest value {low:g}); set the background to -1000 HU; {OVERRIDE}"
            )
            yield f"channel 'CT' {fault}", True
    elif _looks_like_ct(values, low, high):
        yield f"channel {name!r} looks like Hounsfield units ({low:g} to {high:g}); if it is CT, call it CT", False


def _looks_like_ct(values: np.ndarray, low: float, high: float) -> bool:
    air = ((values >= AIR_HU[0]) & (values <= AIR_HU[1])).mean()
    return bool(-4096 <= low <= AIR_HU[1] and 100 < high <= 32767 and air > AIR_SHARE)


def _looks_offset(values: np.ndarray) -> bool:
    """Whether values without a negative one are Hounsfield units plus 1024: with air near 24 and most of the rest near 1064."""
    air, rest = values < OFFSET_AIR, values[values >= OFFSET_AIR]
    tissue = (rest >= OFFSET_TISSUE[0]) & (rest <= OFFSET_TISSUE[1])
    return bool(air.mean() > AIR_SHARE and tissue.sum() > rest.size / 2)


def _sample(channel: np.ndarray) -> np.ndarray:
    step = max(1, round((channel.size / SAMPLE) ** (1 / 3)))
    return channel[::step, ::step, ::step]
