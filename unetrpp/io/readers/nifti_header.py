"""Headers of NIfTI-1 and NIfTI-2, by nibabel: what is needed of them, after every field was checked."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import msgspec
import numpy as np
from nibabel.nifti1 import Nifti1Header
from nibabel.nifti2 import Nifti2Header
from nibabel.spatialimages import HeaderDataError

from unetrpp.core.errors import UserError
from unetrpp.core.text import escaped
from unetrpp.io.geometry import Geometry
from unetrpp.io.placement import QUATERNION, NiftiPlacement, chosen_transform, pixdim_mm
from unetrpp.io.readers.content import damaged, require_format, shown
from unetrpp.io.readers.grid import make_geometry

ENDINGS = (".nii.gz", ".nii", ".hdr", ".img")
# by their own first number
HEADERS: dict[int, Callable[..., Nifti1Header]] = {348: Nifti1Header, 540: Nifti2Header}
ORDERS: tuple[Literal["little", "big"], ...] = ("little", "big")
MOST_CODE = 5  # of a transform: "other template", since NIfTI-2
FLAT = 1e-6  # share of a step by which a photograph's axes may leave the plane
SAME_LENGTH, SCALE_LIMIT = 1e-4, 0.01  # shares by which pixdim and the sform's columns may differ: rounding, an error


@dataclass(frozen=True)
class Header:
    """What is needed of a header: ``shape`` is (x, y, z, channels), ``dimensions`` of the file's grid 2 or 3."""

    shape: tuple[int, int, int, int]
    dimensions: int
    dtype: np.dtype
    offset: int  # bytes before the voxels
    slope: float
    intercept: float
    geometry: Geometry

    @property
    def components(self) -> int:
        """3 or 4 colours of one voxel."""
        return len(self.dtype.names or ("one",))

    @property
    def channels(self) -> int:
        return self.shape[3] * self.components

    @property
    def voxel_bytes(self) -> int:
        return math.prod(self.shape) * self.dtype.itemsize


def checked_header(file: Path, raw: bytes, pair: bool, *, by_qform: bool = False) -> Header:
    """What the first bytes of a file say.

    Args:
        pair: of a .hdr, whose voxels are in a .img.
        by_qform: the qform places the image, whatever the codes say.

    Raises:
        UserError: no NIfTI, impossible fields, types that are not read, or a place that is not clear.
    """
    header = header_block(file, raw)
    if by_qform:
        header["sform_code"], header["qform_code"] = 0, max(1, int(header["qform_code"]))
    magic = bytes(header["magic"].item())  # of four bytes, the last one zero
    if magic not in ((b"ni1", b"ni2") if pair else (b"n+1", b"n+2")):
        raise UserError(_wrong_magic(file, magic, pair))
    shape, dimensions = _shape(file, header)
    return Header(
        shape,
        dimensions,
        _dtype(file, header),
        _offset(file, header, pair),
        *_scaling(file, header),
        _geometry(file, _placement(file, header), shape, dimensions),
    )


def header_block(file: Path, raw: bytes) -> Nifti1Header:
    """nibabel's header of the first bytes of a file.

    Raises:
        UserError: it is no NIfTI, or too short.
    """
    order: Literal["little", "big"] | None = next((o for o in ORDERS if int.from_bytes(raw[:4], o) in HEADERS), None)
    if order is None:
        require_format(file, raw, *ENDINGS)
        start = escaped(raw[:12].decode("latin-1"))
        raise UserError(f"{shown(file)} is not a NIfTI file (it starts with {start!r}); copy it again")
    size = int.from_bytes(raw[:4], order)
    if len(raw) < size:
        raise damaged(file, f"its header has {len(raw)} of {size} bytes")
    return HEADERS[size](raw[:size], endianness=order, check=False)


def _wrong_magic(file: Path, magic: bytes, pair: bool) -> str:
    if not pair and magic in (b"ni1", b"ni2"):
        return f"{shown(file)} is only a header, and its voxels are in another file; give the pair .hdr and .img"
    if pair and not magic.startswith(b"n"):
        return (
            f"{shown(file)} is an ANALYZE header, which does not tell left from right; convert it to NIfTI with the "
            "program that wrote it"
        )
    return f"{shown(file)} is not a NIfTI file (its header's last field is {magic!r}); copy it again"


def _shape(file: Path, header: Nifti1Header) -> tuple[tuple[int, int, int, int], int]:
    """(x, y, z, channels), and the dimensions of the grid."""
    count, *sizes = (int(n) for n in header["dim"])
    if not 1 <= count <= 7 or min(sizes[:count]) < 1:
        raise UserError(f"{shown(file)} has an impossible size (dim = {[count, *sizes]}); write a valid header")
    sizes = [*sizes[:count], *[1] * (7 - count)]
    others = [n for n in sizes[3:] if n > 1]
    if len(others) > 1:
        axes = " x ".join(map(str, sizes[:count]))
        raise UserError(f"{shown(file)} has more than four axes ({axes}); write one file for each volume or channel")
    x, y, z = sizes[:3]
    return (x, y, z, math.prod(others)), 2 if count <= 2 else 3


