"""Mean and standard deviation of the intensities of an image in every class or region of its segmentation."""

from collections.abc import Mapping, Sequence

import numpy as np

from unetrpp.core.files import Record


class Intensity(Record, frozen=True, kw_only=True):
    """Over the voxels of one class in one channel, in the units of the input image; None where the class is not there."""

    mean: float | None
    sd: float | None  # of all voxels: divided by their number


def intensities_of(
    image: np.ndarray, array: np.ndarray, segments: Mapping[str, tuple[int, ...]], channels: Sequence[str]
) -> dict[str, dict[str, Intensity]]:
    """By class or region and by channel.

    Args:
        image: (C, Z, Y, X) as it was read.
        array: label values (Z, Y, X) of its segmentation, 0 in the background.
        segments: name -> the values of ``array`` that belong to it.
        channels: names, C of them.
    """
    inside = array != 0
    known, index = np.unique(array[inside], return_inverse=True)
    counts = np.bincount(index, minlength=len(known))
    found: dict[str, dict[str, Intensity]] = {name: {} for name in segments}
    for channel, voxels in zip(channels, image, strict=True):
        values = voxels[inside].astype(np.float64)
        means = np.bincount(index, weights=values, minlength=len(known)) / counts
        squares = np.bincount(index, weights=(values - means[index]) ** 2, minlength=len(known))
        for name, members in segments.items():
            of_segment = np.isin(known, members)
            found[name][channel] = _pooled(counts[of_segment], means[of_segment], squares[of_segment])
    return found


def _pooled(counts: np.ndarray, means: np.ndarray, squares: np.ndarray) -> Intensity:
    """Of several labels together, from the voxels, mean and sum of squared deviations of each."""
    total = counts.sum()
    if not total:
        return Intensity(mean=None, sd=None)
    mean = (counts * means).sum() / total
    variance = (squares + counts * (means - mean) ** 2).sum() / total
    return Intensity(mean=float(f"{mean:.7g}"), sd=float(f"{np.sqrt(variance):.7g}"))
