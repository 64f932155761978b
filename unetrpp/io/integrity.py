"""Checks that an image file is complete and its voxels finite, because ITK does not check this for every format.

ITK reads a truncated NIfTI, TIFF, BMP or JPEG without an error and fills the missing voxels with zeros, and it reads NaN
in a NIfTI as 0. Here the length that the header announces, gzip's checksum and the values of floats are checked. NRRD,
MetaImage and PNG need no check: ITK refuses damaged ones itself.
"""

import gzip
import math
import os
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from unetrpp.core.errors import UserError

NIFTI_HEADER = 348
NIFTI_FLOATS = {16: "f4", 64: "f8"}  # datatype codes
CHUNK = 1 << 20


def require_intact(path: Path) -> None:
    """Check a file of any format; formats that ITK checks itself pass.

    Raises:
        UserError: bytes are missing, a compressed file's checksum is wrong, a .nii.gz is not compressed, or a NIfTI holds NaN or infinity.
    """
    checks = {
        ".gz": _gzipped_nifti,
        ".nii": _nifti,
        ".tif": _tiff,
        ".tiff": _tiff,
        ".bmp": _bmp,
        ".jpg": _jpeg,
        ".jpeg": _jpeg,
    }
    check = checks.get(path.suffix.lower())
    if check is _gzipped_nifti and not _is_gzip(path):
        raise UserError(
            f"{path.name} is not compressed, though its name ends in .gz; compress it with gzip, or copy it again"
        )
    try:
        intact = check is None or check(path)
    except (EOFError, gzip.BadGzipFile, zlib.error, struct.error):
        intact = False
    if not intact:
        raise UserError(
            f"{path.name} is damaged or truncated (bytes are missing or its checksum is wrong); copy it again"
        )


def matches_checksum(path: Path, voxels: np.ndarray) -> bool:
    """Whether gzip's checksum and length at the end of a .nii.gz are those of its header and ``voxels``, as ITK read them.

    This takes a third of the time of decompressing the file again. False does not mean that the file is damaged: where
    ITK converted voxels, and for other formats, :func:`require_intact` decides.
    """
    if not path.name.lower().endswith(".nii.gz") or not voxels.flags.c_contiguous:
        return False
    try:
        with gzip.open(path) as file:
            header = file.read(NIFTI_HEADER)
            header += file.read(max(0, int(struct.unpack_from("<f", header, 108)[0]) - NIFTI_HEADER))
        with path.open("rb") as file:
            file.seek(-8, os.SEEK_END)
            checksum, length = struct.unpack("<2I", file.read(8))
    except (OSError, EOFError, zlib.error, struct.error, ValueError, OverflowError):
        return False
    if (len(header) + voxels.nbytes) % (1 << 32) != length or zlib.crc32(voxels.data, zlib.crc32(header)) != checksum:
        return False
    return voxels.dtype.kind != "f" or bool(np.isfinite(voxels).all())


def _gzipped_nifti(path: Path) -> bool:
    """Whether all bytes are there; reading to the end also makes gzip compare its checksum and length."""
    with gzip.open(path) as file:
        return _nifti_stream(path, file)


def _is_gzip(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(2) == b"\x1f\x8b"


def _nifti(path: Path) -> bool:
    with path.open("rb") as file:
        return _nifti_stream(path, file)


def _nifti_stream(path: Path, file: BinaryIO | gzip.GzipFile) -> bool:
    """Whether all bytes are there.

    Raises:
        UserError: a voxel is NaN or infinite, which ITK would read as 0 without a warning.
    """
    header = file.read(NIFTI_HEADER)
    order = next((o for o in "<>" if struct.unpack_from(o + "i", header)[0] == NIFTI_HEADER), None)
    if order is None:  # not NIfTI-1: ITK decides, and only gzip's checksum is compared
        return all(True for _ in iter(lambda: file.read(CHUNK), b""))
    dimensions = struct.unpack_from(order + "8h", header, 40)
    kind, bits = struct.unpack_from(order + "2h", header, 70)
    offset = int(struct.unpack_from(order + "f", header, 108)[0]) if header[344:347] == b"n+1" else NIFTI_HEADER
    missing = math.prod(dimensions[1 : 1 + dimensions[0]]) * bits // 8
    gap = max(0, offset - len(header))
    gap -= len(file.read(gap))
    while chunk := file.read(CHUNK):
        missing -= len(chunk)
        if kind in NIFTI_FLOATS and not _finite(chunk, order + NIFTI_FLOATS[kind]):
            raise UserError(f"{path.name} holds voxels that are NaN or infinite; replace them")
    return gap == 0 and missing <= 0


def _finite(chunk: bytes, kind: str) -> bool:
    complete = len(chunk) // np.dtype(kind).itemsize  # voxels; the last one may be truncated
    return bool(np.isfinite(np.frombuffer(chunk, kind, complete)).all())


def _bmp(path: Path) -> bool:
    """The header gives the length of the file."""
    with path.open("rb") as file:
        length: int = struct.unpack("<2xI", file.read(6))[0]
    return length <= path.stat().st_size


def _jpeg(path: Path) -> bool:
    """A JPEG ends with the marker FFD9, after which some cameras write zeros."""
    return path.read_bytes().rstrip(b"\0").endswith(b"\xff\xd9")


def _tiff(path: Path) -> bool:
    """Every strip and tile ends within the file."""
    size = path.stat().st_size
    with path.open("rb") as file:
        return all(start + length <= size for start, length in _tiff_segments(file))


# TIFF 6.0: the tags of the offsets and of the lengths of strips and tiles; type code -> format character of struct.
# Type 16 is BigTIFF's.
_OFFSETS, _LENGTHS = (273, 324), (279, 325)
_INTEGERS = {3: "H", 4: "I", 16: "Q"}


def _tiff_segments(file: BinaryIO) -> Iterator[tuple[int, int]]:
    """(offset, length) of every strip or tile of every page."""
    order = {b"II": "<", b"MM": ">"}.get(file.read(2), "<")
    big = struct.unpack(order + "H", file.read(2))[0] == 43
    word, count_type, entry = ("Q", "Q", "HHQ8s") if big else ("I", "H", "HHI4s")
    file.seek(8 if big else 4)
    page = _unpack(file, order + word)[0]
    while page:
        file.seek(page)
        entries = [_unpack(file, order + entry) for _ in range(_unpack(file, order + count_type)[0])]
        page = _unpack(file, order + word)[0]
        values = {e[0]: _tiff_values(file, order, e) for e in entries if e[0] in (*_OFFSETS, *_LENGTHS)}
        for offsets, lengths in zip(_OFFSETS, _LENGTHS, strict=True):
            yield from zip(values.get(offsets, ()), values.get(lengths, ()), strict=True)


def _tiff_values(file: BinaryIO, order: str, entry: tuple[Any, ...]) -> tuple[int, ...]:
    """The values of a tag: in the field of its entry where they fit, else at the offset that the field gives."""
    _, kind, count, field = entry
    form = f"{order}{count}{_INTEGERS[kind]}"
    if struct.calcsize(form) <= len(field):
        return struct.unpack_from(form, field)
    file.seek(struct.unpack(order + ("Q" if len(field) == 8 else "I"), field)[0])
    return _unpack(file, form)


def _unpack(file: BinaryIO, form: str) -> tuple[Any, ...]:
    return struct.unpack(form, file.read(struct.calcsize(form)))
