"""Segments of a DICOM SEG as masks on the grid of an image: BINARY, FRACTIONAL and LABELMAP.

Every frame is placed by its own position, so that it does not matter in which order the frames come, whether all slices have
one, and whether the image is a series or a multi-frame file. A voxel of a FRACTIONAL segment counts from half of the largest
value on, whether the values are probabilities or occupancies.
"""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
import pydicom
from pydicom.dataset import Dataset
from pydicom.pixels.utils import iter_pixels

from unetrpp.core.errors import UserError
from unetrpp.io.geometry import Geometry
from unetrpp.io.onto_grid import paste
from unetrpp.io.readers.dicom import pydicom_warns_the_log
from unetrpp.io.readers.dicom_header import PER_FRAME, SHARED, damage_named

TYPES = ("BINARY", "FRACTIONAL", "LABELMAP")
FRACTION = 0.5  # of the largest value, from which on a voxel of a FRACTIONAL segment counts


def draw(path: Path, numbers: Iterable[int], geometry: Geometry) -> Iterator[np.ndarray]:
    """The segments of these numbers on a grid (Z, Y, X), as booleans, one after the other.

    Raises:
        UserError: a damaged file, a type that is not known, or frames that do not lie on the grid.
    """
    with pydicom_warns_the_log(path), damage_named(path):
        dataset = pydicom.dcmread(path, force=True)
        kind = str(dataset.get("SegmentationType", ""))
        if kind not in TYPES:
            raise UserError(f"{path.name} has the SegmentationType {kind!r}, which is not read; save it as BINARY")
        groups = _groups(dataset)
        every = range(len(groups))
        if kind == "LABELMAP":
            values = _pasted(path, dataset, every, geometry)
    for number in numbers:
        if kind == "LABELMAP":
            yield values == number
            continue
        with pydicom_warns_the_log(path), damage_named(path):
            chosen = [
                k
                for k in every
                if _found(groups[k], "SegmentIdentificationSequence", "ReferencedSegmentNumber") == number
            ]
            drawn = _pasted(path, dataset, chosen, geometry)
            least = FRACTION * dataset.MaximumFractionalValue if kind == "FRACTIONAL" else 1
        yield drawn >= least


def _groups(dataset: Dataset) -> list[tuple[Dataset, ...]]:
    """Where the attributes of each frame stand: its functional groups, the shared ones, the file."""
    each, shared = list(dataset.get(PER_FRAME) or ()), list(dataset.get(SHARED) or ())
    count = int(dataset.get("NumberOfFrames") or 1)
    if len(each) != count:
        raise ValueError(f"it describes {len(each)} of its {count} frames")
    return [(item, *shared[:1], dataset) for item in each]


def _found(groups: Sequence[Dataset], macro: str, keyword: str) -> object:
    """The value of an attribute of a frame; None where it has none."""
    for group in groups:
        items = group.get(macro)
        if items and keyword in items[0]:
            value: object = items[0][keyword].value
            return value
    return None


def _pasted(path: Path, dataset: Dataset, frames: Sequence[int], geometry: Geometry) -> np.ndarray:
    """The values of some frames on the grid (Z, Y, X), 0 elsewhere."""
    target = np.zeros(geometry.shape_zyx, np.uint16 if dataset.BitsAllocated == 16 else np.uint8)
    if not frames:  # pydicom takes no frames for all frames
        return target
    groups = _groups(dataset)
    for k, plane in zip(frames, _planes(dataset, frames), strict=True):
        paste(plane[None], _plane(path, groups[k], geometry), target, geometry, name=path.name)
    return target


def _planes(dataset: Dataset, frames: Sequence[int]) -> Iterable[np.ndarray]:
    """The pixels (Y, X) of some frames."""
    if dataset.BitsAllocated == 1 and dataset.Rows * dataset.Columns % 8:
        # Frames then begin within a byte, and iter_pixels of pydicom 3.0.2 cuts such frames short; pixel_array does not.
        every: np.ndarray = dataset.pixel_array
        return every.reshape(-1, dataset.Rows, dataset.Columns)[list(frames)]
    return iter_pixels(dataset, indices=list(frames))


def _plane(path: Path, groups: tuple[Dataset, ...], geometry: Geometry) -> Geometry:
    """The grid of a frame, one voxel of ``geometry`` thick."""
    position = _found(groups, "PlanePositionSequence", "ImagePositionPatient")
    orientation = _found(groups, "PlaneOrientationSequence", "ImageOrientationPatient")
    spacing = _found(groups, "PixelMeasuresSequence", "PixelSpacing")
    shape = (1, int(groups[-1].Rows), int(groups[-1].Columns))
    if position is None and shape == geometry.shape_zyx:  # of a radiograph, which has no place in the patient
        return geometry
    if position is None or orientation is None or spacing is None:
        raise UserError(f"{path.name} does not say where its frames lie; export it again with all its tags")
    row, column = np.array(orientation, float).reshape(2, 3)
    y, x = np.array(spacing, float)
    px, py, pz = np.array(position, float)
    return Geometry(
        shape_zyx=shape,
        spacing_zyx_mm=(geometry.spacing_zyx_mm[0], float(y), float(x)),
        origin_xyz_mm=(float(px), float(py), float(pz)),
        direction=tuple(np.stack([row, column, np.cross(row, column)], axis=1).ravel().tolist()),
    )
