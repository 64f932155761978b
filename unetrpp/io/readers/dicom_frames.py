"""The frames of a DICOM image as plain values: where each lies, and the rescale of its own."""

import math
from dataclasses import dataclass
from pathlib import Path

from pydicom.dataset import Dataset

from unetrpp.core.errors import UserError
from unetrpp.io.readers.dicom_header import PER_FRAME, SHARED, Header, class_name, text

MACROS = (
    "PlanePositionSequence", "PlaneOrientationSequence", "PixelMeasuresSequence", "PixelValueTransformationSequence",
)  # fmt: skip


@dataclass(frozen=True, eq=False)
class Frame:
    """One slice: a single-frame file, or a frame of a multi-frame one (``index`` from 0 on)."""

    header: Header
    index: int
    position: tuple[float, ...] | None  # mm, LPS, of the centre of the first voxel
    orientation: tuple[float, ...] | None  # cosines along a row, then along a column
    spacing_yx: tuple[float, ...] | None  # mm
    thickness: float | None  # mm from slice to slice where there is one slice only
    slope: float
    intercept: float
    is_rescaled: bool  # the file gives both
    groups: tuple[Dataset, ...]  # where its attributes stand: functional groups of the frame, shared ones, the file

    @property
    def name(self) -> str:
        """For messages."""
        name = self.header.path.name
        return name if self.header.frames == 1 else f"frame {self.index + 1} of {name}"


def frames(header: Header) -> list[Frame]:
    """The frames of a file in its own order; a single-frame file is one.

    Raises:
        UserError: values per frame are missing, malformed or not numbers.
    """
    root = header.dataset
    shared, each = _sequence(root, SHARED), _sequence(root, PER_FRAME)
    if header.frames > 1 and len(each) != header.frames:
        found = f"describes {len(each)} of its {header.frames} frames" if each else "gives no positions for its frames"
        raise UserError(
            f"{header.path.name} ({class_name(root)}) {found}, so where they lie is unknown; "
            "export it as an enhanced multi-frame image or as one file per slice"
        )
    every = [_frame(header, index, (*each[index : index + 1], *shared[:1], root)) for index in range(header.frames)]
    if len({frame.is_rescaled for frame in every}) > 1:
        frame = next(frame for frame in every if not frame.is_rescaled)
        raise UserError(f"{frame.name} has no RescaleSlope, which other frames have; export the file again")
    return every


def _frame(header: Header, index: int, groups: tuple[Dataset, ...]) -> Frame:
    macros = [item for group in groups for keyword in MACROS for item in _sequence(group, keyword)[:1]]

    def numbers(keyword: str, count: int) -> tuple[float, ...] | None:
        dataset = next((macro for macro in (*macros, header.dataset) if text(macro, keyword)), None)
        return None if dataset is None else _numbers(header.path, dataset, keyword, count)

    def number(keyword: str) -> float | None:
        found = numbers(keyword, 1)
        return None if found is None else found[0]

    spacing = numbers("PixelSpacing", 2) or (numbers("ImagerPixelSpacing", 2) if header.frames == 1 else None)
    slope, intercept = number("RescaleSlope"), number("RescaleIntercept")
    _require_usable(header, spacing, slope, intercept)
    return Frame(
        header=header,
        index=index,
        position=numbers("ImagePositionPatient", 3),
        orientation=numbers("ImageOrientationPatient", 6),
        spacing_yx=spacing,
        thickness=abs(number("SpacingBetweenSlices") or number("SliceThickness") or 0)
        or None,  # nuclear medicine has signs
        slope=1.0 if slope is None else slope,
        intercept=0.0 if intercept is None else intercept,
        is_rescaled=slope is not None,
        groups=groups,
    )


def _require_usable(
    header: Header, spacing: tuple[float, ...] | None, slope: float | None, intercept: float | None
) -> None:
    name = header.path.name
    if spacing is not None and min(spacing) <= 0:
        raise UserError(f"{name} has PixelSpacing {spacing}, which must be above 0; export it again")
    if (slope is None) != (intercept is None):
        raise UserError(f"{name} has only one of RescaleSlope and RescaleIntercept; export it with both")
    if slope == 0:
        raise UserError(f"{name} has RescaleSlope 0, which makes every value the same; export it again")


def _numbers(path: Path, dataset: Dataset, keyword: str, count: int) -> tuple[float, ...]:
    found = text(dataset, keyword)
    try:
        values = tuple(float(part) for part in found.split("\\"))
    except ValueError:
        values = ()
    if len(values) != count or not all(math.isfinite(value) for value in values):
        raise UserError(f"{path.name} has {keyword} {found!r} instead of {count} numbers; export it again")
    return values


def _sequence(dataset: Dataset, keyword: str) -> list[Dataset]:
    return list(dataset.get(keyword) or [])
