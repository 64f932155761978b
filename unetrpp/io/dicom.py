"""Whether a file or a folder is DICOM, by first bytes alone: pydicom takes a tenth of a second to import."""

from collections.abc import Iterator
from pathlib import Path

OLD_START = (b"UL", b"CS", b"UI")  # value representations that the first element of a file without preamble may have


def is_dicom(path: Path) -> bool:
    """Whether a file is DICOM: ``DICM`` after the preamble, or an element of group 8 at the start of an old file."""
    with path.open("rb") as file:
        start = file.read(132)
    is_short = start[5:8] == bytes(3)  # the length of an element without value representation
    return start[128:] == b"DICM" or (start[:2] == b"\x08\x00" and (start[4:6] in OLD_START or is_short))


def is_series(folder: Path) -> bool:
    """Whether a folder holds a DICOM file other than a DICOMDIR."""
    return folder.is_dir() and any(dicom_files(folder))


def dicom_files(folder: Path) -> Iterator[Path]:
    """The DICOM files directly in a folder, by name, without DICOMDIR, the index of a medium."""
    for path in sorted(folder.iterdir()):
        if path.is_file() and path.name.upper() != "DICOMDIR" and is_dicom(path):
            yield path
