"""Writing NIfTI, and what a NIfTI header says twice: a result carries its image's transforms and their codes."""

import zlib
from pathlib import Path

import numpy as np
from msgspec import UNSET

from unetrpp.core.files import write_atomically, write_bytes
from unetrpp.io.geometry import GRID_LIMIT_VOXELS, SAME_GRID_VOXELS, Geometry, smallest_step_mm
from unetrpp.io.placement import (
    QUATERNION,
    RAS_TO_LPS,
    NiftiPlacement,
    chosen_transform,
    corner_distance_mm,
    qform_lps,
    sform_lps,
)

ENDINGS = (".nii.gz", ".nii", ".hdr")
MOST_NIFTI_1 = 32767  # voxels along an axis
EXTENSION = bytes(4)  # between header and voxels: there is none
LABEL_LEVEL, FLOAT_LEVEL = 6, 1  # of gzip: floats hardly get smaller by more
GZIP = 31  # zlib's code for gzip with the largest window; its header has no name and no time


def write_nifti(path: Path, array: np.ndarray, geometry: Geometry) -> None:
    """Write one channel (Z, Y, X) atomically, compressed where the name ends in .gz.

    The header's transforms, codes and unit are those of the image that ``geometry`` was read from, if it was a NIfTI;
    otherwise both transforms say where ``geometry`` lies.
    """
    array = _storable(array)
    _write_files(path, _header(array, geometry), array)


def nifti_bytes(array: np.ndarray, geometry: Geometry) -> bytes:
    """What :func:`write_nifti` would write into a .nii file, for programs that take it from memory."""
    array = _storable(array)
    return _before_voxels(_header(array, geometry)) + array.tobytes()


def _header(array: np.ndarray, geometry: Geometry):  # type: ignore[no-untyped-def]
    from nibabel.nifti1 import Nifti1Header
    from nibabel.nifti2 import Nifti2Header

    header = Nifti1Header() if max(array.shape) <= MOST_NIFTI_1 else Nifti2Header()
    header.set_data_dtype(array.dtype)
    header.set_data_shape(array.shape[: -geometry.dimensions - 1 : -1])
    header.set_slope_inter(1, 0)
    if geometry.nifti is not UNSET and _lies_at(geometry.nifti, geometry):
        _carry(header, geometry.nifti)
    else:
        affine = np.vstack([RAS_TO_LPS @ matrix_lps(geometry), [0, 0, 0, 1]])
        header.set_qform(affine, 1)
        header.set_sform(affine, 1)
        header.set_xyzt_units("mm")
    return header


def _before_voxels(header) -> bytes:  # type: ignore[no-untyped-def]
    """What a file that holds header and voxels begins with."""
    header["magic"], header["vox_offset"] = header.single_magic, len(header.binaryblock) + len(EXTENSION)
    start: bytes = header.binaryblock + EXTENSION
    return start


def _write_files(path: Path, header, array: np.ndarray) -> None:  # type: ignore[no-untyped-def]
    """One file, or a .hdr and the .img beside it."""
    if path.suffix.lower() == ".hdr":
        header["magic"], header["vox_offset"] = header.pair_magic, 0
        write_bytes(path.with_suffix(".img"), array.tobytes())
        write_bytes(path, header.binaryblock)
        return
    start = _before_voxels(header)
    level = FLOAT_LEVEL if array.dtype.kind == "f" else LABEL_LEVEL
    packed = zlib.compressobj(level, wbits=GZIP) if path.suffix.lower() == ".gz" else None

    def write(temporary: Path) -> None:
        with temporary.open("wb") as file:
            for part in (start, *array):
                file.write(packed.compress(part) if packed else part)
            if packed:
                file.write(packed.flush())

    write_atomically(path, write)


def matrix_lps(geometry: Geometry) -> np.ndarray:
    """From voxel indices (x, y, z, 1) to LPS mm, (3, 4)."""
    axes = np.array(geometry.direction).reshape(3, 3) * geometry.spacing_zyx_mm[::-1]
    return np.column_stack([axes, geometry.origin_xyz_mm])


def place_warnings(name: str, geometry: Geometry) -> list[str]:
    """What programs read differently in the header of the file ``name``, which a geometry is of; empty for other formats."""
    if geometry.nifti is UNSET:
        return []
    taken, _ = chosen_transform(geometry.nifti)
    sform, qform = sform_lps(geometry.nifti), qform_lps(geometry.nifti)
    found = []
    if sform is None and qform is None:
        found.append(
            f"{name} has neither sform nor qform, so its axes are taken to run to the right, to the front and up, as the NIfTI standard "
            "says; other programs may take left for right"
        )
    if sform is not None and qform is not None:
        distance = corner_distance_mm(sform, qform, geometry.shape_zyx[::-1])
        if not distance <= GRID_LIMIT_VOXELS * smallest_step_mm(geometry):
            found.append(f"sform and qform of {name} lie {distance:.3g} mm apart; the {taken} is used")
    if min(geometry.nifti.pixdim[1:]) < 0:
        found.append(f"pixdim of {name} holds negative lengths; their sign is ignored")
    return found


def _storable(array: np.ndarray) -> np.ndarray:
    if array.dtype.kind == "b":
        return array.astype(np.uint8)
    if array.dtype == np.float16:
        return array.astype(np.float32)
    return np.ascontiguousarray(array, array.dtype.newbyteorder("<"))


def _lies_at(placement: NiftiPlacement, geometry: Geometry) -> bool:
    """Whether the header's fields still say where the geometry lies, which may have been changed since."""
    _, transform = chosen_transform(placement)
    ours = matrix_lps(geometry)
    if geometry.dimensions == 2:  # the z axis is not the header's
        transform, ours = transform.copy(), ours.copy()
        transform[:, 2] = ours[:, 2] = transform[2, 3] = ours[2, 3] = 0
    distance = corner_distance_mm(transform, ours, geometry.shape_zyx[::-1])
    return distance <= SAME_GRID_VOXELS * smallest_step_mm(geometry)


def _carry(header, placement: NiftiPlacement) -> None:  # type: ignore[no-untyped-def]
    header["pixdim"][:4] = placement.pixdim
    header["qform_code"], header["sform_code"] = placement.qform_code, placement.sform_code
    for field, value in zip(QUATERNION, placement.quaternion, strict=True):
        header[field] = value
    for row, field in enumerate(("srow_x", "srow_y", "srow_z")):
        header[field] = placement.sform[4 * row : 4 * row + 4]
    header["xyzt_units"] = placement.units