def _dtype(file: Path, header: Nifti1Header) -> np.dtype:
    try:
        dtype: np.dtype = header.get_data_dtype()
    except (HeaderDataError, KeyError):
        code = int(header["datatype"])
        raise UserError(f"{shown(file)} has voxels of the unknown type {code}; save it as int16 or float32") from None
    if dtype.kind == "c":
        raise UserError(f"{shown(file)} holds complex numbers; write the magnitude")
    if (dtype.kind not in "iuf" and not dtype.names) or dtype.itemsize > 8:
        raise UserError(f"{shown(file)} has voxels of the type {dtype}, which is not supported; save it as float32")
    return dtype


def _offset(file: Path, header: Nifti1Header, pair: bool) -> int:
    offset = float(header["vox_offset"])
    if not math.isfinite(offset) or offset < (0 if pair else len(header.binaryblock) + 4) or offset != int(offset):
        raise UserError(
            f"{shown(file)} says that its voxels start at byte {offset:g}, inside its header; copy it again"
        )
    return int(offset)


def _scaling(file: Path, header: Nifti1Header) -> tuple[float, float]:
    """nibabel's rules: a slope of 0 or one that is no number means none at all."""
    try:
        slope, intercept = header.get_slope_inter()
    except HeaderDataError:
        raise UserError(f"{shown(file)} has a scale factor without a finite offset; write a valid scl_inter") from None
    return (1.0, 0.0) if slope is None else (float(slope), float(intercept))


def _placement(file: Path, header: Nifti1Header) -> NiftiPlacement:
    def numbers(*fields: str, used: bool) -> tuple[float, ...]:
        values = np.concatenate([np.atleast_1d(header[field]).astype(float) for field in fields])
        return tuple((values if used else np.nan_to_num(values, posinf=0, neginf=0)).tolist())

    qform_code, sform_code = int(header["qform_code"]), int(header["sform_code"])
    for name, code in (("qform_code", qform_code), ("sform_code", sform_code)):
        if not 0 <= code <= MOST_CODE:
            raise UserError(f"{shown(file)} has the unknown {name} {code}; set it to a code from 0 to {MOST_CODE}")
    quaternion = numbers(*QUATERNION, used=qform_code > 0)
    pixdim = numbers("pixdim", used=True)
    return NiftiPlacement(
        pixdim=(pixdim[0], pixdim[1], pixdim[2], pixdim[3]),
        qform_code=qform_code,
        sform_code=sform_code,
        quaternion=(quaternion[0], quaternion[1], quaternion[2], quaternion[3], quaternion[4], quaternion[5]),
        sform=numbers("srow_x", "srow_y", "srow_z", used=sform_code > 0),
        units=int(header["xyzt_units"]) & 7,
    )


def _geometry(file: Path, placement: NiftiPlacement, shape: tuple[int, ...], dimensions: int) -> Geometry:
    """By the sform where it is valid, else the qform, else the lengths alone."""
    name, transform = chosen_transform(placement)
    columns, offset = transform[:, :3].copy(), transform[:, 3]
    flat = dimensions == 2 and not np.abs(columns[2, :2]).max() > FLAT * np.abs(columns[:, :2]).max()
    n = 2 if flat else 3
    if dimensions == 2 and not columns[:, 2].any():
        columns[:, 2] = np.cross(*(columns[:, :2] / np.linalg.norm(columns[:, :2], axis=0)).T)
    spacing = pixdim_mm(placement)[:n]
    if name == "sform":
        spacing = _spacing_of_sform(file, spacing, np.linalg.norm(columns, axis=0)[:n])
    geometry = make_geometry(file, columns[:n, :n], offset[:n], shape[:n], spacing_xyz_mm=spacing)
    return msgspec.structs.replace(geometry, nifti=placement)


def _spacing_of_sform(file: Path, pixdim: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """The lengths of the sform's columns, or pixdim where the two differ by rounding only.

    Raises:
        UserError: they differ in scale, so that programs measure different volumes.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        difference = np.abs(pixdim / lengths - 1)
    if np.isfinite(lengths).all() and lengths.all() and not (difference <= SCALE_LIMIT).all():
        by_sform, by_pixdim = (" x ".join(f"{v:.4g}" for v in values) for values in (lengths, pixdim))
        raise UserError(
            f"the sform of {shown(file)} gives voxels of {by_sform} mm, its pixdim {by_pixdim} mm; correct pixdim, or "
            "set sform_code to 0 if pixdim is right"
        )
    return pixdim if (difference <= SAME_LENGTH).all() else lengths
