"""From the grid of an input to the grid that the network works on, and back.

input -> the plans' orientation -> plan order -> crop -> the network's spacing. Preprocessing applies these steps and export
undoes them. The first-stage segmentation of a cascade passes through them from the input's to the second stage's grid.
"""

from dataclasses import dataclass, replace
from typing import Literal, TypeAlias

import msgspec
import numpy as np

from unetrpp.core.files import Record
from unetrpp.io.geometry import (
    Geometry,
    Orientation,
    Spacing,
    canonical_orientation,
    reorder,
    resampled_shape,
    to_canonical,
)
from unetrpp.plans.plans import Preprocessing
from unetrpp.preprocessing.crop import Box, background_values, foreground_box, shape_of, slices
from unetrpp.preprocessing.resample import (
    ROUNDING,
    resample_image,
    resample_labels,
    resample_labels_by_half,
    separate_axis,
)

Shape = tuple[int, int, int]
Frame: TypeAlias = Literal["LPS", "RAS", "file"]  # of Preprocessing.orientation


class CaseProperties(Record, frozen=True, kw_only=True):
    """The geometry of one case before and after preprocessing; stored with every preprocessed case.

    Plan order is the frame of ``Preprocessing.orientation`` (z, y, x) transposed by ``Preprocessing.transpose``.
    """

    case: str
    geometry: Geometry  # of the input
    orientation: Orientation  # from the input's array to the plans' frame
    crop: Box  # kept voxels, plan order
    cropped_shape: Shape  # plan order, before resampling
    cropped_spacing_mm: Spacing  # plan order, before resampling
    shape: Shape  # plan order, after resampling


def network_shape(geometry: Geometry, plan: Preprocessing) -> Shape:
    """The network's grid of an image, in plan order, if nothing of it is cropped."""
    axes = orientation_in(plan.orientation, geometry).axes
    spacing = reorder(reorder(geometry.spacing_zyx_mm, axes), plan.transpose)
    z, y, x = _resampled(reorder(reorder(geometry.shape_zyx, axes), plan.transpose), spacing, plan)
    return z, y, x


