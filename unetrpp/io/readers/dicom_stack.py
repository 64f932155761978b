"""The grid of DICOM slices: their order along the normal, and the checks that they fill one straight, even stack."""

import logging
from collections.abc import Sequence

import numpy as np

from unetrpp.core.errors import UserError
from unetrpp.core.text import listed
from unetrpp.io.geometry import Geometry
from unetrpp.io.readers.dicom_frames import Frame
from unetrpp.io.readers.dicom_volumes import require_one_volume

LOG = logging.getLogger(__name__)

EVEN = 0.01  # share of the step by which a slice may lie off its place
ROUNDING_MM = 0.01  # what positions that are written with two decimals may add to that
MOST_ROUNDING = 0.1  # of a step or a pixel, at most
TILT_DEGREES = 0.1  # between the stack's direction and the normal of its slices
DRIFT = 0.1  # voxels by which orientation and spacing may move the far edge of a slice
SAME_PLACE = 1e-3  # of a pixel
SQUARE = 1e-3  # by which the axes of a slice may be off unit length and off the right angle


def stack(name: str, frames: Sequence[Frame]) -> tuple[list[Frame], Geometry]:
    """The frames in the order of their positions along the normal of the slices, and their grid.

    Args:
        name: of the folder or file, for messages.

    Raises:
        UserError: frames that do not fill one straight, evenly spaced stack.
    """
    first = frames[0]
    if len(frames) == 1:
        return [first], _geometry(frames, first.thickness or 1.0)
    _require_places(name, frames)
    _require_alike(name, frames)
    axes = _axes(first)
    places = np.array([frame.position for frame in frames]) @ axes.T  # mm along rows, columns and the normal
    order = np.argsort(places[:, 2], kind="stable")
    ordered, places = [frames[i] for i in order], places[order]
    _warn_of_other_units(name, ordered)
    pixel = min(first.spacing_yx or (1.0,))
    require_one_volume(name, ordered, places[:, 2], SAME_PLACE * pixel)
    step = float(places[-1, 2] - places[0, 2]) / (len(ordered) - 1)
    _require_even(name, ordered, places[:, 2], step)
    _require_straight(name, ordered, places, min(ROUNDING_MM, MOST_ROUNDING * pixel))
    return ordered, _geometry(ordered, step)


def _geometry(ordered: Sequence[Frame], step: float) -> Geometry:
    first = ordered[0]
    y, x = first.spacing_yx or (1.0, 1.0)
    return Geometry(
        shape_zyx=(len(ordered), first.header.rows, first.header.columns),
        spacing_zyx_mm=(step, y, x),
        origin_xyz_mm=_three(first.position or (0.0, 0.0, 0.0)),
        direction=tuple(float(value) for value in _axes(first).T.ravel()),
    )


def _three(values: Sequence[float]) -> tuple[float, float, float]:
    return values[0], values[1], values[2]


def _axes(frame: Frame) -> np.ndarray:
    """Unit vectors (3, 3) along the rows, along the columns and along the normal of a slice.

    Raises:
        UserError: the two that the file gives are not unit vectors at a right angle.
    """
    row, column = np.array(frame.orientation or (1, 0, 0, 0, 1, 0), float).reshape(2, 3)
    lengths = np.linalg.norm((row, column), axis=1)
    if np.abs(lengths - 1).max() > SQUARE or abs(row @ column) > SQUARE:
        given = "\\".join(f"{value:g}" for value in (*row, *column))
        raise UserError(
            f"{frame.name} has ImageOrientationPatient {given}, which is not two unit vectors at a right angle; "
            "export it again"
        )
    row = row / lengths[0]
    column = column - (column @ row) * row
    column /= np.linalg.norm(column)
    return np.stack([row, column, np.cross(row, column)])


def _require_places(name: str, frames: Sequence[Frame]) -> None:
    for keyword, values in (
        ("ImagePositionPatient", [frame.position for frame in frames]),
        ("ImageOrientationPatient", [frame.orientation for frame in frames]),
        ("PixelSpacing", [frame.spacing_yx for frame in frames]),
    ):
        missing = [frame.name for frame, value in zip(frames, values, strict=True) if value is None]
        if missing:
            has = "has" if len(missing) == 1 else "have"
            raise UserError(
                f"{name}: {listed(missing, 1)} {has} no {keyword}, without which a slice has no place; "
                "export the series again with all its tags"
            )


