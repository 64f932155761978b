"""Preprocessing of one case, from the volume as read to the network's input; training and prediction share it."""

import math
import shutil
import tempfile
from dataclasses import dataclass

import numpy as np

from unetrpp.core.errors import UserError
from unetrpp.core.large_arrays import LARGE_BYTES, new_array
from unetrpp.core.machine import available_memory
from unetrpp.core.text import counted, format_bytes, format_mm, format_shape
from unetrpp.io.images import Volume
from unetrpp.plans.plans import Preprocessing
from unetrpp.preprocessing.crop import foreground_mask
from unetrpp.preprocessing.grid import CaseGrid, CaseProperties
from unetrpp.preprocessing.normalize import normalize


@dataclass(frozen=True)
class PreprocessedCase:
    """``image`` float32 (C, Z, Y, X) and ``label`` training indices (Z, Y, X) or None, on the network's grid."""

    image: np.ndarray
    label: np.ndarray | None
    properties: CaseProperties


def preprocess(volume: Volume, label: Volume | None, plan: Preprocessing, case: str) -> PreprocessedCase:
    """The plans' orientation -> plan order -> crop -> normalise -> resample.

    Channels that are normalised inside a mask are 0 outside it; after resampling, too, where the plans say so.

    Args:
        volume: (C, Z, Y, X) as read.
        label: (1, Z, Y, X) of the user's values on the same grid, or None.

    Raises:
        UserError: the number of channels is not the plans', or a channel's values do not fit its normalisation, or the resampled image
            is larger than the memory and the temporary folder together.
    """
    if len(volume.array) != len(plan.normalization):
        names = ", ".join(n.channel for n in plan.normalization)
        raise UserError(
            f"the image has {counted(len(volume.array), 'channel')}, the plans expect {len(plan.normalization)} ({names})",
            case=case,
        )
    grid = CaseGrid.of_image(volume.array, volume.geometry, plan, case)
    _require_room(grid.properties, len(volume.array))
    background = grid.background(volume.array)
    cropped = grid.crop(volume.array)
    image = new_array(cropped.shape, np.float32)  # a copy: normalisation works in place
    np.copyto(image, cropped, casting="unsafe")
    masked = [n.masked for n in plan.normalization]
    mask = foreground_mask(image, background) if any(masked) else None
    _normalize_channels(image, plan, mask, case)
    image = grid.resample(image)
    if mask is not None and plan.zero_outside_mask:
        outside = ~grid.resample_mask(mask)
        for c in np.flatnonzero(masked):
            image[c, outside] = 0  # not cubic interpolation's oscillation beside the mask
    indices = None if label is None else grid.to_network(label.array[0])
    return PreprocessedCase(image, indices, grid.properties)


def _require_room(properties: CaseProperties, channels: int) -> None:
    """
    Raises:
        UserError: the resampled image is larger than what is free, mostly because a file gives a wrong spacing.
    """
    size = np.dtype(np.float32).itemsize * channels * math.prod(properties.shape)
    if size <= LARGE_BYTES:
        return
    free = available_memory() + shutil.disk_usage(tempfile.gettempdir()).free
    if size > free:
        raise UserError(
            f"on the network's grid the image has {format_shape(properties.shape)} voxels ({format_bytes(size)}), and memory and "
            f"temporary folder have {format_bytes(free)} left; correct its spacing of "
            f"{format_mm(properties.geometry.spacing_zyx_mm)} if it is wrong, or name a larger folder with TMPDIR",
            case=properties.case,
        )


def _normalize_channels(image: np.ndarray, plan: Preprocessing, mask: np.ndarray | None, case: str) -> None:
    for channel, how in zip(image, plan.normalization, strict=True):
        try:
            normalize(channel, how, mask)
        except UserError as error:
            raise UserError(str(error), case=case) from None