@dataclass(frozen=True)
class CaseGrid:
    """The grids of one case under one preprocessing plan.

    There are three: the *input's*, the *cropped* one (plan order, the input's spacing) and the *network's* (plan
    order, the planned spacing).

    Args:
        linear_back: whether the way back from the network is linear along every axis, also where it would be ``nearest_axis_back``.
    """

    properties: CaseProperties
    plan: Preprocessing
    linear_back: bool = False

    @classmethod
    def of_image(cls, image: np.ndarray, geometry: Geometry, plan: Preprocessing, case: str) -> "CaseGrid":
        """The grid of an image (C, Z, Y, X), cropped to where any channel differs from its background."""
        orientation = orientation_in(plan.orientation, geometry)
        ordered = _to_plan_order(image, orientation, plan)
        crop = foreground_box(ordered, _background(ordered, plan))
        z, y, x = reorder(reorder(geometry.spacing_zyx_mm, orientation.axes), plan.transpose)
        depth, height, width = _resampled(shape_of(crop), (z, y, x), plan)
        properties = CaseProperties(
            case=case,
            geometry=geometry,
            orientation=orientation,
            crop=crop,
            cropped_shape=shape_of(crop),
            cropped_spacing_mm=(z, y, x),
            shape=(depth, height, width),
        )
        return cls(properties, plan)

    @property
    def nearest_axis(self) -> int | None:
        """The plan axis that is resampled by nearest neighbour because its voxels are much longer; None if there is none."""
        spacing = self.properties.cropped_spacing_mm
        return _separate_axis(spacing, self.plan.target_spacing(spacing), self.plan)

    @property
    def nearest_axis_back(self) -> int | None:
        """The same for the way back, where it is not linear. nnU-Net then looks at the network's spacing first; the axis differs
        only in grids whose coarsest axis is another one than the network's."""
        if self.linear_back:
            return None
        if self.plan.rules == "unetrpp":
            return self.nearest_axis
        spacing = self.properties.cropped_spacing_mm
        return _separate_axis(self.plan.target_spacing(spacing), spacing, self.plan)

    def background(self, image: np.ndarray) -> tuple[float, ...]:
        """The background value of every channel of an image (C, Z, Y, X) on the input's grid."""
        return _background(self.to_plan_order(image), self.plan)

    def to_plan_order(self, array: np.ndarray) -> np.ndarray:
        """(..., Z, Y, X) on the input's grid -> the same voxels in plan order (a view)."""
        return _to_plan_order(array, self.properties.orientation, self.plan)

    @property
    def kept(self) -> Box:
        """The crop in voxels of the input, along its own axes (z, y, x)."""
        shape = self.properties.geometry.shape_zyx
        ordered = {
            axis: (shape[axis] - stop, shape[axis] - start) if flipped else (start, stop)
            for axis, flipped, (start, stop) in self.axes()
        }
        return ordered[0], ordered[1], ordered[2]

    def axes(self) -> list[tuple[int, bool, tuple[int, int]]]:
        """For each axis in plan order: the input's axis (z, y, x), whether it runs the other way, and the kept voxels."""
        orientation = self.properties.orientation
        pairs = zip(self.plan.transpose, self.properties.crop, strict=True)
        return [(orientation.axes[canonical], canonical in orientation.flips, kept) for canonical, kept in pairs]

    def uncropped(self) -> "CaseGrid":
        """The same grid with a crop that holds the whole image."""
        properties = self.properties
        shape = reorder(reorder(properties.geometry.shape_zyx, properties.orientation.axes), self.plan.transpose)
        z, y, x = ((0, n) for n in shape)
        return replace(self, properties=msgspec.structs.replace(properties, crop=(z, y, x), cropped_shape=shape))

    def crop(self, array: np.ndarray) -> np.ndarray:
        """(..., Z, Y, X) on the input's grid -> the cropped grid (a view)."""
        return self.to_plan_order(array)[..., *slices(self.properties.crop)]

    def resample(self, image: np.ndarray) -> np.ndarray:
        """An image (C, Z, Y, X) on the cropped grid -> the network's grid, by cubic interpolation."""
        resampled: np.ndarray = resample_image(image, self.properties.shape, self.nearest_axis)
        return resampled

    def resample_mask(self, mask: np.ndarray) -> np.ndarray:
        """A mask (Z, Y, X) on the cropped grid -> the network's grid, by linear interpolation."""
        resampled: np.ndarray = (
            resample_labels(mask.astype(np.uint8), self.properties.shape, [1], self.nearest_axis) == 1
        )
        return resampled

    def to_network(self, values: np.ndarray) -> np.ndarray:
        """The user's label values (Z, Y, X) on the input's grid -> training indices on the network's grid."""
        labels = self.plan.labels
        indices = np.ascontiguousarray(labels.encode(self.crop(values)))
        resample = resample_labels if self.plan.rules == "unetrpp" else resample_labels_by_half
        return resample(indices, self.properties.shape, range(1, len(labels.known_values)), self.nearest_axis)

    def to_input(self, array: np.ndarray, outside: float = 0) -> np.ndarray:
        """(Z, Y, X) on the cropped grid -> the input's grid, with ``outside`` where voxels were cropped away."""
        whole = np.full(self.properties.geometry.shape_zyx, outside, array.dtype)
        self.crop(whole)[...] = array
        return whole


def _to_plan_order(array: np.ndarray, orientation: Orientation, plan: Preprocessing) -> np.ndarray:
    lead = array.ndim - 3
    return to_canonical(array, orientation).transpose(*range(lead), *(lead + axis for axis in plan.transpose))


def orientation_in(frame: Frame, geometry: Geometry) -> Orientation:
    """How to turn an array (Z, Y, X) into ``frame``: the nearest to LPS or RAS, or the file's own axes.

    >>> orientation_in("RAS", Geometry(shape_zyx=(2, 3, 4), spacing_zyx_mm=(1, 1, 1))).flips
    (1, 2)
    """
    if frame == "file":
        return Orientation(axes=(0, 1, 2), flips=())
    canonical = canonical_orientation(geometry)
    if frame == "LPS":
        return canonical
    flips = set(canonical.flips) ^ {1, 2}  # y and x run the other way
    return Orientation(axes=canonical.axes, flips=tuple(sorted(flips)))


def _background(ordered: np.ndarray, plan: Preprocessing) -> tuple[float, ...]:
    return background_values(ordered) if plan.rules == "unetrpp" else (0.0,) * len(ordered)


def _resampled(shape: Shape, spacing: Spacing, plan: Preprocessing) -> tuple[int, ...]:
    target = plan.target_spacing(spacing)
    if plan.rules == "unetrpp":
        return resampled_shape(shape, spacing, target)
    return tuple(max(1, round(s / t * n)) for n, s, t in zip(shape, spacing, target, strict=True))


def _separate_axis(spacing: Spacing, other: Spacing, plan: Preprocessing) -> int | None:
    rounding = ROUNDING if plan.rules == "unetrpp" else 0.0
    return separate_axis(spacing, other, plan.separate_axis_ratio, rounding=rounding)