def _require_alike(name: str, frames: Sequence[Frame]) -> None:
    """
    Raises:
        UserError: slices that differ in matrix, colour, orientation or pixel spacing, by the names of two of them.
    """
    headers = [frame.header for frame in frames]
    _require_same(name, frames, "matrix", [(header.rows, header.columns) for header in headers])
    _require_same(name, frames, "samples per pixel", [(header.samples,) for header in headers])
    other = next((frame for frame in frames if frame.header.photometric != headers[0].photometric), None)
    if other is not None:
        raise UserError(
            f"{name} mixes slices in {headers[0].photometric} ({frames[0].name}) and {other.header.photometric} "
            f"({other.name}); export all of them in the same one"
        )
    longest = max(headers[0].rows, headers[0].columns)
    _require_same(name, frames, "orientation", [frame.orientation or () for frame in frames], tolerance=DRIFT / longest)
    spacings = np.array([frame.spacing_yx for frame in frames])
    tolerance = DRIFT / longest * float(spacings[0].min())
    _require_same(name, frames, "pixel spacing", spacings.tolist(), tolerance=tolerance)


def _warn_of_other_units(name: str, frames: Sequence[Frame]) -> None:
    """Some programs write an empty end slice without the rescale of the others; ITK takes its values as stored, too."""
    plain = [frame.name for frame in frames if not frame.is_rescaled]
    if len(plain) < len(frames) and plain:
        LOG.warning("%s: without the RescaleSlope of the other slices, and so taken as stored: %s", name, listed(plain))


def _require_same(
    name: str, frames: Sequence[Frame], what: str, values: Sequence[Sequence[float]], *, tolerance: float = 0.0
) -> None:
    table = np.array(values, float)
    different = np.abs(table - table[0]).max(axis=1) > tolerance
    if different.any():
        k = int(np.argmax(different))
        one, other = (" x ".join(f"{value:g}" for value in values[i]) for i in (0, k))
        raise UserError(
            f"{name} mixes slices of different {what} ({frames[0].name}: {one}; {frames[k].name}: {other}); "
            "give a folder with exactly one stack"
        )


def _require_even(name: str, ordered: list[Frame], along: np.ndarray, step: float) -> None:
    tolerance = max(EVEN * step, min(ROUNDING_MM, MOST_ROUNDING * step))
    off = np.abs(along - along[0] - step * np.arange(len(along)))
    if off.max() <= tolerance:
        return
    distances = np.diff(along)
    typical = float(np.median(distances))
    k = int(np.argmax(np.abs(distances - typical)))
    raise UserError(
        f"{name} has missing or uneven slices: {ordered[k].name} and {ordered[k + 1].name} lie {distances[k]:.4g} mm "
        f"apart, most {typical:.4g} mm; complete the series or resample it to even slices"
    )


def _require_straight(name: str, ordered: list[Frame], places: np.ndarray, rounding: float) -> None:
    """
    Raises:
        UserError: the slices are shifted sideways, evenly as by a gantry tilt, or one against the others.
    """
    along = places[:, 2] - places[0, 2]
    sideways = places[:, :2] - places[0, :2]
    slope = sideways[-1] / along[-1]
    tilt = float(np.degrees(np.arctan(np.linalg.norm(slope))))
    if tilt > TILT_DEGREES and np.linalg.norm(sideways[-1]) > 2 * rounding:
        raise UserError(f"{name} was taken with a gantry tilt of {tilt:.1f} degrees; resample it to a straight grid")
    off = np.linalg.norm(sideways - along[:, None] * slope, axis=1)
    step = along[-1] / (len(along) - 1)
    if off.max() > max(np.tan(np.radians(TILT_DEGREES)) * step, 2 * rounding):
        frame = ordered[int(np.argmax(off))]
        raise UserError(
            f"{name}: {frame.name} is shifted sideways by {off.max():.3g} mm against the other slices; "
            "resample the series to a straight grid"
        )
