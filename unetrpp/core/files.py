"""Writing files and folders that are either complete or absent, and reading and writing records as JSON."""

import codecs
import json
import os
import shutil
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import msgspec

from unetrpp.core.errors import UserError
from unetrpp.core.leftovers import (
    remove_leftover,
    remove_leftovers,
    remove_leftovers_once,
    replaced_name,
    temporary_name,
)

T = TypeVar("T")
ROOM = 1 << 16  # bytes
PAUSES_S = (0.1, 0.3, 1.0, 3.0)
MOST_KEYS = 5  # that a message names
SYSTEM = ("thumbs.db", "desktop.ini", "dicomdir", "__macosx", "@eadir")  # and what starts with a dot


class Record(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Base of all records that are written to disk: immutable, and a misspelt key is an error.

    msgspec does not inherit ``kw_only``, and type checkers need ``frozen`` in every class, so a record is declared as
    ``class X(Record, frozen=True, kw_only=True)``.

    ``later_fields`` names the fields that were added after the first release; see :func:`unetrpp.core.digest.digest`.
    """

    later_fields: ClassVar[frozenset[str]] = frozenset()


def walk(top: Path) -> Iterator[Path]:
    """All files, folders and links below ``top`` by name, also below links to folders, which ``Path.rglob`` does not follow.

    A link to a folder that it lies in is not followed. A folder that may not be read, and one that is not there, counts as empty.
    """
    return _walk(top, frozenset({top.resolve()}))


def _walk(folder: Path, above: frozenset[Path]) -> Iterator[Path]:
    try:
        paths = sorted(folder.iterdir())
    except (PermissionError, FileNotFoundError, NotADirectoryError):
        return
    for path in paths:
        yield path
        if path.is_dir() and (real := path.resolve()) not in above:
            yield from _walk(path, above | {real})


def own_name(path: Path) -> str:
    """A path's name, that of the current folder for "." and of the folder above for ".."."""
    return path.resolve().name if path.name in ("", "..") else path.name


def is_system(path: Path) -> bool:
    """Whether an entry is hidden, or one that operating systems and media put into folders.

    >>> is_system(Path("a/._scan.nii.gz")), is_system(Path("a/Thumbs.db")), is_system(Path("a/scan.nii.gz"))
    (True, True, False)
    """
    return path.name.startswith(".") or path.name.lower() in SYSTEM


def is_dangling(path: Path) -> bool:
    """Whether a path is a link to something that is not there, as git-annex leaves them until the content is fetched."""
    return path.is_symlink() and not path.exists()


def write_atomically(path: Path, write: Callable[[Path], object]) -> None:
    """Let ``write`` fill a hidden temporary file beside ``path``, then rename it.

    The temporary name ends like ``path``, because writers choose the format by the ending, and starts with a dot, because
    listings skip such files. What killed processes left in the folder is removed first.
    """
    temporary = _temporary(path)
    try:
        write(temporary)
        _flush_to_disk(temporary)
        _rename(temporary, path)
    except OSError as error:
        # A name that the user knows; beside one, an error without a number would lose its words.
        if error.errno is not None and error.filename in (None, str(temporary)):
            error.filename = str(path)
        raise
    except RuntimeError as error:
        _add_reason(error, temporary, path)
        raise
    finally:
        _discard(temporary)


def require_room(path: Path) -> None:
    """Append to a file and take it back, which raises the OSError that ended a library's writing without a word.

    ITK's writers lose the end of a file on a full disk, or above a limit of a file's size, and report success.
    """
    with path.open("ab") as file:
        end = file.seek(0, os.SEEK_END)
        file.write(bytes(ROOM))
        file.flush()
        file.truncate(end)


def _add_reason(error: RuntimeError, temporary: Path, path: Path) -> None:
    """Raise what the system answers where a library in C++ failed without saying why; return where it answers nothing."""
    try:
        require_room(temporary)
    except OSError as reason:
        reason.filename = str(path)
        raise reason from error


def _discard(temporary: Path) -> None:
    """Where the folder became read-only there is no temporary file, or it cannot be helped; that must not hide the error."""
    with suppress(OSError):
        temporary.unlink(missing_ok=True)


def _temporary(path: Path) -> Path:
    """A hidden name beside ``path``. What a killed process of the same id left there is removed: it may be a hard link to a
    file that must not be overwritten."""
    path.parent.mkdir(parents=True, exist_ok=True)
    remove_leftovers_once(path.parent.absolute())
    temporary = path.with_name(temporary_name(path.name))
    remove_leftover(temporary)
    return temporary


def _rename(temporary: Path, path: Path) -> None:
    """On Windows a file that another program, such as a virus scanner, has open cannot be replaced: wait until it is closed."""
    for pause in PAUSES_S if sys.platform == "win32" else ():
        try:
            temporary.replace(path)
            return
        except PermissionError:
            time.sleep(pause)
    temporary.replace(path)


def _flush_to_disk(path: Path) -> None:
    if path.is_symlink():  # to a file of the user's, which need not be writable
        return
    with path.open("rb+") as file:
        os.fsync(file.fileno())


def link_or_copy(source: Path, target: Path) -> None:
    """Make ``target`` a hard link to ``source``, which takes no disk space; a copy where the file system has no hard links.

    Only for files that are replaced as a whole and never changed in place.
    """
    temporary = _temporary(target)
    try:
        os.link(source, temporary)
    except OSError:
        write_atomically(target, lambda copy: shutil.copyfile(source, copy))
        return
    try:
        _rename(temporary, target)
    finally:  # where target is the same file already, rename() leaves the link
        temporary.unlink(missing_ok=True)


def write_folder_atomically(
    target: Path, fill: Callable[[Path], T], *, replace: bool = False, hint: str = "remove it or give another folder"
) -> T:
    """Let ``fill`` write into an empty temporary folder beside ``target``, then rename it; returns what ``fill`` returns.

    The temporary folder has the target's own name, inside a hidden folder that is removed whatever happens. An empty
    folder at ``target`` counts as absent.

    Args:
        replace: whether a folder at ``target`` is replaced, once ``fill`` has succeeded; a file never is.
        hint: what the user can do where it must not be replaced.

    Raises:
        UserError: ``target`` exists, before ``fill`` is called.
    """
    remove_leftovers(target.parent)
    if target.is_file():
        raise UserError(f"{target} is a file, but a folder is to be written there; {hint}")
    if not replace and target.is_dir() and any(target.iterdir()):
        raise UserError(f"{target} exists already; {hint}")
    hidden = _temporary(target)
    try:
        folder = hidden / target.name
        folder.mkdir(parents=True)
        result = fill(folder)
        if target.exists():
            _rename(target, hidden / replaced_name(target.name))
        _rename(folder, target)
    finally:
        remove_leftover(hidden)  # where the new folder is not at its place, the old one comes back
    return result


def remove_folder(path: Path) -> None:
    """Delete a folder with all that it holds, if it exists. It disappears at once, not file by file, so that a process that is
    killed meanwhile leaves no folder with a part of its files."""
    remove_leftovers(path.parent)
    if path.exists():
        hidden = _temporary(path)
        _rename(path, hidden)
        remove_leftover(hidden)


def write_bytes(path: Path, content: bytes) -> None:
    """Write ``content`` atomically."""
    write_atomically(path, lambda temporary: temporary.write_bytes(content))


def write_together(files: Mapping[Path, bytes]) -> None:
    """Write several files atomically and at the same time: flushing all of them to disk takes about as long as one."""
    with ThreadPoolExecutor(len(files)) as threads:
        for future in [threads.submit(write_bytes, path, content) for path, content in files.items()]:
            future.result()


def to_json(content: object) -> bytes:
    """A record or plain containers as indented JSON in UTF-8. NaN becomes null, as always in msgspec."""
    return msgspec.json.format(msgspec.json.encode(content), indent=2) + b"\n"


def write_json(path: Path, content: object) -> None:
    """Write ``content`` atomically as :func:`to_json` gives it."""
    write_bytes(path, to_json(content))


def update_json(path: Path, content: object) -> None:
    """Write ``content`` as :func:`write_json` does, unless the file holds an equal record; then its bytes stay."""
    try:
        same = read_json(path, type(content)) == content
    except UserError:
        same = False
    if not same:
        write_json(path, content)


def read_json(path: Path, kind: type[T], hint: str = "restore the file or make it again") -> T:
    """Read JSON into ``kind``, a record type or another type that msgspec knows.

    Args:
        hint: what the user can do about a missing or broken file.

    Raises:
        UserError: the file is missing, is not JSON, or does not fit the type; the message names the place in the file.
    """
    try:
        # Editors on Windows write a byte order mark before UTF-8.
        return msgspec.json.decode(path.read_bytes().removeprefix(codecs.BOM_UTF8), type=kind)
    except FileNotFoundError:
        raise UserError(f"{path} does not exist; {hint}") from None
    except UnicodeDecodeError:
        raise UserError(f"{path} is not in UTF-8, as JSON must be; save it again with this encoding") from None
    except (msgspec.DecodeError, RecursionError) as error:
        raise UserError(f"{path}: {error}; {hint}") from None


def read_edited_json(path: Path, kind: type[T], hint: str = "restore the file or make it again") -> T:
    """:func:`read_json` for files that users write: a key that an object has twice is refused.

    Readers of JSON keep the last value of such a key, so a label or a case would be lost in silence.

    Raises:
        UserError: as :func:`read_json`, or a key is repeated.
    """
    found = read_json(path, kind, hint)
    repeated = _repeated_keys(path.read_bytes().removeprefix(codecs.BOM_UTF8))
    if repeated:
        what = "the key {} is" if len(repeated) == 1 else "the keys {} are each"
        named = ", ".join(map(repr, repeated[:MOST_KEYS])) + (" ..." if len(repeated) > MOST_KEYS else "")
        raise UserError(f"{path}: {what.format(named)} given twice in one object, where only one can count; remove one")
    return found


def _repeated_keys(content: bytes) -> list[str]:
    """The keys that some object of a JSON text has more than once."""
    repeated: dict[str, None] = {}

    def collect(pairs: list[tuple[str, object]]) -> dict[str, object]:
        found = dict(pairs)
        if len(found) < len(pairs):
            repeated.update(dict.fromkeys(key for key, times in Counter(key for key, _ in pairs).items() if times > 1))
        return found

    json.loads(content, object_pairs_hook=collect, parse_int=float, parse_float=float)  # int() has a limit of digits
    return list(repeated)


def read_json_lines(path: Path) -> list[dict[str, Any]]:
    """The objects of a .jsonl file, one per line; none where there is no file. Reading ends at a line that is not JSON, such as
    the last one after a crash."""
    entries: list[dict[str, Any]] = []
    for line in path.read_bytes().splitlines() if path.is_file() else ():
        try:
            entries.append(msgspec.json.decode(line))
        except msgspec.DecodeError:
            break
    return entries
