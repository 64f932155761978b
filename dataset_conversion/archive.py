"""Unpacking a downloaded .tar or .tar.gz file safely, whatever paths, links or sizes it holds."""

import os
import shutil
import tarfile
from pathlib import Path, PurePosixPath

from unetrpp.core.errors import UserError
from unetrpp.core.files import write_atomically

ENDINGS = (".tar", ".tar.gz", ".tgz")
MOST_FILES = 100_000  # far more than any published dataset has; a hostile archive could exhaust the disk's inodes


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
        UserError: the archive is damaged, holds a link, a device or a path outside of the folder, or does not fit on the disk.
    """
    try:
        with tarfile.open(archive) as tar:
            members = _checked(archive, tar)
            _require_space(archive, members, target)
            for member in members:
                _extract(tar, member, target / member.name)
    except (tarfile.TarError, EOFError, OSError) as error:
        raise UserError(f"{archive.name} cannot be unpacked ({error}); download it again or free disk space") from None


def _checked(archive: Path, tar: tarfile.TarFile) -> list[tarfile.TarInfo]:
    members: list[tarfile.TarInfo] = []
    for member in tar:
        _require_safe(archive, member)
        name = PurePosixPath(member.name).name
        if member.isfile() and not name.startswith("._") and name != ".DS_Store":
            members.append(member)
        if len(members) > MOST_FILES:
            raise UserError(f"{archive.name} holds more than {MOST_FILES} files; it is not a dataset")
    return members


def _require_safe(archive: Path, member: tarfile.TarInfo) -> None:
    path = PurePosixPath(member.name)
    # Backslash and colon would be separators on Windows.
    if path.is_absolute() or ".." in path.parts or any(c in member.name for c in "\\:\0"):
        raise UserError(f"{archive.name} holds {member.name!r}, a path outside of its folder; do not use this archive")
    if not (member.isfile() or member.isdir()):
        raise UserError(
            f"{archive.name} holds {member.name!r}, which is a link or a device; only plain files are unpacked"
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
