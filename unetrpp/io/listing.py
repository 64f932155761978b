"""What a folder holds: which entries are images, and which of those cannot be used whatever they are called."""

import os
from collections.abc import Collection, Iterable
from pathlib import Path

from unetrpp.core.files import is_dangling, is_system, walk
from unetrpp.core.text import escaped
from unetrpp.io.dicom import is_dicom, is_series
from unetrpp.io.formats import FILE_ENDINGS, ending_of, files_of_image, is_folder, reader_name

DICOM_ENDINGS = (".dcm", ".ima", ".dicom")
# Formats of images that no reader here takes; .img without its .hdr is one of them.
UNREAD = (
    ".mgz", ".mgh", ".img", ".img.gz", ".hdr.gz", ".mnc", ".gipl", ".gipl.gz", ".vtk", ".vti", ".gif", ".webp", ".jp2",
    ".heic", ".svs", ".czi", ".nd2", ".lif", ".dcm.gz",
)  # fmt: skip
PAIRS = ((".hdr", ".img"), (".HDR", ".IMG"))
# What stands behind the ending of an image that another program packed, or has not finished to write.
PACKED = (".gz", ".bz2", ".xz", ".zst", ".zip")
UNFINISHED = (".part", ".partial", ".crdownload", ".download", ".filepart", ".tmp")


def entries(folder: Path) -> list[Path]:
    """What lies in a folder, by name, without system files.

    Raises:
        OSError: the folder may not be opened.
    """
    return sorted(path for path in folder.iterdir() if not is_system(path))


def open_entries(folder: Path) -> list[Path]:
    """:func:`entries`, of which a folder that may not be opened has none; who lists a whole tree names that folder."""
    try:
        return entries(folder)
    except PermissionError:
        return []


def is_image(path: Path) -> bool:
    """Whether a file, a Zarr's folder, or a link that should lead to one, is an image by its name or its first bytes."""
    if is_system(path) or is_folder(path):
        return False
    if ending_of(path) or path.name.lower().endswith(DICOM_ENDINGS) or unreadable(path) is not None:
        return True
    try:
        return path.is_file() and is_dicom(path)
    except OSError:
        return False


def unreadable(path: Path) -> str | None:
    """Why an entry of a folder cannot be used whatever its name, and the repair; None where nothing is known against it."""
    name = path.name.lower()
    if is_dangling(path):
        return "is a link to something that is not there; fetch it (such as with git annex get)"
    if name.endswith(UNREAD) and not (path.is_dir() or _has_header(path)):
        return "is in a format that is not supported; convert it to NIfTI"
    if name.endswith(PACKED) and not ending_of(path) and ending_of(path.with_suffix("")):
        return f"is compressed in a way that is not supported ({path.suffix}); unpack it"
    if name.endswith(UNFINISHED) and ending_of(path.with_suffix("")):
        return "is an unfinished copy or download; complete it or remove it"
    could_be_image = path.is_dir() or ending_of(path) or name.endswith(DICOM_ENDINGS) or not path.suffix
    if could_be_image and not _is_allowed(path):
        return "cannot be read (permission denied); ask for the permission, or remove it"
    return None


def _has_header(path: Path) -> bool:
    return any(path.name.endswith(data) and path.with_suffix(header).exists() for header, data in PAIRS)


def _is_allowed(path: Path) -> bool:
    return os.access(path, os.R_OK | os.X_OK if path.is_dir() else os.R_OK)


def holds_series(folder: Path) -> bool:
    """Whether a folder holds a DICOM series itself; one that cannot be opened does not."""
    try:
        return is_folder(folder) and is_series(folder)
    except OSError:
        return False


def images_below(top: Path) -> Iterable[Path]:
    """The images in ``top`` and in all folders below it; not in system folders, nor the files of a Zarr."""
    return (path for path in walk(top) if is_image(path) and not any(map(_is_closed, path.relative_to(top).parents)))


def _is_closed(folder: Path) -> bool:
    return is_system(folder) or reader_name(folder) == "zarr"


def folder_with_images(top: Path) -> Path | None:
    """The first folder that holds an image: ``top`` itself or one below it."""
    return next((path.parent for path in images_below(top)), None)


def beside_slices(folder: Path) -> dict[Path, str]:
    """What else the folder of a DICOM series holds, with the repair: images of other formats, and folders with images.

    Its DICOM files are not listed: who reads the series takes every one of them or refuses it.
    """
    found: dict[Path, str] = {}
    if not is_folder(folder) or unreadable(folder) is not None:  # who reads the series says so
        return found
    for path in entries(folder):
        if is_folder(path):
            if unreadable(path) is not None or folder_with_images(path) is not None:
                found[path] = (
                    f"lies in the folder of the series {escaped(folder.name)}, so it is not searched; move it elsewhere"
                )
        elif path.name.lower().endswith((*FILE_ENDINGS, *UNREAD)):
            found[path] = f"is not a slice of the series {escaped(folder.name)}; move it elsewhere"
    return found


def parts_of(used: Collection[Path]) -> set[Path]:
    """All files of the images ``used``: also a header's data and a TIFF's sidecar, but not the slices in a folder."""
    return {part for path in used if path.is_file() for part in files_of_image(path)} | set(used)
