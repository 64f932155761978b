"""Reading by ITK, for the formats that it reads well: its messages, its names and its header."""

import logging
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

import numpy as np
import SimpleITK as sitk

from unetrpp.core.errors import UserError, system_refusal
from unetrpp.core.files import require_room
from unetrpp.core.text import is_utf8
from unetrpp.io.geometry import Geometry
from unetrpp.io.readers.content import shown, unreadable
from unetrpp.io.readers.grid import make_geometry
from unetrpp.io.readers.native_output import native_output

LOG = logging.getLogger(__name__)
UNIT_FIELDS = ("ITK_VoxelUnits", "NRRD_units")  # of MetaImage and NRRD
UNIT = 1e-3  # by which rounded cosines may leave the length 1

# What ITK, MetaIO, libtiff, libpng and libjpeg print past all switches.
CHATTER = re.compile(
    rb"^(WARNING: In |MetaImage|MetaObject|M_|\w+ required|Uncompress|NRRD|TIFF|LZW|libpng|Corrupt JPEG|Premature end|Inconsistent|Invalid|"
    rb"Bogus|Unsupported|Application|\w+IO \(0x)[^\n]*\n?",
    re.MULTILINE,
)
# ITK prints its warnings to stderr, without the name of the file; what matters of them is checked here.
sitk.ProcessObject.SetGlobalWarningDisplay(False)


class Grid(Protocol):
    """What ITK's images and headers have in common; axes in ITK's order, x first."""

    def GetDimension(self) -> int: ...
    def GetSize(self) -> tuple[int, ...]: ...
    def GetSpacing(self) -> tuple[float, ...]: ...
    def GetOrigin(self) -> tuple[float, ...]: ...
    def GetDirection(self) -> tuple[float, ...]: ...


@contextmanager
def plain_name(path: Path) -> Iterator[str]:
    """A name for ITK, which ends the process at one that is not UTF-8: such a file gets another one for the while."""
    name = str(path)
    if is_utf8(name):
        yield name
        return
    with tempfile.TemporaryDirectory() as folder:
        other = Path(folder) / f"image{path.suffix.lower()}"
        try:
            other.symlink_to(path.resolve())
        except OSError:
            shutil.copyfile(path, other)
        yield str(other)


@contextmanager
def plain_target(path: Path, ending: str) -> Iterator[str]:
    """A name with this ending for ITK to write to, whose file is then ``path``.

    Raises:
        OSError: the file is incomplete, which ITK does not notice where the disk is full.
    """
    if is_utf8(str(path)):
        other = path.with_name(path.name + ending)
        try:
            yield str(other)
            require_room(other)
        finally:
            if other.exists():
                other.replace(path)
        return
    with tempfile.TemporaryDirectory() as folder:
        other = Path(folder) / f"image{ending}"
        yield str(other)
        require_room(other)
        shutil.move(other, path)


def open_header(path: Path, image_io: str) -> sitk.ImageFileReader:
    """The header of a file.

    Args:
        image_io: the name of ITK's reader. Left to choose, ITK takes any file that looks like HDF5, too, which may name others.

    Raises:
        UserError: ITK does not understand the header.
    """
    reader = sitk.ImageFileReader()
    with plain_name(path) as name, native_output(CHATTER) as printed:
        reader.SetImageIO(image_io)
        reader.SetFileName(name)
        try:
            reader.ReadImageInformation()
        except RuntimeError as error:
            raise refused(path, error) from None
    _log(path, printed)
    return reader


def read_voxels(path: Path, image_io: str) -> sitk.Image:
    """The image, by the reader ``image_io``.

    Raises:
        UserError: ITK cannot read the file.
    """
    return read_and_listen(path, image_io)[0]


def to_mm(image: sitk.Image, mm: float) -> None:
    """Set an ITK image of a header whose unit has so many mm on its grid in mm; the unit, which ITK passes over, leaves its fields."""
    n = min(image.GetDimension(), 3)
    spacing, origin = image.GetSpacing(), image.GetOrigin()
    image.SetSpacing([*(mm * length for length in spacing[:n]), *spacing[n:]])
    image.SetOrigin([*(mm * place for place in origin[:n]), *origin[n:]])
    for key in image.GetMetaDataKeys():
        if key.startswith(UNIT_FIELDS):
            image.EraseMetaData(key)


