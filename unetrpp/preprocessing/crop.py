"""Cropping: the box outside which an image is background, and the mask of its foreground."""

import numpy as np
from scipy import ndimage

Box = tuple[tuple[int, int], tuple[int, int], tuple[int, int]]


def background_values(image: np.ndarray) -> tuple[float, ...]:
    """The background value of every channel of (C, Z, Y, X): the value that all eight corners share, else 0.

    So CT padded with -1000 or -1024 is cropped as well. A wrong guess does no harm: only planes that hold nothing but
    this value are ever cut.
    """
    corners = image[:, :: max(1, image.shape[1] - 1), :: max(1, image.shape[2] - 1), :: max(1, image.shape[3] - 1)]
    flat = corners.reshape(len(image), -1)
    return tuple(float(c[0]) if np.all(c == c[0]) else 0.0 for c in flat)


def foreground_box(image: np.ndarray) -> Box:
    """The smallest box outside which every channel of (C, Z, Y, X) is background; the whole image if it is all background."""
    background = np.array(background_values(image), image.dtype).reshape(-1, 1, 1)
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
