"""Images and labels that are made from DICOM: a series whose files lie anywhere, and segments on its grid."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

import numpy as np

from unetrpp.dataset_conversion.dicom.tree import Part
from unetrpp.dataset_conversion.masks import Canvas, Painted
from unetrpp.io.geometry import Geometry
from unetrpp.io.images import Volume
from unetrpp.io.readers import dicom, dicom_segments, rtstruct


@dataclass(frozen=True)
class DicomImage:
    """The image of a series."""

    slices: tuple[Path, ...]

    @property
    def files(self) -> tuple[Path, ...]:
        return self.slices

    def read(self) -> Volume:
        """
        Raises:
            UserError: the files are not one volume, or are damaged.
        """
        return Volume(*dicom.read(self.slices))


@dataclass(frozen=True)
class ClassPart:
    """A segment or an ROI, and the class and value that it gets."""

    part: Part
    name: str
    value: int


@dataclass(frozen=True)
class DicomLabel:
    """Segments and ROIs on the grid of a series, painted in their order.

    Attributes:
        slices: the files of the series.
    """

    slices: tuple[Path, ...]
    parts: tuple[ClassPart, ...]

    @property
    def files(self) -> tuple[Path, ...]:
        return tuple(dict.fromkeys(each.part.file for each in self.parts))

    def read(self) -> Painted:
        """
        Raises:
            UserError: a file is damaged, or its segments do not lie on the slices of the series.
        """
        geometry, _ = dicom.read_header(self.slices)
        canvas = Canvas(geometry.shape_zyx, max(each.value for each in self.parts))
        others: list[str] = []
        for _, parts in groupby(self.parts, key=lambda each: each.part.file):
            of_file = list(parts)
            for each, (inside, remarks) in zip(of_file, _drawn([e.part for e in of_file], geometry), strict=True):
                canvas.paint(each.name, each.value, inside)
                others += remarks
        remarks_ = canvas.remarks()._replace(others=tuple(others))
        return Painted(canvas.label[None], geometry, remarks_)


def _drawn(parts: list[Part], geometry: Geometry) -> Iterator[tuple[np.ndarray, list[str]]]:
    """The masks (Z, Y, X) of parts of one file, and what a user should know of each."""
    numbers = [part.number for part in parts]
    if not parts[0].contours:
        for mask in dicom_segments.draw(parts[0].file, numbers, geometry):
            yield mask, []
        return
    for part, drawn in zip(parts, rtstruct.draw(parts[0].file, numbers, geometry), strict=True):
        told = {
            "has contours beyond the slices of the image, which are cut off": drawn.beyond > 0,
            "has contours on every other slice at most, and the slices between them have none of it": drawn.sparse,
            "has contours around no voxel's centre": not drawn.inside.any(),
        }
        yield drawn.inside, [f"{part.name!r} {what}" for what, holds in told.items() if holds]