def read_and_listen(path: Path, image_io: str) -> tuple[sitk.Image, list[str]]:
    """The image, by the reader ``image_io``, and what ITK and its decoders printed.

    Raises:
        UserError: ITK cannot read the file.
    """
    with plain_name(path) as name, native_output(CHATTER) as printed:
        try:
            image = sitk.ReadImage(name, imageIO=image_io)
        except RuntimeError as error:
            raise refused(path, error) from None
    _log(path, printed)
    return image, printed


def _log(path: Path, printed: list[str]) -> None:
    for line in printed:
        LOG.debug("ITK on %s: %s", shown(path), line)


def refused(path: Path, error: RuntimeError) -> UserError | OSError:
    """What to raise where ITK failed, which loses the reason of a system that gives it no file."""
    LOG.debug("ITK on %s: %s", shown(path), error)
    if not is_utf8(str(path)):
        return UserError(
            f"{shown(path)} cannot be read under a name that is not UTF-8; rename the file and its folders"
        )
    try:
        with path.open("rb") as file:
            file.read(1)
    except OSError as reason:
        return unreadable(path, reason)
    return system_refusal(error, shown(path)) or UserError(
        f"{shown(path)} cannot be read as an image (damaged, truncated or of another format); copy it again"
    )


def geometry_of(path: Path, image: Grid, mm: float = 1.0) -> Geometry:
    """The grid of an ITK image or header of two dimensions or more; a fourth axis is dropped.

    Args:
        mm: of its unit of length.

    Raises:
        UserError: no numbers, or sheared axes.
    """
    dimensions = image.GetDimension()
    n = min(dimensions, 3)
    direction = np.array(image.GetDirection()).reshape(dimensions, dimensions)[:n, :n]
    spacing, origin = np.array(image.GetSpacing())[:n] * mm, np.array(image.GetOrigin())[:n] * mm
    _require_unit_axes(path, direction)
    return make_geometry(path, direction, origin, image.GetSize()[:n], spacing_xyz_mm=spacing)


def _require_unit_axes(path: Path, direction: np.ndarray) -> None:
    """
    Raises:
        UserError: axes of another length than 1, which programs either multiply by the spacing or pass over.
    """
    lengths = np.linalg.norm(direction, axis=0)
    if np.isfinite(lengths).all() and (np.abs(lengths - 1) > UNIT).any():
        found = " x ".join(f"{length:.4g}" for length in lengths)
        raise UserError(
            f"{shown(path)} has a direction whose axes have the lengths {found} instead of 1, so its spacing is not "
            "clear; write a valid header"
        )


def channels_of(reader: sitk.ImageFileReader) -> int:
    """Components of a voxel times volumes along a fourth axis."""
    size = reader.GetSize()
    return int(reader.GetNumberOfComponents() * (size[3] if len(size) > 3 else 1))


def memory_of(image: sitk.Image) -> np.ndarray:
    """The voxels in the order in which ITK and most files keep them: t, z, y, x and then the components (a copy)."""
    return np.asarray(sitk.GetArrayFromImage(image))


def array_of(image: sitk.Image) -> np.ndarray:
    """The voxels (C, Z, Y, X) of an ITK image of two, three or four dimensions."""
    return arranged(memory_of(image), image.GetSize(), image.GetNumberOfComponentsPerPixel())


def arranged(voxels: np.ndarray, size: tuple[int, ...], components: int) -> np.ndarray:
    """(C, Z, Y, X) from the order in which :func:`memory_of` has them, for ITK's size (x first)."""
    spatial = (1, *size[::-1])[-3:] if len(size) < 4 else size[2::-1]
    if components > 1:
        voxels = np.moveaxis(voxels.reshape(*size[::-1], components), -1, 0)
    return voxels.reshape(-1, *spatial)
