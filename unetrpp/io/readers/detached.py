"""Voxels in files beside their header, as MetaImage and NRRD may have them."""

import os
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from unetrpp.core.errors import UserError, limit_of
from unetrpp.core.large_arrays import new_array, read_or_map
from unetrpp.io.readers.content import damaged, shown, unreadable

MOST_FILES = 10_000  # of one image
LONGEST_SHOWN = 100  # characters of a file's name in a message
# A name with one %d, then the first number, the last, the step, and the dimensions of a file, which are not used. No other form
# of printf: a header's %999999999d would take as much memory.
NUMBERED = re.compile(
    rb"([^%\s]*%0?[0-9]{0,2}d[^%\s]*)\s+([0-9]{1,9})\s+([0-9]{1,9})(?:\s+(-?[0-9]{1,9}))?(?:\s+[0-9])?"
)


def files_named(path: Path, data: bytes, lines: Iterable[bytes]) -> list[Path]:
    """The files of voxels that a header names; no file is touched.

    Args:
        path: of the header; the names are relative to its folder.
        data: the name of a file, a pattern for numbered ones, or LIST.
        lines: after the header, of which each is a name in a LIST.

    Raises:
        UserError: it names no file, or too many.
    """
    names = [data]
    if data.split()[0].upper() == b"LIST":
        names = [name for line in lines if (name := line.strip())]
        _require_count(path, len(names))
    elif numbered := NUMBERED.fullmatch(data):
        name, numbers = numbered[1], _numbers(*(int(number or 1) for number in numbered.groups()[1:]))
        _require_count(path, len(numbers))
        names = [name % number for number in numbers]
    return [path.parent / name.decode("utf-8", "surrogateescape") for name in names]


def _numbers(first: int, last: int, step: int) -> range:
    """With the last one; a step of 0 gives none.

    >>> list(_numbers(1, 5, 2)), list(_numbers(3, 1, -1)), list(_numbers(1, 5, 0))
    ([1, 3, 5], [3, 2, 1], [])
    """
    return range(first, last + (1 if step > 0 else -1), step) if step else range(0)


def _require_count(path: Path, count: int) -> None:
    if not 1 <= count <= MOST_FILES:
        raise UserError(
            f"{shown(path)} names {count} files of voxels, where 1 to {MOST_FILES} are read; save it as one file"
        )


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
        try:
            exists = file.is_file()
        except OSError as error:  # a name that is too long, or a folder that may not be entered
            raise _unreadable(path, file, error) from None
        if not exists:
            raise UserError(f"{shown(path)} has its voxels in {_name(file)}, which does not exist; copy both together")


def gathered(path: Path, pieces: Sequence[tuple[Path, int]], needed: int) -> np.ndarray:
    """``needed`` bytes of voxels in equal shares from each (file, first byte); a negative first byte counts from the end.

    Raises:
        UserError: a file holds less than its share or cannot be read, or there are no equal shares.
    """
    share = needed // len(pieces)
    if share * len(pieces) != needed:
        raise damaged(path, f"{needed} bytes of voxels cannot lie in {len(pieces)} files of equal size")
    found = []
    for file, start in pieces:
        content = part_of(path, file, start, share)
        if len(content) < share:
            raise damaged(path, f"{len(content)} of {share} bytes of voxels are in {_name(file)}")
        found.append(content)
    return found[0] if len(found) == 1 else np.concatenate(found, out=new_array((needed,), np.uint8))


def part_of(path: Path, file: Path, start: int, size: int | None = None) -> np.ndarray:
    """Bytes of a file of the image ``path``, as :func:`read_or_map` gives them; a negative ``start`` means the last ``size``.

    Raises:
        UserError: it cannot be read.
    """
    try:
        return read_or_map(file, start if start >= 0 else max(file.stat().st_size - (size or 0), 0), size)
    except OSError as error:
        raise _unreadable(path, file, error) from None


def read_from(file: Path, start: int, size: int | None = None) -> bytes:
    available = max(file.stat().st_size - start, 0)
    with file.open("rb") as stream:
        stream.seek(start)
        return stream.read(available if size is None else min(size, available))


def _unreadable(path: Path, file: Path, error: OSError) -> UserError | OSError:
    """What to raise for the error of a file that a header names."""
    if limit_of(error) is not None or error.errno is None:
        return unreadable(file, error)
    return UserError(
        f"{shown(path)} has its voxels in {_name(file)}, which cannot be read ({os.strerror(error.errno)}); save it as one file"
    )


def _name(file: Path) -> str:
    name = shown(file)
    return name if len(name) <= LONGEST_SHOWN else f"{name[:LONGEST_SHOWN]}..."
