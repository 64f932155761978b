"""What a file really is, by its first bytes, so that a refusal gives the true reason and a repair that works."""

import errno
import os
from codecs import BOM_UTF8
from pathlib import Path

from unetrpp.core.errors import UserError, limit_of, system_refusal
from unetrpp.core.files import is_dangling
from unetrpp.core.text import escaped

FIRST_BYTES = 512
OF_THE_FILE = (errno.EACCES, errno.EPERM, errno.EIO)  # errors that other files need not have

# First bytes -> what the file is and what to do about it.
IMPOSTORS = (
    (b"version https://git-lfs", "is a Git LFS pointer instead of the image; fetch the image with: git lfs pull"),
    (b"BZh", "is compressed with bzip2, which is not supported; unpack it (bunzip2) and compress it with gzip"),
    (b"\xfd7zXZ", "is compressed with xz, which is not supported; unpack it (unxz) and compress it with gzip"),
    (
        b"\x28\xb5\x2f\xfd",
        "is compressed with zstd, which is not supported; unpack it (unzstd) and compress it with gzip",
    ),
    (b"PK\x03\x04", "is a ZIP archive; unpack it"),
    (b"Rar!", "is a RAR archive; unpack it"),
    (b"7z\xbc\xaf", "is a 7-Zip archive; unpack it"),
    (b"%PDF", "is a PDF document; export the image itself"),
)
ANNEX = b"/annex/objects/"  # in a pointer of git-annex, and in a link of it that was checked out as a text
# First bytes -> the format's name and the endings that its files have.
FORMATS = (
    (b"\x89PNG\r\n\x1a\n", "a PNG image", (".png",)),
    (b"\xff\xd8\xff", "a JPEG image", (".jpg", ".jpeg")),
    (b"BM", "a BMP image", (".bmp",)),
    (b"II*\0", "a TIFF image", (".tif", ".tiff")),
    (b"MM\0*", "a TIFF image", (".tif", ".tiff")),
    (b"II+\0", "a TIFF image", (".tif", ".tiff")),
    (b"MM\0+", "a TIFF image", (".tif", ".tiff")),
    (b"NRRD", "an NRRD image", (".nrrd", ".nhdr")),
    (b"GIF8", "a GIF image, which is not supported", ()),
    (b"RIFF", "a WebP image, which is not supported", ()),
    (b"\0\0\0\x0cjP  ", "a JPEG 2000 image, which is not supported", ()),
    (b"\x89HDF\r\n", "an HDF5 file, which is not supported", ()),
    (b"MINC", "a MINC image, which is not supported", ()),
    (b"\x1f\x8b", "compressed with gzip", (".gz",)),
)
WEB_PAGE = (b"<!doctype html", b"<html", b"<?xml")


def require_content(path: Path) -> bytes:
    """The first bytes of a file that exists, holds something and is no stand-in for an image.

    Raises:
        UserError: missing, empty, not readable, a folder, or a Git LFS pointer, a web page, an archive or alike.
    """
    if path.is_dir():
        raise UserError(f"{shown(path)} is a folder; give an image file")
    if is_dangling(path):
        raise UserError(f"{shown(path)} is a link to a file that is not there; fetch it (such as with git annex get)")
    if not path.exists():
        raise UserError(f"{shown(path, full=True)} does not exist; check the path or restore the file")
    try:
        with path.open("rb") as file:
            first = file.read(FIRST_BYTES)
    except OSError as error:
        raise unreadable(path, error) from None
    if not first:
        raise UserError(f"{shown(path)} is empty (0 bytes); copy it again")
    for magic, what in IMPOSTORS:
        if first.startswith(magic):
            raise UserError(f"{shown(path)} {what}")
    if len(first) < FIRST_BYTES and ANNEX in first:
        pointer = "is a git-annex pointer instead of the image; fetch the image with: git annex get, or datalad get"
        raise UserError(f"{shown(path)} {pointer}")
    if len(first) == FIRST_BYTES and not first.strip(b"\0"):
        raise UserError(f"{shown(path)} starts with zeros only, as after an interrupted copy; copy it again")
    if first.removeprefix(BOM_UTF8).lstrip().lower().startswith(WEB_PAGE):
        raise UserError(f"{shown(path)} is a web page instead of the image; download the image again")
    return first


def require_format(path: Path, first: bytes, *endings: str) -> None:
    """
    Raises:
        UserError: the first bytes are those of a format whose files have other endings than ``endings``.
    """
    for magic, name, usual in FORMATS:
        if first.startswith(magic) and not set(usual) & set(endings):
            repair = f"give its name the ending {usual[0]}" if usual else f"save it as {endings[0]}"
            raise UserError(f"{shown(path)} is {name}, though its name ends in {path.suffix}; {repair}")
    if first[128:132] == b"DICM":
        raise UserError(f"{shown(path)} is a DICOM file, though its name ends in {path.suffix}; give its folder")


def damaged(path: Path, found: str) -> UserError:
    """The refusal of a file that lost bytes or whose checksum is wrong, with what was found."""
    return UserError(f"{shown(path)} is damaged or truncated ({found}); copy it again")


def unreadable(path: Path, error: Exception, found: str | None = None) -> UserError | OSError:
    """What to raise for an error that reading met: a refusal of the file, unless the system refused memory or open files."""
    number = error.errno if isinstance(error, OSError) else None  # None also where the data of a gzip are wrong
    if number is not None and (number in OF_THE_FILE or limit_of(error) is None):
        return UserError(f"{shown(path)} cannot be read ({os.strerror(number)}); check its permissions and the disk")
    return system_refusal(error, shown(path)) or damaged(path, found or str(error) or type(error).__name__)


def shown(path: Path, full: bool = False) -> str:
    """A file's name, or its whole path, for a message."""
    return escaped(str(path) if full else path.name)
