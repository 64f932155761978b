"""Contours of a DICOM RT Structure Set as masks on the grid of an image.

A voxel belongs to an ROI when its centre lies inside an odd number of the ROI's contours on its slice, or on one of them, so that
a contour inside another one is a hole. The standard (PS3.3, C.8.8.6.3) counts points on a contour as part of the ROI and combines
contours of the type CLOSEDPLANAR_XOR like this; of several CLOSED_PLANAR ones in a slice it says nothing, and they are combined
in the same way. Keyholes, by which one contour encloses a hole, come out right as well.

A contour belongs to the slice in whose plane it lies, up to a quarter of the distance of slices. Nothing is drawn between
contours: a slice without one has no voxel of the ROI. What lies outside of the image, beside its slices or beyond them, is cut off.
"""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pydicom
from pydicom.dataset import Dataset

from unetrpp.core.errors import UserError
from unetrpp.core.text import counted
from unetrpp.io.contours import filled
from unetrpp.io.geometry import GRID_LIMIT_VOXELS, Geometry
from unetrpp.io.onto_grid import index_of
from unetrpp.io.readers.dicom import pydicom_warns_the_log
from unetrpp.io.readers.dicom_header import damage_named

CLOSED = ("CLOSED_PLANAR", "CLOSEDPLANAR_XOR")


class Drawn(NamedTuple):
    """An ROI on the grid of an image."""

    inside: np.ndarray  # (Z, Y, X), booleans
    beyond: int  # contours beyond the first or the last slice of the image
    sparse: bool  # most contours have a slice without any beside them


def draw(path: Path, numbers: Iterable[int], geometry: Geometry) -> Iterator[Drawn]:
    """The ROIs of these numbers on a grid, one after the other.

    Raises:
        UserError: a damaged file; an ROI without contours, or with contours that are not closed, are not in the planes of the
            slices, or lie between them.
    """
    with pydicom_warns_the_log(path), damage_named(path):
        dataset = pydicom.dcmread(path, specific_tags=["StructureSetROISequence", "ROIContourSequence"], force=True)
        names = {int(roi.ROINumber): str(roi.get("ROIName") or "") for roi in dataset.StructureSetROISequence}
        contours = {int(item.ReferencedROINumber): item for item in dataset.get("ROIContourSequence") or ()}
    for number in numbers:
        what = f"the ROI {names[number]!r} of {path.name}"
        with pydicom_warns_the_log(path), damage_named(path):
            points = [_points(contour, what) for contour in _of_roi(contours.get(number), what)]
        yield _drawn([index_of(each, geometry) for each in points], geometry, what)


def _of_roi(roi: Dataset | None, what: str) -> list[Dataset]:
    found = [] if roi is None else list(roi.get("ContourSequence") or ())
    if not found:
        raise UserError(f"{what} has no contours; draw them, or remove it from the file")
    return found


def _points(contour: Dataset, what: str) -> np.ndarray:
    """The points (n, 3) of one contour in mm, LPS."""
    kind = str(contour.get("ContourGeometricType", ""))
    if kind not in CLOSED:
        raise UserError(
            f"{what} has a contour of the type {kind or 'that is not named'}, which encloses nothing; remove that contour, or leave "
            "the ROI out"
        )
    values = np.array(contour.get("ContourData") or (), float)
    if len(values) == 0 or len(values) % 3 or not np.isfinite(values).all():
        raise UserError(
            f"{what} has a contour of {counted(len(values), 'number')} instead of three a point; export it again"
        )
    return values.reshape(-1, 3)


def _drawn(contours: list[np.ndarray], geometry: Geometry, what: str) -> Drawn:
    """
    Args:
        contours: indices (n, 3) in (z, y, x) order.
    """
    slices = geometry.shape_zyx[0]
    by_slice: dict[int, dict[bytes, np.ndarray]] = {}
    beyond = 0
    for contour in contours:
        place = _slice_of(contour[:, 0], slices, what)
        if place is None:
            beyond += 1
        else:
            # One that is there twice counts once, also if it runs the other way round or begins elsewhere.
            points = contour[np.lexsort(contour.T)].tobytes()
            by_slice.setdefault(place, {})[points] = contour[:, :0:-1]
    inside = np.zeros(geometry.shape_zyx, bool)
    for place, polygons in by_slice.items():
        inside[place] = filled(list(polygons.values()), geometry.shape_zyx[1:])
    distances = np.diff(sorted(by_slice))
    return Drawn(inside, beyond, sparse=len(distances) > 0 and float(np.median(distances)) > 1)


def _slice_of(along: np.ndarray, slices: int, what: str) -> int | None:
    """The slice of a contour whose points have these indices; None beyond the first and the last one."""
    middle = float(along.mean())
    place = round(middle)
    if np.abs(along - middle).max() > GRID_LIMIT_VOXELS:
        raise UserError(
            f"{what} has a contour across {np.ptp(along):.2g} slices of the image, so it was drawn on slices of another direction; "
            "give the series that it was drawn on"
        )
    if not GRID_LIMIT_VOXELS - 1 < middle < slices - GRID_LIMIT_VOXELS:
        return None
    if abs(middle - place) > GRID_LIMIT_VOXELS:
        raise UserError(
            f"{what} has a contour between the slices of the image (at {middle:.2f} slices, the first being 0), so it was drawn on "
            "other slices; give the series that it was drawn on"
        )
    return place
