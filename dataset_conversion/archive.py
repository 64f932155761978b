"""Unpacking a downloaded .tar, .tar.gz or .zip file safely, whatever paths, links or sizes it holds."""

import gzip
import lzma
import os
import shutil
import stat
import tarfile
import time
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath
from typing import IO, BinaryIO, Literal, TypeAlias, cast
from unicodedata import category, normalize

from unetrpp.core.errors import UserError, limit_of
from unetrpp.core.files import write_atomically

ENDINGS = (".tar", ".tar.gz", ".tgz", ".zip")
MOST_FILES = 200_000  # TotalSegmentator 2 has 145,000; a hostile archive could exhaust the disk's inodes
FLOOR = 1 << 30  # bytes that a small archive may unpack to
MOST_TIMES = (
    100  # its own size that an archive may unpack to; images get a few times smaller, labels are small beside them
)
LARGEST_READ = 1 << 22  # bytes; names and other records between the files are far smaller
LARGEST_INDEX = 1 << 26  # bytes of the list of files at the end of a .zip; 100 to 200 a file are usual
GZIP = b"\x1f\x8b"
ZIP = b"PK\x03\x04"
UNPACKED = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA)  # methods that zipfile reads
DEFLATE64 = 9  # of Windows' Explorer, for large files
DAMAGED = (tarfile.TarError, zipfile.BadZipFile, lzma.LZMAError, zlib.error)
ENCRYPTED, UTF8 = 0x1, 0x800  # flags of a file in a .zip
TURNING = (
    "\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"  # letters that show a name in another order than it has
)


Kind: TypeAlias = Literal["file", "folder", "other"]


@dataclass(frozen=True)
class Member:
    """What an archive says of one of its files, folders or links."""

    name: str
    size: int  # bytes
    time: float  # of its last change
    kind: Kind
    open: Callable[[], IO[bytes] | None]


def archive_stem(path: Path) -> str | None:
    """The archive's name without its ending; None where ``path`` is not an archive.

    >>> archive_stem(Path("Task04_Hippocampus.tar")), archive_stem(Path("WORD.ZIP"))
    ('Task04_Hippocampus', 'WORD')
    """
    return next((path.name[: -len(e)] for e in ENDINGS if path.name.lower().endswith(e)), None)


def unpack(archive: Path, target: Path) -> None:
    """Unpack the plain files of ``archive`` into ``target``; files that were unpacked before are kept, and others
    in ``target``, of an earlier version of the archive, removed.

    Metadata files of macOS (``__MACOSX``, ``._*``, ``.DS_Store``) are skipped. Nothing is written before all names are checked.

    Raises:
        UserError: the archive is damaged or encrypted, holds a link, a device, a path outside of the folder or two files of
            one name, or unpacks to too much.
    """
    try:
        with _opened(archive) as content:
            members = _checked(archive, content)
            _require_space(archive, members, target)
            for member in members:
                _extract(member, target / member.name)
            _remove_others(target, {target / member.name for member in members})
    except (*DAMAGED, EOFError, OSError, UnicodeError, NotImplementedError) as error:
        if limit_of(error) is not None:  # of disk, files or permissions: the archive is not to blame
            raise
        raise UserError(f"{archive.name} cannot be unpacked ({error}); download it again") from None


class _ShortReads:
    """A file that refuses to read much at once.

    tarfile reads a name of any size into memory, also one of 10 GB of zeros, and zipfile the list of all files.
    """

    def __init__(self, file: BinaryIO, largest: int):
        self.file, self.largest = file, largest
        self.seek, self.tell, self.seekable, self.close = file.seek, file.tell, file.seekable, file.close

    def read(self, size: int = -1) -> bytes:
        if size > self.largest:
            raise tarfile.ReadError(f"a record between the files claims {size} bytes")
        content = self.file.read(size if size >= 0 else self.largest)
        if size < 0 and self.file.read(1):
            raise tarfile.ReadError(f"a record at its end has more than {self.largest} bytes")
        return content


@contextmanager
def _opened(archive: Path) -> Iterator[Iterable[Member]]:
    with archive.open("rb") as file:
        start = file.read(len(ZIP))
    if start == ZIP or archive.suffix.lower() == ".zip":
        with (
            archive.open("rb") as whole,
            zipfile.ZipFile(cast(BinaryIO, _ShortReads(whole, LARGEST_INDEX))) as packed,
        ):
            yield (_of_zip(archive, packed, info) for info in packed.infolist())
        return
    with (
        cast(BinaryIO, gzip.open(archive) if start.startswith(GZIP) else archive.open("rb")) as content,
        tarfile.open(fileobj=cast(BinaryIO, _ShortReads(content, LARGEST_READ)), mode="r:") as tar,
    ):
        yield (_of_tar(tar, info) for info in tar)


def _of_tar(tar: tarfile.TarFile, info: tarfile.TarInfo) -> Member:
    kind: Kind = "folder" if info.isdir() else "file" if info.isfile() and not info.issparse() else "other"
    return Member(info.name, info.size, info.mtime, kind, partial(tar.extractfile, info))


