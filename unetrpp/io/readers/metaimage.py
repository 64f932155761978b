"""MetaImage (.mha, .mhd): the header by ITK, the voxels here, where their length and checksum are verified."""

import math
import re
from pathlib import Path

import numpy as np

from unetrpp.core.errors import UserError
from unetrpp.core.text import escaped
from unetrpp.io.geometry import Geometry
from unetrpp.io.readers import itk
from unetrpp.io.readers.content import damaged, require_content, require_format, shown
from unetrpp.io.readers.deflate import inflate
from unetrpp.io.readers.detached import files_named, gathered, numbers_of, part_of, read_from, require_files
from unetrpp.io.readers.grid import mm_per_unit
from unetrpp.io.readers.values import DECIMAL, exact

ENDINGS = (".mha", ".mhd")
IMAGE_IO = "MetaImageIO"  # of ITK
HEADER_BYTES = 1 << 16  # at most
LONGEST_SHOWN = 40  # characters of a field in a message
TYPES = {
    "MET_CHAR": "i1",
    "MET_UCHAR": "u1",
    "MET_SHORT": "i2",
    "MET_USHORT": "u2",
    "MET_INT": "i4",
    "MET_UINT": "u4",
    "MET_LONG": "i4",
    "MET_ULONG": "u4",
    "MET_LONG_LONG": "i8",
    "MET_ULONG_LONG": "u8",
    "MET_FLOAT": "f4",
    "MET_DOUBLE": "f8",
}
LINE = re.compile(rb"\s*|[\x20-\x7e\t]+=[^\0-\x08\x0b-\x1f\x7f]*")  # a name and a value
MOST_AXES = 4
# Fields of numbers -> how many there are for n axes, as a power of n. ITK takes a word for 0.
NUMBERS = {
    "dimsize": 1, "elementspacing": 1, "elementsize": 1, "offset": 1, "position": 1, "origin": 1,
    "transformmatrix": 2, "rotation": 2, "orientation": 2,
}  # fmt: skip
LAST_FIELD = re.compile(rb"^\s*ElementDataFile\s*=\s*(\S.*?)\s*$", re.MULTILINE)


class Header:
    """Fields of the text before the voxels, by lower-case names, and where the text ends."""

    def __init__(self, path: Path):
        first = require_content(path)
        require_format(path, first, *ENDINGS)
        with path.open("rb") as file:
            text = file.read(HEADER_BYTES)
        last = LAST_FIELD.search(text)
        if last is None:
            raise UserError(f"{shown(path)} is not a MetaImage (it names no ElementDataFile); copy it again")
        self.end = text.find(b"\n", last.start(1)) + 1 or len(text)
        lines = text[: self.end].splitlines()
        if broken := [line for line in lines if not LINE.fullmatch(line)]:
            raise damaged(path, f"its header has the line {escaped(broken[0][:40].decode('latin-1'))!r}")
        pairs = [line.partition(b"=") for line in lines]
        self.fields = {k.strip().lower().decode("latin-1"): v.strip() for k, _, v in pairs if v}
        self.path, self.data, self.rest = path, last[1], text[self.end :]

    def flag(self, name: str) -> bool:
        return self.fields.get(name, b"").lower() in (b"true", b"1")

    def number(self, path: Path, name: str, default: float) -> float:
        """
        Raises:
            UserError: the field holds a word.
        """
        try:
            return float(self.fields.get(name, default))
        except ValueError:
            word = self.fields[name].decode("latin-1")
            raise UserError(
                f"{shown(path)} has the {name} {word!r}, which is not a number; write a valid header"
            ) from None

    def dtype(self, path: Path) -> np.dtype:
        """
        Raises:
            UserError: a type that is not read.
        """
        name = self.fields.get("elementtype", b"").decode("latin-1").upper().removesuffix("_ARRAY")
        if name not in TYPES:
            raise UserError(
                f"{shown(path)} has voxels of the type {name}, which is not supported; save it as MET_FLOAT"
            )
        big = self.flag("binarydatabyteordermsb") or self.flag("elementbyteordermsb")
        return np.dtype((">" if big else "<") + TYPES[name])

    def others(self) -> list[Path]:
        """The files with the voxels; none where they follow the header.

        Raises:
            UserError: too many, or an empty list.
        """
        if self.data.upper() in (b"LOCAL", b"LOCAL:"):
            return []
        return files_named(self.path, self.data, self.rest.split(b"\n"))

    def mm_per_unit(self) -> float:
        """
        Raises:
            UserError: an unknown unit.
        """
        return mm_per_unit(self.path, [self.fields.get("distanceunits", b"")])


