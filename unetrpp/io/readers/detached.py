"""Voxels in files beside their header, as MetaImage and NRRD may have them."""

from collections.abc import Iterable
from pathlib import Path

import numpy as np

from unetrpp.core.errors import UserError
from unetrpp.core.large_arrays import new_array, read_or_map
from unetrpp.io.readers.content import damaged, shown

MOST_FILES = 100_000  # of one image


def numbered_names(pattern: bytes) -> list[bytes]:
    """The names that a pattern with first, last and step stands for.

    >>> numbered_names(b"slice%02d.raw 1 5 2")
    [b'slice01.raw', b'slice03.raw', b'slice05.raw']
    """
    name, *numbers = pattern.split()
    try:
        first, last, step = [*(int(number) for number in numbers), 1][:3]
        if len(range(first, last + 1, step)) > MOST_FILES:
            return [pattern]
        return [name % number for number in range(first, last + 1, step)]
    except (TypeError, ValueError):  # a name that happens to hold %
        return [pattern]


def files_named(folder: Path, names: Iterable[bytes]) -> list[Path]:
    return [folder / name.decode("utf-8", "surrogateescape") for name in names if name]


def numbers_of(path: Path, text: bytes, dtype: np.dtype, count: int) -> np.ndarray:
    """Voxels that are written as text.

    Raises:
        UserError: fewer numbers than voxels, or words.
    """
    words = text.split()
    if len(words) < count:
        raise damaged(path, f"it holds {len(words)} of {count} numbers")
    try:
        return np.array(words[:count]).astype(dtype)
    except ValueError:
        raise damaged(path, "its voxels are not numbers") from None


def require_files(path: Path, files: Iterable[Path]) -> None:
    """
    Raises:
        UserError: a file that the header names is not there.
    """
    for file in files:
        if not file.is_file():
            raise UserError(f"{shown(path)} has its voxels in {shown(file)}, which does not exist; copy both together")


def gathered(path: Path, pieces: Iterable[tuple[Path, int]], needed: int) -> np.ndarray:
    """``needed`` bytes of voxels in equal shares from each (file, first byte); a negative first byte counts from the end.

    Raises:
        UserError: a file holds less than its share.
    """
    pieces = list(pieces)
    share = needed // len(pieces)
    found = []
    for file, start in pieces:
        content = read_or_map(file, start if start >= 0 else max(file.stat().st_size - share, 0), share)
        if len(content) < share:
            raise damaged(path, f"{len(content)} of {share} bytes of voxels are in {shown(file)}")
        found.append(content)
    return found[0] if len(found) == 1 else np.concatenate(found, out=new_array((share * len(found),), np.uint8))


def read_from(file: Path, start: int, size: int | None = None) -> bytes:
    available = max(file.stat().st_size - start, 0)
    with file.open("rb") as stream:
        stream.seek(start)
        return stream.read(available if size is None else min(size, available))
