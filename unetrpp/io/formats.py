"""Image file formats: the accepted endings, the reader of each, and images of several files (a TIFF with its spacing in a
JSON, a header with its voxels in another file), which are listed, written and copied together."""

import importlib
import shutil
from pathlib import Path
from typing import Protocol, cast

import numpy as np
import SimpleITK as sitk

from unetrpp.core.errors import UserError
from unetrpp.core.files import is_system, write_atomically, write_json
from unetrpp.io.geometry import Geometry

# Ending -> the module of unetrpp.io.readers; .nii.gz stands before .nii, so that the longer ending is found first.
READERS = {
    ".nii.gz": "nifti",
    ".nii": "nifti",
    ".hdr": "nifti",
    ".nrrd": "nrrd",
    ".nhdr": "nrrd",
    ".mha": "metaimage",
    ".mhd": "metaimage",
    ".tiff": "tiff",
    ".tif": "tiff",
    ".png": "pictures",
    ".bmp": "pictures",
    ".jpeg": "pictures",
    ".jpg": "pictures",
    ".zarr": "zarr",
}
FILE_ENDINGS = tuple(READERS)
ONLY_READ = (".zarr", ".jpeg", ".jpg")  # JPEG would change the values of segmentations and labels
ONE_FILE = {".mhd": ".mha", ".nhdr": ".nrrd"}  # headers of two files -> the same format in one


class Reader(Protocol):
    """What every module of unetrpp.io.readers offers."""

    def read(self, path: Path) -> tuple[np.ndarray, Geometry]:
        """The array (C, Z, Y, X), whole numbers or float32, and its grid, verified against the file."""

    def read_header(self, path: Path) -> tuple[Geometry, int]:
        """The grid and the number of channels, from the header alone."""

    def parts(self, path: Path) -> list[Path]:
        """The files that the image consists of."""


def reader_name(path: Path) -> str | None:
    """The module of unetrpp.io.readers for a file, by its ending; None where it has none of them.

    >>> reader_name(Path("case.NII.GZ")), reader_name(Path("case.txt"))
    ('nifti', None)
    """
    return READERS.get(ending_of(path))


def is_picture(file_ending: str) -> bool:
    """Whether files of this ending hold rows and columns, and stacks of them, that are not oriented in a patient.

    >>> is_picture(".png"), is_picture(".tif"), is_picture(".nii.gz")
    (True, True, False)
    """
    return reader_name(Path(f"image{file_ending}")) in ("pictures", "tiff")


def holds_volumes(file_ending: str) -> bool:
    """Whether files of this ending hold more than one slice: all but photographs do.

    >>> holds_volumes(".png"), holds_volumes(".tif"), holds_volumes(".nii.gz")
    (False, True, True)
    """
    return reader_name(Path(f"image{file_ending}")) != "pictures"


def is_folder(path: Path) -> bool:
    """Whether a path is a folder of cases or of a DICOM series; a folder NAME.zarr is one image, as a file is."""
    return path.is_dir() and reader_name(path) != "zarr"


def reader_of(path: Path) -> Reader:
    """The reader of a file, imported now: a command that reads no image need not load the libraries.

    Raises:
        UserError: the ending is none of FILE_ENDINGS.
    """
    name = reader_name(path)
    if name is None:
        raise UserError(f"{path.name} has none of the supported endings ({', '.join(FILE_ENDINGS)}); convert it")
    return cast(Reader, importlib.import_module(f"unetrpp.io.readers.{name}"))


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


def files_of_image(path: Path) -> list[Path]:
    """All files of one image: those in the folder of a DICOM series or of a Zarr, a header and its data, a TIFF and its sidecar,
    or ``path`` alone."""
    if is_folder(path):
        return sorted(file for file in path.iterdir() if not is_system(file))
    if reader_name(path) is None:
        return [path]
    try:
        return reader_of(path).parts(path)
    except UserError:  # who reads the file reports what is wrong with it
        return [path]


def write_sitk(path: Path, image: sitk.Image) -> None:
    """Write an ITK image, compressed and atomically, as one file.

    For a .mhd or .nhdr ITK would write two files, a header and the voxels. The same format in one file is written
    instead, which readers accept under both endings. A TIFF gets a sidecar where it is a stack or has a spacing, which TIFF
    cannot store.

    Raises:
        UserError: the format is read alone, or holds a single slice and the image has more.
    """
    from unetrpp.io.readers import itk

    ending = ending_of(path)
    if ending in ONLY_READ:
        raise UserError(f"{path.name}: {ending} is read, but not written; choose another ending")
    if image.GetDimension() == 3 and not holds_volumes(ending):
        if image.GetDepth() != 1:
            raise UserError(
                f"{path.name}: {ending} holds a single slice, but the image has {image.GetDepth()}; choose another ending"
            )
        image = image[:, :, 0]  # ITK's writer of BMP refuses three dimensions

    def write(temporary: Path) -> None:
        with itk.plain_target(temporary, ONE_FILE.get(ending, ending)) as name:
            sitk.WriteImage(image, name, useCompression=True)

    if reader_name(path) == "tiff":
        _write_sidecar(path, image)
    write_atomically(path, write)


def _write_sidecar(path: Path, image: sitk.Image) -> None:
    """The spacing beside a TIFF; none for a photograph of spacing 1, unless the reader would take an earlier one's."""
    from unetrpp.io.readers.tiff_spacing import SpacingSidecar, sidecar

    z, y, x = (1.0, *image.GetSpacing()[::-1])[-3:]
    if image.GetDimension() == 3 or (y, x) != (1, 1) or sidecar(path) is not None:
        write_json(_sidecar_for(path), SpacingSidecar(spacing=(z, y, x)))


def copy_image(source: Path, target: Path) -> None:
    """Copy an image with its sidecar, atomically; a header and its data become one file, except .hdr and .img."""
    others = files_of_image(source)[1:]
    if others and reader_name(source) in ("metaimage", "nrrd"):
        from unetrpp.io.readers import itk

        # ITK keeps the type and all fields; the reader verifies what it reads.
        array, _ = reader_of(source).read(source)
        image = read_by_itk(source)
        if not np.array_equal(itk.array_of(image), array):
            raise UserError(f"{source.name} would be read differently by ITK; save it as one file")
        write_sitk(target, image)
        return
    if not others:
        remove_sidecar(target)
    for other in others:
        beside = _sidecar_for(target) if other.suffix == ".json" else target.with_suffix(other.suffix)
        _copy(other, beside)
    _copy(source, target)


def remove_sidecar(path: Path) -> None:
    """Remove the spacing that an earlier TIFF left beside ``path``, which the reader would take for that of the file now."""
    from unetrpp.io.readers.tiff_spacing import sidecar

    while reader_name(path) == "tiff" and (beside := sidecar(path)) is not None:
        beside.unlink()


def read_by_itk(path: Path) -> sitk.Image:
    """A MetaImage or NRRD with its type and its fields, in mm.

    Raises:
        UserError: ITK cannot read it, or its unit is not known.
    """
    from unetrpp.io.readers import itk, metaimage, nrrd

    reader = metaimage if reader_name(path) == "metaimage" else nrrd
    image = itk.read_voxels(path, reader.IMAGE_IO)
    itk.to_mm(image, reader.Header(path).mm_per_unit())
    return image


def _copy(source: Path, target: Path) -> None:
    write_atomically(target, lambda temporary: shutil.copyfile(source, temporary))


def _sidecar_for(path: Path) -> Path:
    return path.with_name(f"{strip_ending(path.name)}.json")
