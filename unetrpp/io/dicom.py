"""Whether a file or a folder is DICOM, by first bytes alone: pydicom takes a tenth of a second to import."""

from collections.abc import Iterator
from pathlib import Path

OLD_VRS = (b"UL", b"CS", b"UI")  # value representations of the first element in files without preamble


def is_dicom(path: Path) -> bool:
    """Whether a file is DICOM: ``DICM`` after the preamble, or without one an element of group 2 or 8 at its start."""
    with path.open("rb") as file:
        start = file.read(132)
    is_implicit = start[5:8] == bytes(3)  # the length follows the tag
    is_old = start[:2] in (b"\x02\x00", b"\x08\x00") and (start[4:6] in OLD_VRS or is_implicit)
    return start[128:] == b"DICM" or is_old


def is_series(folder: Path) -> bool:
    """Whether a folder holds a DICOM file other than a DICOMDIR."""
    return folder.is_dir() and any(dicom_files(folder))


def dicom_files(folder: Path) -> Iterator[Path]:
    """The DICOM files directly in a folder, by name, without DICOMDIR, the index of a medium."""
    for path in sorted(folder.iterdir()):
        if path.is_file() and path.name.upper() != "DICOMDIR" and is_dicom(path):
            yield path


def channel_of(modality: str) -> str:
    """The usual name of a channel of images of a DICOM Modality: PET for PT, the code itself for others (CT, MR, US, ...)."""
    return "PET" if modality == "PT" else modality
