"""NIfTI-1 headers: the two transforms that place the voxels (sform and qform), and the repair of a sheared sform.

ITK reads the voxels. It does not say where the two transforms disagree, and it refuses a sheared one: axes that are not
at right angles, as rounding and affine registration leave them.
"""

import gzip
import itertools
import shutil
import struct
import zlib
from pathlib import Path
from typing import IO, Literal, NamedTuple, cast

import numpy as np

from unetrpp.core.errors import UserError
from unetrpp.core.files import write_atomically
from unetrpp.io.geometry import Geometry, world_mm

HEADER = 348  # bytes
DIMENSIONS, SPACING, CODES, QUATERNION, SFORM = 40, 76, 252, 256, 280  # offsets in bytes
MOST_SHEAR_DEGREES = 1.0  # that is repaired: 1.7 mm at 100 mm from the centre


class Transforms(NamedTuple):
    """The transforms from voxel indices (x, y, z, 1) to RAS mm, (3, 4) each; None where the header has none (code 0)."""

    shape_xyz: tuple[int, int, int]
    sform: np.ndarray | None
    qform: np.ndarray | None

    def corners_mm(self) -> dict[str, np.ndarray]:
        """The image's eight corners in RAS mm, (8, 3), by each transform; the first row is the first voxel, the last the last."""
        corners = np.array([(*c, 1) for c in itertools.product(*((0, n - 1) for n in self.shape_xyz))])
        return {k: corners @ m.T for k, m in (("sform", self.sform), ("qform", self.qform)) if m is not None}

    def distance_mm(self) -> float:
        """The largest distance between the places that the two give a corner; 0 where there is only one transform."""
        first, *others = self.corners_mm().values() or [np.zeros((8, 3))]
        return max((float(np.linalg.norm(first - other, axis=1).max()) for other in others), default=0.0)

    def used_for(self, geometry: Geometry) -> str:
        """Which of the two, "sform" or "qform", ITK took this geometry from."""
        last = np.array([geometry.shape_zyx]) - 1
        ends = world_mm(geometry, np.concatenate([last * 0, last])) * (-1, -1, 1)  # LPS to RAS
        corners = self.corners_mm()
        return min(corners, key=lambda name: float(np.linalg.norm(corners[name][[0, -1]] - ends, axis=1).max()))


def read_transforms(path: Path) -> Transforms | None:
    """The transforms in a file's header; None for a file that is not NIfTI-1."""
    header, order = _header(path)
    if not order:
        return None
    x, y, z = struct.unpack_from(order + "3h", header, DIMENSIONS + 2)
    qform_code, sform_code = struct.unpack_from(order + "2h", header, CODES)
    sform = np.array(struct.unpack_from(order + "12f", header, SFORM)).reshape(3, 4)
    return Transforms(
        (max(x, 1), max(y, 1), max(z, 1)),
        sform if sform_code > 0 else None,
        _qform(header, order) if qform_code > 0 else None,
    )


def shear_degrees(transform: np.ndarray) -> float:
    """The largest deviation from a right angle between two axes of a (3, 3) or (3, 4) transform.

    >>> float(round(shear_degrees(np.array([[1.0, 0.0, 0.0, 0.0], [0.0, 2.0, 0.0, 0.0], [0.0, 2.0, 2.0, 0.0]])), 6))
    45.0
    """
    cosines = transform[:, :3] / np.linalg.norm(transform[:, :3], axis=0)
    largest = np.abs(cosines.T @ cosines - np.eye(3)).max()
    return float(np.degrees(np.arcsin(min(largest, 1.0))))


