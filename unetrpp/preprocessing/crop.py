"""Cropping: the box outside which an image is background, and the mask of its foreground."""

from collections.abc import Sequence

import numpy as np
from scipy import ndimage

Box = tuple[tuple[int, int], tuple[int, int], tuple[int, int]]


def background_values(image: np.ndarray) -> tuple[float, ...]:
    """The background value of every channel of (C, Z, Y, X): the value that all eight corners share, else 0 or another
    value that fills one of the six outer planes.

    So CT padded with -1000 or -1024 is cropped as well, on whichever sides it was padded. A wrong guess does no harm: only
    planes that hold nothing but this value are ever cut.
    """
    return tuple(_background_value(channel) for channel in image)


def _background_value(channel: np.ndarray) -> float:
    z, y, x = (max(1, n - 1) for n in channel.shape)
    corners = channel[::z, ::y, ::x].reshape(-1)
    if np.all(corners == corners[0]):
        return float(corners[0])
    planes = [np.moveaxis(channel, axis, 0)[end] for axis, n in enumerate(channel.shape) if n > 1 for end in (0, -1)]
    filled = [float(plane.flat[0]) for plane in planes if np.all(plane == plane.flat[0])]
    return 0.0 if 0.0 in filled or not filled else filled[0]


def foreground_box(image: np.ndarray, values: Sequence[float] | None = None) -> Box:
    """The smallest box outside which every channel of (C, Z, Y, X) is background; the whole image if it is all background.

    Args:
        values: of the background in every channel; by default :func:`background_values`.
    """
    found = background_values(image) if values is None else values
    background = np.array(found, image.dtype).reshape(-1, 1, 1)
    bounds: list[tuple[int, int]] = []
    view = image
    for axis in (1, 2, 3):
        planes = np.moveaxis(view, axis, 1)
        size = planes.shape[1]
        start = next((i for i in range(size) if (planes[:, i] != background).any()), None)
        if start is None:
            z, y, x = image.shape[1:]
            return (0, z), (0, y), (0, x)
        stop = next(i for i in range(size, 0, -1) if (planes[:, i - 1] != background).any())
        bounds.append((start, stop))
        view = np.moveaxis(planes[:, start:stop], 1, axis)
    return bounds[0], bounds[1], bounds[2]


def foreground_mask(image: np.ndarray, background: tuple[float, ...]) -> np.ndarray:
    """Where any channel of (C, Z, Y, X) is not background, with holes filled; (Z, Y, X) bool."""
    mask = np.zeros(image.shape[1:], bool)
    for channel, value in zip(image, background, strict=True):
        mask |= channel != value
    filled: np.ndarray = ndimage.binary_fill_holes(mask)
    return filled


def slices(box: Box) -> tuple[slice, slice, slice]:
    """The box as an index into (Z, Y, X)."""
    z, y, x = (slice(start, stop) for start, stop in box)
    return z, y, x


def shape_of(box: Box) -> tuple[int, int, int]:
    """Voxels of the box along z, y and x."""
    z, y, x = (stop - start for start, stop in box)
    return z, y, x
