"""Unpacking a downloaded .tar or .tar.gz file safely, whatever paths, links or sizes it holds."""

import gzip
import os
import shutil
import tarfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import BinaryIO, cast
from unicodedata import category, normalize

from unetrpp.core.errors import UserError, limit_of
from unetrpp.core.files import write_atomically

ENDINGS = (".tar", ".tar.gz", ".tgz")
MOST_FILES = 100_000  # far more than any published dataset has; a hostile archive could exhaust the disk's inodes
FLOOR = 1 << 30  # bytes that a small archive may unpack to
MOST_TIMES = (
    100  # its own size that an archive may unpack to; images get a few times smaller, labels are small beside them
)
LARGEST_READ = 1 << 22  # bytes; names and other records between the files are far smaller
GZIP = b"\x1f\x8b"
TURNING = (
    "\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"  # letters that show a name in another order than it has
)


def archive_stem(path: Path) -> str | None:
    """The archive's name without its ending; None where ``path`` is not an archive.

    >>> archive_stem(Path("Task04_Hippocampus.tar"))
    'Task04_Hippocampus'
    """
    return next((path.name.removesuffix(e) for e in ENDINGS[::-1] if path.name.lower().endswith(e)), None)


def unpack(archive: Path, target: Path) -> None:
    """Unpack the plain files of ``archive`` into ``target``; files that were unpacked before are kept.

    Metadata files of macOS (``._*``, ``.DS_Store``) are skipped. Nothing is written before all names are checked.

    Raises:
        UserError: the archive is damaged, holds a link, a device, a path outside of the folder or two files of one name, or
            unpacks to too much.
    """
    try:
        with _opened(archive) as tar:
            members = _checked(archive, tar)
            _require_space(archive, members, target)
            for member in members:
                _extract(tar, member, target / member.name)
    except (tarfile.TarError, EOFError, OSError, zlib.error) as error:
        if limit_of(error) is not None:  # of disk, files or permissions: the archive is not to blame
            raise
        raise UserError(f"{archive.name} cannot be unpacked ({error}); download it again") from None


class _ShortReads:
    """A file that refuses to read much at once: tarfile reads a name of any size into memory, also one of 10 GB of zeros."""

    def __init__(self, file: BinaryIO):
        self.file = file
        self.seek, self.tell, self.close = file.seek, file.tell, file.close

    def read(self, size: int = -1) -> bytes:
        if not 0 <= size <= LARGEST_READ:
            raise tarfile.ReadError(f"a record between the files claims {size} bytes")
        return self.file.read(size)


@contextmanager
def _opened(archive: Path) -> Iterator[tarfile.TarFile]:
    with archive.open("rb") as file:
        packed = file.read(len(GZIP)) == GZIP
    with (
        cast(BinaryIO, gzip.open(archive) if packed else archive.open("rb")) as content,
        tarfile.open(fileobj=cast(BinaryIO, _ShortReads(content)), mode="r:") as tar,
    ):
        yield tar


def _checked(archive: Path, tar: tarfile.TarFile) -> list[tarfile.TarInfo]:
    """The plain files. Each header is checked before what follows it is unpacked, so that a bomb is refused at once."""
    members: list[tarfile.TarInfo] = []
    names, total, most = set[str](), 0, max(FLOOR, MOST_TIMES * archive.stat().st_size)
    for count, member in enumerate(tar, 1):
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
        if not member.isfile() or path.name.startswith("._") or path.name == ".DS_Store":
            continue
        if str(path) in names:
            raise UserError(f"{archive.name} holds two files of the name {member.name!r}; do not use this archive")
        names.add(str(path))
        members.append(member)
    return members


def _require_safe(archive: Path, member: tarfile.TarInfo) -> None:
    path = PurePosixPath(member.name)
    # Backslash and colon would be separators on Windows.
    if path.is_absolute() or ".." in path.parts or any(c in member.name for c in "\\:\0"):
        raise UserError(f"{archive.name} holds {member.name!r}, a path outside of its folder; do not use this archive")
    if any(letter in TURNING or category(letter) == "Cc" for letter in member.name):
        raise UserError(
            f"{archive.name} holds {member.name!r}, a name with control characters; do not use this archive"
        )
    if member.issparse() or not (member.isfile() or member.isdir()):
        raise UserError(
            f"{archive.name} holds {member.name!r}, which is a link, a device or a sparse file; only plain files are unpacked"
        )


def _require_space(archive: Path, members: list[tarfile.TarInfo], target: Path) -> None:
    target.mkdir(parents=True, exist_ok=True)
    needed = sum(member.size for member in members if not _is_unpacked(member, target / member.name))
    free = shutil.disk_usage(target).free
    if needed > free:
        raise UserError(
            f"{archive.name} unpacks to {needed / 1e9:.1f} GB, but {free / 1e9:.1f} GB are free in {target}; free space"
        )


def _is_unpacked(member: tarfile.TarInfo, path: Path) -> bool:
    return path.is_file() and path.stat().st_size == member.size and int(path.stat().st_mtime) == int(member.mtime)


def _extract(tar: tarfile.TarFile, member: tarfile.TarInfo, path: Path) -> None:
    if _is_unpacked(member, path):
        return

    def write(temporary: Path) -> None:
        source = tar.extractfile(member)
        if source is None:
            raise tarfile.ReadError(f"{member.name} has no content")
        with source, temporary.open("wb") as file:
            shutil.copyfileobj(source, file)

    write_atomically(path, write)
    os.utime(path, (member.mtime, member.mtime))
