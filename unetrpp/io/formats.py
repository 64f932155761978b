"""Files that belong to an image file: the spacing of a TIFF, in a JSON beside it, and the voxels of a .mhd."""

import re
import shutil
from pathlib import Path
from typing import Annotated

import msgspec
import SimpleITK as sitk

from unetrpp.core.files import read_json, write_atomically, write_json

# What SimpleITK reads and we accept, longest suffix first so that .nii.gz wins over .gz.
FILE_ENDINGS = (".nii.gz", ".nii", ".nrrd", ".mha", ".mhd", ".tiff", ".tif", ".png", ".bmp", ".jpeg", ".jpg")
TIFF = (".tif", ".tiff")
MHD_HEADER = 1 << 16  # bytes, at most

PositiveFloat = Annotated[float, msgspec.Meta(gt=0)]


class SpacingSidecar(msgspec.Struct):
    """CASE.json beside CASE.tif (nnU-Net's); other keys are left alone."""

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
    """
    >>> ending_of(Path("a/case_1.nii.gz"))
    '.nii.gz'
    """
    return path.name[len(strip_ending(path.name)) :].lower()


def spacing_beside(path: Path) -> tuple[float, float, float] | None:
    """mm (z, y, x) of a TIFF, by CASE.json beside CASE.tif or CASE_0000.tif; None where there is none.

    Raises:
        UserError: the JSON gives no three numbers above 0.
    """
    sidecar = _sidecar(path)
    mend = 'write {"spacing": [z, y, x]} in mm'
    return None if sidecar is None else read_json(sidecar, SpacingSidecar, hint=mend).spacing


def _sidecar(path: Path) -> Path | None:
    if path.suffix.lower() not in TIFF:
        return None
    name = strip_ending(path.name)
    candidates = (path.with_name(f"{stem}.json") for stem in (name, re.sub(r"_\d{4}$", "", name)))
    return next((candidate for candidate in candidates if candidate.is_file()), None)


def parts(path: Path) -> list[Path]:
    """The files that an image consists of: those of a DICOM series' folder, a .mhd and its data, a TIFF and its sidecar."""
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

    Of a .mhd ITK would write two files, the header naming the other; as .mha it writes one, which readers take as
    either. A TIFF stack gets a sidecar, for the distance of its slices has no place in it.
    """

    def write(temporary: Path) -> None:
        whole = temporary.with_suffix(".mha") if path.suffix.lower() == ".mhd" else temporary
        sitk.WriteImage(image, str(whole), useCompression=True)
        whole.replace(temporary)

    if path.suffix.lower() in TIFF and image.GetDimension() == 3:
        write_json(_own_sidecar(path), SpacingSidecar(spacing=image.GetSpacing()[::-1]))
    write_atomically(path, write)


def copy_image(source: Path, target: Path) -> None:
    """Copy a file, atomically, with what belongs to it; a .mhd becomes one file."""
    if _mhd_data(source) is not None:
        write_sitk(target, sitk.ReadImage(str(source)))
        return
    sidecar = _sidecar(source)
    if sidecar is not None:
        write_atomically(_own_sidecar(target), lambda temporary: shutil.copyfile(sidecar, temporary))
    write_atomically(target, lambda temporary: shutil.copyfile(source, temporary))


def _own_sidecar(path: Path) -> Path:
    return path.with_name(f"{strip_ending(path.name)}.json")