def read(path: Path) -> tuple[np.ndarray, Geometry]:
    """Voxels (C, Z, Y, X), whole numbers as they are and all others as float32, and their grid.

    Raises:
        UserError: missing, damaged, or sheared axes.
    """
    header = Header(path)
    _require_files(path, header)
    reader = itk.open_header(path, IMAGE_IO)
    geometry = itk.geometry_of(path, reader, header.mm_per_unit())
    voxels = _voxels(path, header, math.prod(reader.GetSize()) * reader.GetNumberOfComponents())
    return exact(path, itk.arranged(voxels, reader.GetSize(), reader.GetNumberOfComponents())), geometry


def _voxels(path: Path, header: Header, count: int) -> np.ndarray:
    """In the order of the file. ITK's own reader takes what a damaged file lacks from whatever lay in memory."""
    others = header.others()
    skipped = int(header.number(path, "headersize", 0)) if others else header.end
    dtype = header.dtype(path)
    if header.flag("compresseddata"):
        size = header.fields.get("compresseddatasize", b"")
        if size and not size.isdigit():
            raise damaged(path, f"its CompressedDataSize is {escaped(size.decode('latin-1'))!r}")
        file = others[0] if others else path
        compressed = part_of(path, file, max(skipped, 0), int(size) if size else None)
        return np.frombuffer(inflate(path, compressed.data, count * dtype.itemsize)[0], dtype)
    if header.fields.get("binarydata", b"true").lower() in (b"false", b"0"):
        text = b" ".join(part_of(path, file, 0).tobytes() for file in others) if others else read_from(path, header.end)
        return numbers_of(path, text, dtype, count)
    pieces = [(file, skipped) for file in others] or [(path, header.end)]
    return np.frombuffer(gathered(path, pieces, count * dtype.itemsize), dtype)


def read_header(path: Path) -> tuple[Geometry, int]:
    """Grid and channels.

    Raises:
        UserError: missing, of another format, or sheared axes.
    """
    header = Header(path)
    _require_files(path, header)
    reader = itk.open_header(path, IMAGE_IO)
    return itk.geometry_of(path, reader, header.mm_per_unit()), itk.channels_of(reader)


def parts(path: Path) -> list[Path]:
    """The file, and those that its header names.

    Raises:
        UserError: it has no header.
    """
    return [path, *Header(path).others()]


def _require_files(path: Path, header: Header) -> None:
    scaled = header.number(path, "elementtointensityfunctionslope", 1) != 1
    if scaled or header.number(path, "elementtointensityfunctionoffset", 0) != 0:
        raise UserError(f"{shown(path)} scales its values, which ITK ignores; write the scaled values")
    header.number(path, "headersize", 0)
    _require_numbers(path, header)
    require_files(path, header.others())


def _require_numbers(path: Path, header: Header) -> None:
    """
    Raises:
        UserError: a field of numbers holds words or more or fewer than there are axes, or an axis has no voxels.
    """
    axes = header.fields.get("ndims", b"")
    if not re.fullmatch(rb"\d{1,3}", axes) or not 1 <= int(axes) <= MOST_AXES:
        given = escaped(axes[:LONGEST_SHOWN].decode("latin-1"))
        raise UserError(f"{shown(path)} has NDims {given!r} instead of 1 to {MOST_AXES}; write a valid header")
    for name, power in NUMBERS.items():
        if name in header.fields:
            _require_numbers_in(path, header, name, int(axes) ** power)
    if not all(word.isdigit() and int(word) > 0 for word in header.fields.get("dimsize", b"").split()):
        raise UserError(
            f"{shown(path)} has a DimSize that does not consist of whole numbers of at least 1; write a valid header"
        )


def _require_numbers_in(path: Path, header: Header, name: str, count: int) -> None:
    words = header.fields[name].split()
    if len(words) != count or not all(DECIMAL.fullmatch(word) and math.isfinite(float(word)) for word in words):
        given = escaped(header.fields[name].decode("latin-1"))
        raise UserError(f"{shown(path)} has the {name} {given!r} instead of {count} numbers; write a valid header")