def _of_zip(archive: Path, packed: zipfile.ZipFile, info: zipfile.ZipInfo) -> Member:
    """
    Raises:
        UserError: the file is encrypted, or compressed by a method that Python does not have.
    """
    if info.flag_bits & ENCRYPTED:
        raise UserError(f"{archive.name} is encrypted; unpack it with its password, and give the folder")
    if info.compress_type not in UNPACKED:
        method = "Deflate64" if info.compress_type == DEFLATE64 else f"method {info.compress_type}"
        raise UserError(
            f"{archive.name} is compressed by {method}, which is not supported; unpack it with another program (such as 7-Zip), "
            "and give the folder"
        )
    name, of_unix = _zip_name(info), stat.S_IFMT(info.external_attr >> 16)
    if of_unix not in (0, stat.S_IFREG, stat.S_IFDIR):
        kind: Kind = "other"
    else:
        kind = "folder" if name.endswith("/") or of_unix == stat.S_IFDIR else "file"
    return Member(name, info.file_size, _zip_time(info), kind, partial(packed.open, info))


def _zip_name(info: zipfile.ZipInfo) -> str:
    """The whole name: zipfile ends it at a null character, and takes UTF-8 without its flag, as macOS writes it, for cp437."""
    try:
        return info.orig_filename if info.flag_bits & UTF8 else info.orig_filename.encode("cp437").decode("utf8")
    except UnicodeError:
        return info.orig_filename


def _zip_time(info: zipfile.ZipInfo) -> float:
    try:
        return time.mktime((*info.date_time, 0, 0, -1))
    except (ValueError, OverflowError):  # not every program writes a date
        return 0.0


def _checked(archive: Path, content: Iterable[Member]) -> list[Member]:
    """The plain files. Each is checked before what follows it is unpacked, so that a bomb is refused at once."""
    members: list[Member] = []
    names, total, most = set[str](), 0, max(FLOOR, MOST_TIMES * archive.stat().st_size)
    for count, member in enumerate(content, 1):
        _require_safe(archive, member)
        path = PurePosixPath(normalize("NFC", member.name))
        if count > MOST_FILES:
            raise UserError(f"{archive.name} holds more than {MOST_FILES} files; it is not a dataset")
        total += member.size
        if total > most:
            raise UserError(
                f"{archive.name} would unpack to more than {total / 1e9:.1f} GB, {total / archive.stat().st_size:.0f} times "
                "its size; do not use this archive"
            )
        if member.kind != "file" or _is_of_macos(path):
            continue
        if str(path) in names:
            raise UserError(f"{archive.name} holds two files of the name {member.name!r}; do not use this archive")
        names.add(str(path))
        members.append(member)
    return members


def _is_of_macos(path: PurePosixPath) -> bool:
    return path.name.startswith("._") or path.name == ".DS_Store" or "__MACOSX" in path.parts


def _require_safe(archive: Path, member: Member) -> None:
    path = PurePosixPath(member.name)
    if not path.parts and member.kind == "file":
        raise UserError(f"{archive.name} holds a file without a name; do not use this archive")
    # Backslash and colon would be separators on Windows.
    if path.is_absolute() or ".." in path.parts or any(c in member.name for c in "\\:\0"):
        raise UserError(f"{archive.name} holds {member.name!r}, a path outside of its folder; do not use this archive")
    if any(letter in TURNING or category(letter) == "Cc" for letter in member.name):
        raise UserError(
            f"{archive.name} holds {member.name!r}, a name with control characters; do not use this archive"
        )
    if member.kind == "other":
        raise UserError(
            f"{archive.name} holds {member.name!r}, which is a link, a device or a sparse file; only plain files are unpacked"
        )


def _require_space(archive: Path, members: list[Member], target: Path) -> None:
    target.mkdir(parents=True, exist_ok=True)
    needed = sum(member.size for member in members if not _is_unpacked(member, target / member.name))
    free = shutil.disk_usage(target).free
    if needed > free:
        raise UserError(
            f"{archive.name} unpacks to {needed / 1e9:.1f} GB, but {free / 1e9:.1f} GB are free in {target}; free space"
        )


def _remove_others(target: Path, members: set[Path]) -> None:
    """Remove all files below ``target`` but ``members``; links to folders are not followed."""
    known = {normalize("NFC", str(path)).casefold() for path in members}  # as file systems may show the names
    for folder, _, names in os.walk(target):
        for path in (Path(folder) / name for name in names):
            if normalize("NFC", str(path)).casefold() not in known:
                path.unlink()


def _is_unpacked(member: Member, path: Path) -> bool:
    return path.is_file() and path.stat().st_size == member.size and int(path.stat().st_mtime) == int(member.time)


def _extract(member: Member, path: Path) -> None:
    if _is_unpacked(member, path):
        return

    def write(temporary: Path) -> None:
        source = member.open()
        if source is None:
            raise tarfile.ReadError(f"{member.name} has no content")
        with source, temporary.open("wb") as file:
            shutil.copyfileobj(source, file)

    write_atomically(path, write)
    os.utime(path, (member.time, member.time))
