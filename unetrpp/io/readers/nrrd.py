"""NRRD (.nrrd, .nhdr): the header by ITK, the voxels here, where their length and checksum are verified."""

import bz2
import math
import re
from pathlib import Path

import numpy as np

from unetrpp.core.errors import UserError
from unetrpp.core.text import escaped
from unetrpp.io.geometry import Geometry
from unetrpp.io.readers import itk
from unetrpp.io.readers.content import damaged, require_content, require_format, shown, unreadable
from unetrpp.io.readers.deflate import inflate
from unetrpp.io.readers.detached import files_named, gathered, numbers_of, part_of, read_from, require_files
from unetrpp.io.readers.grid import mm_per_unit
from unetrpp.io.readers.values import DECIMAL, exact

ENDINGS = (".nrrd", ".nhdr")
IMAGE_IO = "NrrdImageIO"  # of ITK
HEADER_BYTES = 1 << 20  # at most; 3D Slicer lists its segments there
END = re.compile(rb"\r?\n\r?\n")
TEXT, GZIP, BZIP2 = (b"text", b"txt", b"ascii"), (b"gzip", b"gz"), (b"bzip2", b"bz2")
CHUNK = 1 << 20
PLACING = ("dimension", "sizes", "spacings", "spacedirections", "spaceorigin")  # fields of numbers
UNPLACED = (b"", b"none", b"nan")  # instead of a number or a direction
PLACES = (b"domain", b"space", b"time")
SPATIAL = (b"domain", b"space")
QUOTED = re.compile(rb'"([^"]*)"')
TYPES = {  # NRRD's definition, section 5
    "i1": ("signed char", "int8", "int8_t"),
    "u1": ("uchar", "unsigned char", "uint8", "uint8_t"),
    "i2": ("short", "short int", "signed short", "signed short int", "int16", "int16_t"),
    "u2": ("ushort", "unsigned short", "unsigned short int", "uint16", "uint16_t"),
    "i4": ("int", "signed int", "int32", "int32_t"),
    "u4": ("uint", "unsigned int", "uint32", "uint32_t"),
    "i8": ("longlong", "long long", "long long int", "signed long long", "signed long long int", "int64", "int64_t"),
    "u8": ("ulonglong", "unsigned long long", "unsigned long long int", "uint64", "uint64_t"),
    "f4": ("float",),
    "f8": ("double",),
}


class Header:
    """Fields of the text before the voxels, by lower-case names without blanks, and where the text ends."""

    def __init__(self, path: Path):
        first = require_content(path)
        if not first.startswith(b"NRRD"):
            require_format(path, first, *ENDINGS)
            raise UserError(f"{shown(path)} is not an NRRD file (it does not start with NRRD); copy it again")
        text = read_from(path, 0, HEADER_BYTES)
        blank = END.search(text)
        size = path.stat().st_size
        if blank is None and size > HEADER_BYTES:
            raise damaged(path, f"its header does not end within {HEADER_BYTES} bytes")
        self.end = blank.end() if blank else size
        text = text[: blank.start() if blank else None]
        if b"\0" in text:  # Teem goes on after it in ways of its own
            raise damaged(path, "its header holds a byte of 0")
        self.lines = text.splitlines()[1:]
        self.path = path
        self.fields = dict(pair for line in self.lines if (pair := _field(line)))
        self.encoding = self.fields.get("encoding", b"raw").lower()

    def others(self) -> list[Path]:
        """The files with the voxels; none where they follow the header.

        Raises:
            UserError: too many, or an empty list.
        """
        for number, line in enumerate(self.lines, 1):
            if (field := _field(line)) and field[0] == "datafile":
                return files_named(self.path, field[1], self.lines[number:])
        return []

    def mm_per_unit(self) -> float:
        """Of the space, or else of the axes that lie in it.

        Raises:
            UserError: unknown or different units.
        """
        if "spaceunits" in self.fields:
            return mm_per_unit(self.path, QUOTED.findall(self.fields["spaceunits"])[:3])
        units = QUOTED.findall(self.fields.get("units", b""))
        kinds = [word.lower() for word in self.fields.get("kinds", b"").split()]
        if len(kinds) == len(units):
            units = [unit for unit, kind in zip(units, kinds, strict=True) if kind in SPATIAL]
        return mm_per_unit(self.path, units[:3])

    def number(self, field: str) -> int:
        """Of a field that is 0 where it is absent."""
        text = self.fields.get(field, b"0")
        return int(text) if re.fullmatch(rb"-?\d+", text) else 0

    def sizes(self) -> tuple[int, ...]:
        return tuple(int(word) for word in self.fields.get("sizes", b"").split())

    def axis_of_components(self, components: int) -> int:
        """The axis that is no place: by its kind, its missing direction, or its size, the first one."""
        kinds = [word.lower() for word in self.fields.get("kinds", b"").split()]
        directions = re.findall(rb"none|\([^)]*\)", self.fields.get("spacedirections", b""))
        sizes = self.sizes()
        for axis, size in enumerate(sizes):
            is_place = kinds[axis] in PLACES if len(kinds) == len(sizes) else False
            without = len(directions) == len(sizes) and directions[axis] == b"none"
            if size == components and (without or (not directions and not is_place)):
                return axis
        return 0

    def dtype(self, path: Path) -> np.dtype:
        """
        Raises:
            UserError: a type that is not read.
        """
        name = b" ".join(self.fields.get("type", b"").lower().split()).decode("latin-1")
        code = next((code for code, names in TYPES.items() if name in names), None)
        if code is None:
            raise UserError(f"{shown(path)} has voxels of the type {name}, which is not supported; save it as float")
        return np.dtype((">" if self.fields.get("endian", b"little").lower() == b"big" else "<") + code)


