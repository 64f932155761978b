"""What is checked of a zip file before anything in it is unpacked."""

import stat
import zipfile
from pathlib import Path

from unetrpp.core.errors import UserError

FLOOR = 100 << 20  # bytes that a small zip may unpack to
MOST_TIMES = 100  # its own size that a zip may unpack to; weights and measurements get at most a few times smaller
METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
ENCRYPTED = 1  # of the flags of a member


def require_plain(source: Path, archive: zipfile.ZipFile, most: int, *, folders: bool = False) -> None:
    """Refuse what an honest zip does not have, by its directory alone.

    Args:
        folders: whether folders may be members of their own, as general programs write them.

    Raises:
        UserError: more than ``most`` members, two of one name, a link, a device, an encrypted or unusually compressed member,
            or a size far beyond what the file can hold.
    """
    members = archive.infolist()
    if len(members) > most:
        raise UserError(f"{source} has {len(members)} members, more than {most}; export fewer folds")
    names = set[str]()
    for member in members:
        if fault := _fault(member, names, folders):
            raise UserError(f"{source} holds {member.filename[:100]!r}, {fault}; do not use this file")
        names.add(member.filename)
    total, size = sum(member.file_size for member in members), source.stat().st_size
    if total > max(MOST_TIMES * size, FLOOR):
        raise UserError(
            f"{source} would unpack to {total / 1e9:.1f} GB, {total / size:.0f} times its size; do not use this file"
        )


def _fault(member: zipfile.ZipInfo, names: set[str], folders: bool) -> str:
    if member.filename in names:
        return "a second member of this name"
    kinds = (0, stat.S_IFREG, stat.S_IFDIR) if folders and member.is_dir() else (0, stat.S_IFREG)
    if stat.S_IFMT(member.external_attr >> 16) not in kinds:
        return "which is a link, a folder or a device"
    if member.flag_bits & ENCRYPTED:
        return "which is encrypted"
    if member.compress_type not in METHODS:
        return f"compressed by method {member.compress_type}, which is not used for models"
    return ""


def require_stored(source: Path) -> None:
    """Refuse a checkpoint whose members are compressed: PyTorch stores them, so that one cannot unpack to more than its size.

    Files of another kind than zip, such as checkpoints of PyTorch before 1.6, are left to their reader.

    Raises:
        UserError: a member is compressed.
    """
    if not zipfile.is_zipfile(source):
        return
    with zipfile.ZipFile(source) as archive:
        if any(member.compress_type != zipfile.ZIP_STORED for member in archive.infolist()):
            raise UserError(
                f"{source} is compressed inside, as PyTorch never writes a checkpoint; do not use this file"
            )
