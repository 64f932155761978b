"""NIfTI-1 and NIfTI-2, one file or .hdr with .img: headers by nibabel, voxels verified against the file's checksum."""

import gzip
import zlib
from pathlib import Path

import numpy as np

from unetrpp.core.errors import UserError
from unetrpp.core.large_arrays import is_finite, new_array, read_or_map
from unetrpp.core.text import counted
from unetrpp.io.geometry import Geometry
from unetrpp.io.readers.content import damaged, require_content, require_format, shown, unreadable
from unetrpp.io.readers.deflate import GZIP, inflate
from unetrpp.io.readers.nifti_header import Header, checked_header, header_block
from unetrpp.io.readers.values import exact

HEADER_BYTES = 4096  # compressed ones that surely hold a header


def read(path: Path, *, by_qform: bool = False) -> tuple[np.ndarray, Geometry]:
    """Voxels (C, Z, Y, X), whole numbers as they are and all others as float32, and their grid.

    Args:
        by_qform: the qform places the image, whatever the codes say.

    Raises:
        UserError: missing, damaged, of another format, complex or not finite voxels, or a grid that is not clear.
    """
    head, image = _files(path)
    header = checked_header(head, _first_bytes(head), _is_pair(path), by_qform=by_qform)
    content = _content(path, image, header.offset + header.voxel_bytes)
    return _voxels(path, content, header), header.geometry


def read_header(path: Path, *, by_qform: bool = False) -> tuple[Geometry, int]:
    """Grid and channels; ``by_qform`` as for :func:`read`.

    Raises:
        UserError: missing, of another format, or a grid that is not clear.
    """
    head = _files(path)[0]
    header = checked_header(head, _first_bytes(head), _is_pair(path), by_qform=by_qform)
    return header.geometry, header.channels


def parts(path: Path) -> list[Path]:
    """The files that an image consists of."""
    return list(dict.fromkeys(_files(path)))


def _files(path: Path) -> tuple[Path, Path]:
    """The file of the header and the one of the voxels."""
    if not _is_pair(path):
        return path, path
    upper = path.suffix.isupper()
    return path.with_suffix(".HDR" if upper else ".hdr"), path.with_suffix(".IMG" if upper else ".img")


def _is_pair(path: Path) -> bool:
    return path.suffix.lower() in (".hdr", ".img")


def _is_gzip(path: Path) -> bool:
    return path.suffix.lower() == ".gz"


def whole_content(path: Path) -> bytes:
    """All bytes of a file of one part, inflated.

    Raises:
        UserError: the compressed data is damaged.
    """
    try:
        return gzip.decompress(path.read_bytes()) if _is_gzip(path) else path.read_bytes()
    except (OSError, EOFError, zlib.error) as error:
        raise unreadable(path, error) from None


def _first_bytes(file: Path) -> bytes:
    first = require_content(file)
    if not _is_gzip(file):
        if first.startswith(GZIP):
            raise UserError(
                f"{shown(file)} is compressed with gzip, though its name ends in {file.suffix}; rename it to .nii.gz"
            )
        with file.open("rb") as stream:
            return stream.read(HEADER_BYTES)
    if not first.startswith(GZIP):
        require_format(file, first, ".nii", ".gz")
        header_block(file, first)  # refuses what is no NIfTI either
        raise UserError(
            f"{shown(file)} is not compressed, though its name ends in .gz; rename it to .nii or compress it with gzip"
        )
    with file.open("rb") as stream:
        compressed = stream.read(HEADER_BYTES)
    try:
        return zlib.decompressobj(31).decompress(compressed, HEADER_BYTES)
    except zlib.error as error:
        raise damaged(file, f"gzip: {error}") from None


def _content(path: Path, file: Path, needed: int) -> np.ndarray:
    """The first ``needed`` bytes of a file, inflated, after the whole of it was verified."""
    if not _is_gzip(file):
        if not file.exists():
            raise UserError(
                f"{shown(file)}, which holds the voxels of {shown(path)}, does not exist; copy both together"
            )
        if (size := file.stat().st_size) < needed:
            raise damaged(file, f"it holds {size} of {needed} bytes")
        return read_or_map(file, size=needed)
    content, rest = inflate(file, read_or_map(file).data, needed)
    if rest.strip(b"\0"):  # tapes and some programs pad with zeros
        raise UserError(
            f"{shown(file)} has {counted(len(rest), 'byte')} after the end of its gzip stream; write it again with: "
            "gzip -dc OLD | gzip > NEW"
        )
    return content


def _voxels(path: Path, content: np.ndarray, header: Header) -> np.ndarray:
    """(C, Z, Y, X): whole numbers in the machine's byte order, or float32."""
    x, y, z, volumes = header.shape
    raw = np.frombuffer(content, header.dtype, x * y * z * volumes, header.offset).reshape(volumes, z, y, x)
    if header.components > 1:
        colours = [raw[name] for name in header.dtype.names or ()]
        return np.stack(colours, axis=1).reshape(-1, z, y, x)
    if (header.slope, header.intercept) != (1.0, 0.0):
        raw = np.multiply(raw, header.slope, out=new_array(raw.shape, np.float64), dtype=np.float64)
        raw += header.intercept
    # What was read uncompressed in the machine's byte order is returned as it is, not as a second copy.
    whole = raw.dtype.kind != "f"
    array = np.require(raw, raw.dtype.newbyteorder("="), ("C", "W", "A")) if whole else exact(path, raw)
    if array.dtype.kind == "f" and not is_finite(array):
        raise UserError(f"{shown(path)} holds voxels that are NaN or infinite; replace them")
    return array
