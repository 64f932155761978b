"""From the grid of an input to the grid that the network works on, and back.

input -> canonical orientation -> plan order -> crop -> the network's spacing. Preprocessing applies these steps and export
undoes them. The first-stage segmentation of a cascade passes through them from the input's to the second stage's grid.
"""

from dataclasses import dataclass

import numpy as np

from unetrpp.core.files import Record
from unetrpp.io.geometry import (
    Geometry,
    Orientation,
    Spacing,
    canonical_orientation,
    from_canonical,
    reorder,
    resampled_shape,
    to_canonical,
)
from unetrpp.plans.plans import Preprocessing
from unetrpp.preprocessing.crop import Box, foreground_box, shape_of, slices
from unetrpp.preprocessing.resample import resample_image, resample_labels, separate_axis

Shape = tuple[int, int, int]


class CaseProperties(Record, frozen=True, kw_only=True):
    """The geometry of one case before and after preprocessing; stored with every preprocessed case.

    Plan order is the canonical frame (z, y, x) transposed by ``Preprocessing.transpose``.
    """

    case: str
    geometry: Geometry  # of the input
    orientation: Orientation  # from the input's array to the canonical frame
    crop: Box  # kept voxels, plan order
    cropped_shape: Shape  # plan order, before resampling
    cropped_spacing_mm: Spacing  # plan order, before resampling
    shape: Shape  # plan order, after resampling


@dataclass(frozen=True)
class CaseGrid:
    """The grids of one case under one preprocessing plan.

    There are three: the *input's*, the *cropped* one (plan order, the input's spacing) and the *network's* (plan
    order, the planned spacing).
    """

    properties: CaseProperties
    plan: Preprocessing

    @classmethod
    def of_image(cls, image: np.ndarray, geometry: Geometry, plan: Preprocessing, case: str) -> "CaseGrid":
        """The grid of an image (C, Z, Y, X), cropped to where any channel differs from its background."""
        orientation = canonical_orientation(geometry)
        crop = foreground_box(_to_plan_order(image, orientation, plan))
        z, y, x = reorder(reorder(geometry.spacing_zyx_mm, orientation.axes), plan.transpose)
        depth, height, width = resampled_shape(shape_of(crop), (z, y, x), plan.target_spacing((z, y, x)))
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
        return separate_axis(spacing, self.plan.target_spacing(spacing), self.plan.separate_axis_ratio)

    def to_plan_order(self, array: np.ndarray) -> np.ndarray:
        """(..., Z, Y, X) on the input's grid -> the same voxels in plan order (a view)."""
        return _to_plan_order(array, self.properties.orientation, self.plan)

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
        return resample_labels(indices, self.properties.shape, range(1, len(labels.known_values)), self.nearest_axis)

    def to_input(self, array: np.ndarray, outside: float = 0) -> np.ndarray:
        """(Z, Y, X) on the cropped grid -> the input's grid, with ``outside`` where voxels were cropped away."""
        properties, transpose = self.properties, self.plan.transpose
        canonical_shape = reorder(properties.geometry.shape_zyx, properties.orientation.axes)
        whole = np.full(reorder(canonical_shape, transpose), outside, array.dtype)
        whole[slices(properties.crop)] = array
        canonical = whole.transpose(np.argsort(transpose))
        return np.ascontiguousarray(from_canonical(canonical, properties.orientation))


def _to_plan_order(array: np.ndarray, orientation: Orientation, plan: Preprocessing) -> np.ndarray:
    lead = array.ndim - 3
    return to_canonical(array, orientation).transpose(*range(lead), *(lead + axis for axis in plan.transpose))
