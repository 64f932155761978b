"""Measures of the labels of one case: volumes, components, surfaces and centres of every class."""

import math
from collections.abc import Iterator

import numpy as np
from scipy import ndimage

from unetrpp.dataset.labels import LabelScheme
from unetrpp.io.geometry import Spacing
from unetrpp.plans.fingerprint import ClassStatistics

LARGEST_COMPONENTS = 100  # whose radii are recorded
TOUCHING = np.ones((3, 3, 3), bool)  # voxels that share a corner belong to one component


def class_statistics(label: np.ndarray, scheme: LabelScheme, spacing: Spacing) -> dict[str, ClassStatistics]:
    """Statistics of every foreground class by its name.

    Args:
        label: training indices (Z, Y, X) in the canonical frame.
        spacing: mm per axis (z, y, x).
    """
    boxes = ndimage.find_objects(label, max_label=len(scheme.values))
    return {
        scheme.names[index]: _one_class(
            label, index, boxes[index - 1], ignore_index=scheme.ignore_index, spacing=spacing
        )
        for index in scheme.foreground
    }


def _one_class(
    label: np.ndarray, index: int, box: tuple[slice, ...] | None, *, ignore_index: int | None, spacing: Spacing
) -> ClassStatistics:
    """Measured inside the bounding box of the class, grown by a voxel so that its outer faces count."""
    if box is None:
        return ClassStatistics(
            voxels=0,
            volume_mm3=0.0,
            components=0,
            component_radii_mm=(),
            surface_to_volume_per_mm=None,
            smallest_extent_voxels=None,
            center_lps_mm=None,
        )
    grown = tuple(slice(max(s.start - 1, 0), s.stop + 1) for s in box)
    mask = label[grown] == index
    other = ~mask if ignore_index is None else ~mask & (label[grown] != ignore_index)
    components, count = ndimage.label(mask, TOUCHING)
    sizes = np.bincount(components.ravel())[1:]
    volume = float(sizes.sum()) * math.prod(spacing)
    return ClassStatistics(
        voxels=int(sizes.sum()),
        volume_mm3=volume,
        components=int(count),
        component_radii_mm=tuple(_radius_mm(n * math.prod(spacing)) for n in np.sort(sizes)[::-1][:LARGEST_COMPONENTS]),
        surface_to_volume_per_mm=_surface_mm2(mask, other, spacing) / volume,
        smallest_extent_voxels=_median_extent(components),
        center_lps_mm=_center_lps_mm(mask, grown, label.shape, spacing),
    )


def _radius_mm(volume_mm3: float) -> float:
    """Radius of the sphere of equal volume.

    >>> round(_radius_mm(4 / 3 * math.pi * 8), 6)
    2.0
    """
    return float((volume_mm3 * 3 / (4 * math.pi)) ** (1 / 3))


def _surface_mm2(mask: np.ndarray, other: np.ndarray, spacing: Spacing) -> float:
    """Area of the voxel faces between ``mask`` and ``other``.

    Faces at the image's border or at the ignore label do not count. Faces of a smooth surface add up to 1.5 times its area.
    """
    area = 0.0
    for axis, (low, high) in enumerate(_neighbours(mask.ndim)):
        faces = np.count_nonzero(mask[low] & other[high]) + np.count_nonzero(other[low] & mask[high])
        area += float(faces) * math.prod(spacing) / spacing[axis]
    return area


def _neighbours(ndim: int) -> Iterator[tuple[tuple[slice, ...], tuple[slice, ...]]]:
    for axis in range(ndim):
        low, high = [slice(None)] * ndim, [slice(None)] * ndim
        low[axis], high[axis] = slice(None, -1), slice(1, None)
        yield tuple(low), tuple(high)


def _median_extent(components: np.ndarray) -> tuple[int, int, int]:
    boxes = ndimage.find_objects(components)
    z, y, x = (int(n) for n in np.median([[s.stop - s.start for s in box] for box in boxes], axis=0))
    return z, y, x


def _center_lps_mm(
    mask: np.ndarray, place: tuple[slice, ...], shape: tuple[int, ...], spacing: Spacing
) -> tuple[float, float, float]:
    """Centre of mass relative to the image's centre; x, y and z of the canonical frame are LPS."""
    offset = []
    for axis in range(3):
        profile = mask.sum(axis=tuple(a for a in range(3) if a != axis))
        center = float(profile @ np.arange(len(profile))) / float(profile.sum()) + place[axis].start
        offset.append((center - (shape[axis] - 1) / 2) * spacing[axis])
    z, y, x = offset
    return x, y, z
