"""From columns of mm to a Geometry: the one check of directions and lengths that all formats share."""

from collections.abc import Iterable
from pathlib import Path

import numpy as np

from unetrpp.core.errors import UserError
from unetrpp.core.text import escaped, listed
from unetrpp.io.angles import has_right_angles, shear_degrees
from unetrpp.io.geometry import Geometry
from unetrpp.io.readers.content import shown

# Metric units of headers and of microscopes' metadata, in mm.
MM = {
    "m": 1000.0,
    "meter": 1000.0,
    "cm": 10.0,
    "centimeter": 10.0,
    "mm": 1.0,
    "millimeter": 1.0,
    "µm": 1e-3,
    "um": 1e-3,
    "\u03bcm": 1e-3,  # the Greek letter
    "micron": 1e-3,
    "microns": 1e-3,
    "micrometer": 1e-3,
    "nm": 1e-6,
    "nanometer": 1e-6,
}
NO_UNIT = ("", "?")  # then mm, as a NIfTI of unknown units
LONGEST_UNIT = 20  # characters of one in a message
MOST_SHEAR_DEGREES = 1.0  # that --fix takes away: 1.7 mm at 100 mm from the centre


class ShearedError(UserError):
    """An image is refused for axes that are not at right angles.

    Attributes:
        repairable: whether that is little enough for --fix.
    """

    def __init__(self, message: str, *, repairable: bool):
        super().__init__(message)
        self.repairable = repairable


def mm_per_unit(path: Path, units: Iterable[bytes]) -> float:
    """The unit that all axes of a header have, in mm; 1 without any.

    Raises:
        UserError: one that is not known, or several.
    """
    names = list(dict.fromkeys(unit.decode("utf-8", "replace").strip() for unit in units))
    factors = {1.0 if name in NO_UNIT else MM.get(name.lower()) for name in names} or {1.0}
    factor = factors.pop()
    if factor is None or factors:
        given = listed([repr(escaped(name[:LONGEST_UNIT])) for name in names])
        raise UserError(
            f"{shown(path)} has a spacing in {given}; write it in mm or in another metric unit for all axes"
        )
    return factor


def make_geometry(
    path: Path,
    columns: np.ndarray,
    origin_xyz_mm: np.ndarray,
    shape_xyz: tuple[int, ...],
    *,
    spacing_xyz_mm: np.ndarray | None = None,
) -> Geometry:
    """The grid whose voxel steps in LPS mm are the columns of a 2 x 2 or 3 x 3 matrix.

    Args:
        spacing_xyz_mm: lengths of the columns as the header gives them, where it does so apart from the directions.

    Raises:
        UserError: a length or a position that is no number, an axis without length, or sheared axes.
    """
    n = len(shape_xyz)
    lengths = np.linalg.norm(columns, axis=0)
    spacing = lengths if spacing_xyz_mm is None else np.asarray(spacing_xyz_mm, float)
    require_place(path, columns, origin_xyz_mm, spacing)
    require_right_angles(path, columns)
    matrix = np.eye(3)
    matrix[:n, :n] = columns / lengths
    x, y, z = (*shape_xyz, 1)[:3]
    sx, sy, sz = (*spacing.tolist(), 1.0)[:3]
    ox, oy, oz = (*np.asarray(origin_xyz_mm, float).tolist(), 0.0)[:3]
    return Geometry(
        shape_zyx=(int(z), int(y), int(x)),
        spacing_zyx_mm=(sz, sy, sx),
        origin_xyz_mm=(ox, oy, oz),
        direction=tuple(matrix.ravel().tolist()),
        dimensions=n,
    )


def require_place(path: Path, columns: np.ndarray, origin: np.ndarray, spacing: np.ndarray) -> None:
    """
    Raises:
        UserError: a number that is none, a spacing of 0 or below, or axes that span no space.
    """
    if not (np.isfinite(columns).all() and np.isfinite(origin).all() and np.isfinite(spacing).all()):
        raise UserError(
            f"{shown(path)} has a spacing, origin or direction that is not a number, so its position is unknown; "
            "write it again from its source"
        )
    if (spacing <= 0).any() or not np.linalg.norm(columns, axis=0).all():
        values = " x ".join(f"{v:g}" for v in spacing)
        raise UserError(f"{shown(path)} gives an axis no length or direction (spacing {values}); write a valid header")


def require_right_angles(path: Path, columns: np.ndarray) -> None:
    """
    Raises:
        ShearedError: two axes are not at right angles.
    """
    if not has_right_angles(columns):
        degrees = shear_degrees(columns)
        repairable = degrees <= MOST_SHEAR_DEGREES and len(columns) == 3
        repair = (
            "--fix (of unetrpp_plan_and_preprocess and unetrpp_predict) repairs it"
            if repairable
            else f"--fix repairs three axes by at most {MOST_SHEAR_DEGREES:g} degree; resample it onto a grid with right angles"
        )
        raise ShearedError(f"{shown(path)} is sheared by {degrees:.2g} degrees; {repair}", repairable=repairable)
