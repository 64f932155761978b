"""The two transforms of a NIfTI-1 header, and the mend of a sheared one. Voxels are read by ITK, never here."""

import gzip
import itertools
import shutil
import struct
import zlib
from pathlib import Path
from typing import NamedTuple

import numpy as np

from unetrpp.core.errors import UserError
from unetrpp.core.files import write_atomically
from unetrpp.io.geometry import Geometry, world_mm

HEADER = 348  # bytes
DIMENSIONS, SPACING, CODES, QUATERNION, SFORM = 40, 76, 252, 256, 280  # offsets of the fields used here
MOST_SHEAR_DEGREES = 1.0  # that may be taken away: 1.7 mm at 100 mm from the centre


class Transforms(NamedTuple):
    """From voxel indices (x, y, z, 1) to RAS mm, (3, 4) each; None where the header's code says that there is none."""

    shape_xyz: tuple[int, int, int]
    sform: np.ndarray | None
    qform: np.ndarray | None

    def corners_mm(self) -> dict[str, np.ndarray]:
        """RAS mm (8, 3) of the image's corners by each transform that there is, the farthest from the first voxel last."""
        corners = np.array([(*c, 1) for c in itertools.product(*((0, n - 1) for n in self.shape_xyz))])
        return {k: corners @ m.T for k, m in (("sform", self.sform), ("qform", self.qform)) if m is not None}

    def distance_mm(self) -> float:
        """How far apart the two place a corner of the image; 0 where there is only one."""
        first, *others = self.corners_mm().values() or [np.zeros((8, 3))]
        return max((float(np.linalg.norm(first - other, axis=1).max()) for other in others), default=0.0)

    def taken(self, geometry: Geometry) -> str:
        """By which of the two ITK read this grid."""
        last = np.array([geometry.shape_zyx]) - 1
        ends = world_mm(geometry, np.concatenate([last * 0, last])) * (-1, -1, 1)  # LPS to RAS
        corners = self.corners_mm()
        return min(corners, key=lambda name: float(np.linalg.norm(corners[name][[0, -1]] - ends, axis=1).max()))


def read_transforms(path: Path) -> Transforms | None:
    """None for a file that is no NIfTI-1."""
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
    """The largest departure of two of its axes from a right angle.

    >>> float(round(shear_degrees(np.array([[1.0, 0.0, 0.0, 0.0], [0.0, 2.0, 0.0, 0.0], [0.0, 2.0, 2.0, 0.0]])), 6))
    45.0
    """
    cosines = transform[:, :3] / np.linalg.norm(transform[:, :3], axis=0)
    largest = np.abs(cosines.T @ cosines - np.eye(3)).max()
    return float(np.degrees(np.arcsin(min(largest, 1.0))))


def require_little_shear(path: Path) -> tuple[np.ndarray, tuple[int, int, int]]:
    """The sheared sform of a file that can be repaired, and the shape (x, y, z).

    Raises:
        UserError: there is no sform, or more shear than MOST_SHEAR_DEGREES, which is no rounding.
    """
    transforms = read_transforms(path)
    if transforms is None or transforms.sform is None:
        raise UserError(f"{path.name} has a sheared direction matrix, which ITK refuses; orthonormalise its header")
    if not np.linalg.norm(transforms.sform[:, :3], axis=0).all() or not np.isfinite(transforms.sform).all():
        raise UserError(f"the sform of {path.name} gives an axis no length or direction; write a valid header")
    degrees = shear_degrees(transforms.sform)
    if degrees > MOST_SHEAR_DEGREES:
        raise UserError(
            f"{path.name} is sheared by {degrees:.2g} degrees, which ITK refuses and --fix mends up to "
            f"{MOST_SHEAR_DEGREES:g} degree only; resample it onto a grid with right angles"
        )
    return transforms.sform, transforms.shape_xyz


def write_straightened(path: Path, target: Path) -> float:
    """Copy a file, its sheared sform replaced by the nearest with right angles, the same spacing and the same centre.

    Returns:
        How far a corner moved, in mm.

    Raises:
        UserError: the shear is too large, or there is no sform.
    """
    (sform, shape), (header, order) = require_little_shear(path), _header(path)
    spacing = np.linalg.norm(sform[:, :3], axis=0)
    straight = _straightened(sform, spacing, np.array(shape))
    changed = bytearray(header)
    struct.pack_into(order + "3f", changed, SPACING + 4, *spacing)
    struct.pack_into(order + "h", changed, CODES, 0)  # the qform said something else
    struct.pack_into(order + "12f", changed, SFORM, *straight.ravel())
    write_atomically(target, lambda temporary: _copy(path, temporary, bytes(changed)))
    return Transforms(shape, sform, straight).distance_mm()


def _straightened(sform: np.ndarray, spacing: np.ndarray, shape_xyz: np.ndarray) -> np.ndarray:
    """The orthogonal factor of the polar decomposition is the nearest matrix with right angles."""
    u, _, v = np.linalg.svd(sform[:, :3] / spacing)
    axes, center = (u @ v) * spacing, (shape_xyz - 1) / 2
    offset = sform[:, :3] @ center + sform[:, 3] - axes @ center
    return np.column_stack([axes, offset])


def _header(path: Path) -> tuple[bytes, str]:
    """The first bytes and their order, empty where this is no NIfTI-1."""
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


def _open(path: Path, mode: str):  # type: ignore[no-untyped-def]
    return gzip.open(path, mode) if path.suffix.lower() == ".gz" else path.open(mode)


def _qform(header: bytes, order: str) -> np.ndarray:
    """NIfTI-1's quaternion (nifti1.h, method 2)."""
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