def _field(line: bytes) -> tuple[str, bytes] | None:
    """A field's name in lower case without blanks, and its value; None for a comment, a key of the user's own, or no value.

    ": " anywhere before ":=" makes it a field, as in Teem, by which ITK reads and opens the file that a header names.
    """
    name, _, value = line.partition(b":")
    if line.startswith(b"#") or b":=" in line.partition(b": ")[0] or not value.strip():
        return None
    return name.replace(b" ", b"").lower().decode("latin-1"), value.strip()


def read(path: Path) -> tuple[np.ndarray, Geometry]:
    """Voxels (C, Z, Y, X), whole numbers as they are and all others as float32, and their grid.

    Raises:
        UserError: missing, damaged, complex, sheared axes, or a compression that is not read.
    """
    header = _checked_header(path)
    reader = itk.open_header(path, IMAGE_IO)
    geometry = itk.geometry_of(path, reader, header.mm_per_unit())
    size, components = reader.GetSize(), reader.GetNumberOfComponents()
    voxels = _voxels(path, header, math.prod(size) * components)
    if components > 1:
        axis = header.axis_of_components(components)
        voxels = np.moveaxis(voxels.reshape(header.sizes()[::-1]), -1 - axis, -1)
    return exact(path, itk.arranged(voxels, size, components)), geometry


def read_header(path: Path) -> tuple[Geometry, int]:
    """Grid and channels.

    Raises:
        UserError: missing, of another format, or sheared axes.
    """
    header = _checked_header(path)
    reader = itk.open_header(path, IMAGE_IO)
    return itk.geometry_of(path, reader, header.mm_per_unit()), itk.channels_of(reader)


def parts(path: Path) -> list[Path]:
    """The file, and those that its header names.

    Raises:
        UserError: it has no header.
    """
    return [path, *Header(path).others()]


def _checked_header(path: Path) -> Header:
    header = Header(path)
    if header.encoding not in (b"raw", *TEXT, *GZIP, *BZIP2):
        name = header.encoding.decode("latin-1")
        raise UserError(f"{shown(path)} has the encoding {name}, which is not supported; save it with gzip")
    if b"complex" in header.fields.get("kinds", b"").lower():
        raise UserError(f"{shown(path)} holds complex numbers; write the magnitude")
    for name in PLACING:
        _require_numbers(path, header, name)
    require_files(path, header.others())
    return header


def _require_numbers(path: Path, header: Header, name: str) -> None:
    """ITK stops reading a number at the first character that does not belong to it, and says nothing.

    Raises:
        UserError: the field holds something that is neither a number nor the word for an axis without a place.
    """
    words = re.split(rb"[\s(),]+", header.fields.get(name, b"").strip(b" \t()"))
    if not all(DECIMAL.fullmatch(word) or word.lower() in UNPLACED for word in words):
        given = escaped(header.fields[name].decode("latin-1"))
        raise UserError(f"{shown(path)} has the {name} {given!r}, which are not numbers; write a valid header")


def _voxels(path: Path, header: Header, count: int) -> np.ndarray:
    """In the order of the file."""
    others = header.others()
    dtype = header.dtype(path)
    needed, skipped = count * dtype.itemsize, header.number("byteskip")
    if header.encoding == b"raw" and not header.number("lineskip"):
        pieces = [(file, skipped) for file in others] or [(path, header.end + skipped if skipped >= 0 else -1)]
        return np.frombuffer(gathered(path, pieces, needed), dtype)
    if len(others) > 1:
        raise UserError(f"{shown(path)} has its voxels in several files, compressed or as text; save it as one file")
    content = part_of(path, others[0], 0).tobytes() if others else read_from(path, header.end)
    for _ in range(header.number("lineskip")):
        content = content.partition(b"\n")[2]
    if header.encoding in TEXT:
        return numbers_of(path, content, dtype, count)
    unpacked: np.ndarray | bytes = content
    if header.encoding in GZIP:
        unpacked = inflate(path, content, needed + max(skipped, 0))[0]
    elif header.encoding in BZIP2:
        unpacked = _unpacked(path, content, needed + max(skipped, 0))
    if len(unpacked) < needed + max(skipped, 0):
        raise damaged(path, f"it holds {len(unpacked)} of {needed} bytes of its voxels")
    return np.frombuffer(unpacked, dtype, count, max(skipped, 0))


def _unpacked(path: Path, content: bytes, needed: int) -> bytes:
    """bzip2 compares the checksum of each block, and the last of them at the end."""
    decoder = bz2.BZ2Decompressor()
    try:
        unpacked = decoder.decompress(content, needed)
        while not decoder.eof and (decoder.decompress(b"", CHUNK) or not decoder.needs_input):
            pass
    except (OSError, EOFError) as error:
        raise unreadable(path, error, f"bzip2: {error}") from None
    if not decoder.eof:
        raise damaged(path, "the compressed data ends too early")
    return unpacked
