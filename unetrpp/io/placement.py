"""The fields by which a NIfTI header places its voxels, kept as they stood, and the transforms that they mean.

NIfTI-1 knows two transforms, the sform and the qform, each with a code that says whether it counts. Programs differ
in which one they take. A segmentation therefore carries both, and both codes, just as its image has them: every program
puts the two at the same place, whichever rule it follows.
"""

import itertools

import numpy as np

from unetrpp.core.files import Record
from unetrpp.io.angles import has_right_angles

QUATERNION = ("quatern_b", "quatern_c", "quatern_d", "qoffset_x", "qoffset_y", "qoffset_z")  # header fields
UNITS_MM = {1: 1000.0, 3: 0.001}  # xyzt_units: metre, micrometre; 2 is mm, and 0 (unknown) is taken as mm
RAS_TO_LPS = np.diag([-1.0, -1.0, 1.0])
QUATERNION_ROUNDING = 1e-6  # by which float32 may bring b² + c² + d² above 1


class NiftiPlacement(Record, frozen=True, kw_only=True):
    """Raw header fields, in the file's own unit; those of a transform whose code is 0 may be anything."""

    pixdim: tuple[float, float, float, float]  # handedness of the qform, then the lengths of x, y, z
    qform_code: int
    sform_code: int
    quaternion: tuple[float, float, float, float, float, float]  # b, c, d, and the offset x, y, z
    sform: tuple[float, ...]  # 3 x 4, row by row
    units: int  # the spatial bits of xyzt_units


def mm_per_unit(placement: NiftiPlacement) -> float:
    return UNITS_MM.get(placement.units, 1.0)


def pixdim_mm(placement: NiftiPlacement) -> np.ndarray:
    """Lengths of x, y and z in mm; a negative one counts by its size, as in nibabel."""
    return np.abs(placement.pixdim[1:]) * mm_per_unit(placement)


def sform_lps(placement: NiftiPlacement) -> np.ndarray | None:
    """From voxel indices (x, y, z, 1) to LPS mm, (3, 4); None where its code is 0."""
    if placement.sform_code <= 0:
        return None
    return _ras_to_lps(np.array(placement.sform).reshape(3, 4) * mm_per_unit(placement))


def qform_lps(placement: NiftiPlacement) -> np.ndarray | None:
    """From voxel indices (x, y, z, 1) to LPS mm, (3, 4), by nifti1.h's method 2; None where its code is 0.

    A quaternion that is none gives a matrix of NaN.
    """
    if placement.qform_code <= 0:
        return None
    b, c, d = placement.quaternion[:3]
    rest = 1.0 - b * b - c * c - d * d
    a = np.sqrt(max(rest, 0.0)) if rest > -QUATERNION_ROUNDING else np.nan
    rotation = np.array(
        [
            [a * a + b * b - c * c - d * d, 2 * (b * c - a * d), 2 * (b * d + a * c)],
            [2 * (b * c + a * d), a * a + c * c - b * b - d * d, 2 * (c * d - a * b)],
            [2 * (b * d - a * c), 2 * (c * d + a * b), a * a + d * d - b * b - c * c],
        ]
    )
    handedness = -1.0 if placement.pixdim[0] < 0 else 1.0
    axes = rotation * pixdim_mm(placement) * (1.0, 1.0, handedness)
    offset = np.array(placement.quaternion[3:]) * mm_per_unit(placement)
    return _ras_to_lps(np.column_stack([axes, offset]))


def codeless_lps(placement: NiftiPlacement) -> np.ndarray:
    """nifti1.h's method 1, where both codes are 0: lengths alone, from the origin."""
    return _ras_to_lps(np.column_stack([np.diag(pixdim_mm(placement)), np.zeros(3)]))


def _ras_to_lps(transform: np.ndarray) -> np.ndarray:
    turned: np.ndarray = RAS_TO_LPS @ transform
    return turned


def chosen_transform(placement: NiftiPlacement) -> tuple[str, np.ndarray]:
    """The sform where it is valid, else the qform, else lengths alone, with its name.

    A sform without right angles or lengths gives way to a qform; one that is not even numbers does not, since programs
    that take it would find no place at all.
    """
    sform, qform = sform_lps(placement), qform_lps(placement)
    if sform is not None and (qform is None or not np.isfinite(sform).all() or has_right_angles(sform[:, :3])):
        return "sform", sform
    return ("qform", qform) if qform is not None else ("pixdim", codeless_lps(placement))


def corner_distance_mm(a: np.ndarray, b: np.ndarray, shape_xyz: tuple[int, ...]) -> float:
    """How far apart two transforms (3, 4) place a corner of the image."""
    corners = np.array([(*c, 1) for c in itertools.product(*((0, n - 1) for n in shape_xyz))])
    return float(np.linalg.norm(corners @ (a - b).T, axis=1).max())