def require_repairable(path: Path) -> tuple[np.ndarray, tuple[int, int, int]]:
    """The sheared sform (3, 4) of a file that can be repaired, and its shape (x, y, z).

    Raises:
        UserError: there is no sform, or its shear is above MOST_SHEAR_DEGREES, too much for a rounding error.
    """
    transforms = read_transforms(path)
    if transforms is None or transforms.sform is None:
        raise UserError(f"{path.name} has a sheared direction matrix, which ITK refuses; orthonormalise its header")
    if not np.linalg.norm(transforms.sform[:, :3], axis=0).all() or not np.isfinite(transforms.sform).all():
        raise UserError(f"the sform of {path.name} gives an axis no length or direction; write a valid header")
    degrees = shear_degrees(transforms.sform)
    if degrees > MOST_SHEAR_DEGREES:
        raise UserError(
            f"{path.name} is sheared by {degrees:.2g} degrees, which ITK refuses; --fix repairs up to "
            f"{MOST_SHEAR_DEGREES:g} degree only; resample it onto a grid with right angles"
        )
    return transforms.sform, transforms.shape_xyz


def write_without_shear(path: Path, target: Path) -> float:
    """Copy a file, with its sheared sform replaced by the nearest orthogonal one of equal spacing about the same centre.

    Returns:
        How far a corner moved, in mm.

    Raises:
        UserError: see :func:`require_repairable`.
    """
    (sform, shape), (header, order) = require_repairable(path), _header(path)
    spacing = np.linalg.norm(sform[:, :3], axis=0)
    orthogonal = _nearest_orthogonal(sform, spacing, np.array(shape))
    changed = bytearray(header)
    struct.pack_into(order + "3f", changed, SPACING + 4, *spacing)
    struct.pack_into(order + "h", changed, CODES, 0)  # no qform: it may disagree
    struct.pack_into(order + "12f", changed, SFORM, *orthogonal.ravel())
    write_atomically(target, lambda temporary: _copy(path, temporary, bytes(changed)))
    return Transforms(shape, sform, orthogonal).distance_mm()


def _nearest_orthogonal(sform: np.ndarray, spacing: np.ndarray, shape_xyz: np.ndarray) -> np.ndarray:
    """The orthogonal factor of the polar decomposition is the nearest orthogonal matrix (Higham 1986)."""
    u, _, v = np.linalg.svd(sform[:, :3] / spacing)
    axes, center = (u @ v) * spacing, (shape_xyz - 1) / 2
    offset = sform[:, :3] @ center + sform[:, 3] - axes @ center
    return np.column_stack([axes, offset])


def _header(path: Path) -> tuple[bytes, str]:
    """The header and its byte order in struct's notation; both empty where the file is not NIfTI-1."""
    if not path.name.lower().endswith((".nii", ".nii.gz")) or not path.is_file():
        return b"", ""
    try:
        with _open(path, "rb") as file:
            header = file.read(HEADER)
    except (OSError, EOFError, zlib.error):
        return b"", ""
    if len(header) < HEADER:
        return b"", ""
    return header, next((o for o in "<>" if struct.unpack_from(o + "i", header)[0] == HEADER), "")


def _open(path: Path, mode: Literal["rb", "wb"]) -> IO[bytes]:
    return cast(IO[bytes], gzip.open(path, mode)) if path.suffix.lower() == ".gz" else path.open(mode)


def _qform(header: bytes, order: str) -> np.ndarray:
    """The (3, 4) transform of NIfTI-1's quaternion (nifti1.h, method 2)."""
    b, c, d, *offset = struct.unpack_from(order + "6f", header, QUATERNION)
    handedness, *spacing = struct.unpack_from(order + "4f", header, SPACING)
    a = max(0.0, 1.0 - b * b - c * c - d * d) ** 0.5
    rotation = np.array(
        [
            [a * a + b * b - c * c - d * d, 2 * (b * c - a * d), 2 * (b * d + a * c)],
            [2 * (b * c + a * d), a * a + c * c - b * b - d * d, 2 * (c * d - a * b)],
            [2 * (b * d - a * c), 2 * (c * d + a * b), a * a + d * d - b * b - c * c],
        ]
    )
    axes = rotation * spacing * np.array([1.0, 1.0, -1.0 if handedness < 0 else 1.0])
    return np.column_stack([axes, offset])


def _copy(source: Path, target: Path, header: bytes) -> None:
    with _open(source, "rb") as old, _open(target, "wb") as new:
        old.seek(HEADER)
        new.write(header)
        shutil.copyfileobj(old, new)
