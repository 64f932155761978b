"""Image file formats: the accepted endings, and images of several files (a TIFF with its spacing in a JSON, a .mhd with
its voxels in another file), which are listed, written and copied together."""

import re
import shutil
from pathlib import Path
from typing import Annotated

import msgspec
import SimpleITK as sitk

from unetrpp.core.files import read_json, write_atomically, write_json

# Formats that SimpleITK reads and that we accept; .nii.gz stands before .nii, so that the longer ending is found first.
FILE_ENDINGS = (".nii.gz", ".nii", ".nrrd", ".mha", ".mhd", ".tiff", ".tif", ".png", ".bmp", ".jpeg", ".jpg")
TIFF = (".tif", ".tiff")
MHD_HEADER = 1 << 16  # bytes of a .mhd that are searched for the name of its data file

PositiveFloat = Annotated[float, msgspec.Meta(gt=0)]


class SpacingSidecar(msgspec.Struct):
    """CASE.json beside CASE.tif, as nnU-Net has it; other keys in it are ignored."""

    spacing: tuple[PositiveFloat, PositiveFloat, PositiveFloat]  # mm (z, y, x)


def strip_ending(name: str) -> str:
    """A file's name without its image ending.

    >>> strip_ending("case_0000.nii.gz")
    'case_0000'
    """
    for ending in FILE_ENDINGS:
        if name.lower().endswith(ending):
            return name[: -len(ending)]
    return name


def ending_of(path: Path) -> str:
    """The image ending of a file in lower case; empty for another file.

    >>> ending_of(Path("a/case_1.nii.gz"))
    '.nii.gz'
    """
    return path.name[len(strip_ending(path.name)) :].lower()


def sidecar_spacing(path: Path) -> tuple[float, float, float] | None:
    """Spacing (z, y, x) in mm of a TIFF, from CASE.json beside CASE.tif or CASE_0000.tif; None without such a file.

    Raises:
        UserError: the JSON does not hold three numbers above 0.
    """
    sidecar = _sidecar(path)
    hint = 'write {"spacing": [z, y, x]} in mm'
    return None if sidecar is None else read_json(sidecar, SpacingSidecar, hint=hint).spacing


def _sidecar(path: Path) -> Path | None:
    if path.suffix.lower() not in TIFF:
        return None
    name = strip_ending(path.name)
    candidates = (path.with_name(f"{stem}.json") for stem in (name, re.sub(r"_\d{4}$", "", name)))
    return next((candidate for candidate in candidates if candidate.is_file()), None)


def files_of_image(path: Path) -> list[Path]:
    """All files of one image: those in a DICOM series' folder, a .mhd and its data, a TIFF and its sidecar, or ``path`` alone."""
    if path.is_dir():
        return sorted(path.iterdir())
    others = (_sidecar(path), _mhd_data(path))
    return [path, *(other for other in others if other is not None)]


def _mhd_data(path: Path) -> Path | None:
    if path.suffix.lower() != ".mhd" or not path.is_file():
        return None
    with path.open("rb") as file:
        named = re.search(rb"^ElementDataFile\s*=\s*(\S.*?)\s*$", file.read(MHD_HEADER), re.MULTILINE)
    return None if named is None or named[1] == b"LOCAL" else path.parent / named[1].decode(errors="replace")


def write_sitk(path: Path, image: sitk.Image) -> None:
    """Write an ITK image, compressed and atomically.

    For a .mhd ITK would write two files, a header and the voxels. It is written as .mha instead, one file that readers
    accept under both endings. A stack of TIFF slices gets a sidecar, because TIFF cannot store the distance of slices.
    """

    def write(temporary: Path) -> None:
        single = temporary.with_suffix(".mha") if path.suffix.lower() == ".mhd" else temporary
        sitk.WriteImage(image, str(single), useCompression=True)
        single.replace(temporary)

    if path.suffix.lower() in TIFF and image.GetDimension() == 3:
        write_json(_sidecar_for(path), SpacingSidecar(spacing=image.GetSpacing()[::-1]))
    write_atomically(path, write)


def copy_image(source: Path, target: Path) -> None:
    """Copy an image file with its sidecar, atomically; a .mhd and its data become one file."""
    if _mhd_data(source) is not None:
        write_sitk(target, sitk.ReadImage(str(source)))
        return
    sidecar = _sidecar(source)
    if sidecar is not None:
        write_atomically(_sidecar_for(target), lambda temporary: shutil.copyfile(sidecar, temporary))
    write_atomically(target, lambda temporary: shutil.copyfile(source, temporary))


def _sidecar_for(path: Path) -> Path:
    return path.with_name(f"{strip_ending(path.name)}.json")
