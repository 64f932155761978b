"""Reading and writing images: a Volume is an array (C, Z, Y, X) with its Geometry."""

import math
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import numpy as np
import SimpleITK as sitk

from unetrpp.core.errors import UserError
from unetrpp.core.large_arrays import as_float32, new_array
from unetrpp.io.dicom import is_dicom
from unetrpp.io.formats import ending_of, is_folder, reader_name, reader_of, write_sitk
from unetrpp.io.geometry import GRID_LIMIT_VOXELS, Geometry, same_grid
from unetrpp.io.nifti import ENDINGS as NIFTI
from unetrpp.io.nifti import write_nifti
from unetrpp.io.readers import itk
from unetrpp.io.readers.content import require_content
from unetrpp.io.readers.grid import ShearedError
from unetrpp.io.readers.values import EXACT_FLOAT32
from unetrpp.io.shear import write_without_shear

LABEL_ROUNDING = 1e-4  # distance from a whole number up to which a float is read as that label


# np.ndarray alone says nothing about its axes, and type checkers show it as Any.
Integer: TypeAlias = np.uint8 | np.int8 | np.uint16 | np.int16 | np.uint32 | np.int32 | np.uint64 | np.int64
Voxels: TypeAlias = np.ndarray[tuple[int, int, int, int], np.dtype[Integer | np.float32 | np.float64]]


@dataclass(frozen=True)
class Volume:
    """``array`` (C, Z, Y, X) on the grid of ``geometry``."""

    array: Voxels
    geometry: Geometry


def read_image(paths: Path | Sequence[Path]) -> Volume:
    """Read one file, or one file per channel, as float32 (C, Z, Y, X).

    A file may hold several channels itself (RGB, or a 4D NIfTI whose last axis is the channel).

    Raises:
        UserError: a file is missing, empty, damaged or not an image, or the channels are on different grids.
    """
    volume = read_compact_image(paths)
    return Volume(as_float32(volume.array), volume.geometry)


def read_compact_image(paths: Path | Sequence[Path]) -> Volume:
    """:func:`read_image`, but whole numbers of one or two bytes in a single file stay as they are: a half or a quarter of the memory."""
    files = [paths] if isinstance(paths, Path) else list(paths)
    volumes = [read_file(file) for file in files]
    _require_one_grid(files, volumes)
    if len(volumes) == 1 and volumes[0].array.dtype.kind in "iu" and volumes[0].array.dtype.itemsize <= 2:
        return volumes[0]
    if len(volumes) == 1:
        return Volume(as_float32(volumes[0].array), volumes[0].geometry)
    shape = sum(len(v.array) for v in volumes), *volumes[0].array.shape[1:]
    arrays = [v.array for v in volumes]
    return Volume(np.concatenate(arrays, out=new_array(shape, np.float32), casting="unsafe"), volumes[0].geometry)


def repair_shear(path: Path, target: Path) -> tuple[Path, str | None]:
    """Write ``target``, a copy whose axes are at right angles, if ``path`` is refused for a small shear.

    Returns:
        ``target`` and a sentence that says what was done; ``path`` and None where nothing can be repaired. Other faults
        are not reported here: reading the file reports them.
    """
    try:
        read_geometry(path)
        return path, None
    except UserError:
        pass
    try:
        moved = write_without_shear(path, target)
    except UserError:
        return path, None
    done = f"the axes of {path.name} were sheared; they were set at right angles, which moves no corner by more than {moved:.2g} mm"
    return target, done


def is_sheared(path: Path) -> bool:
    """Whether a file is refused for its axes alone, by its header, and :func:`repair_shear` repairs it."""
    if reader_name(path) not in ("nifti", "metaimage", "nrrd"):  # other formats have no directions, or series of files
        return False
    try:
        read_geometry(path)
    except ShearedError as error:
        return error.repairable
    except UserError:
        return False
    return False


def read_straight(path: Path) -> tuple[Volume, str | None]:
    """Read one file whose axes may be sheared by up to 1 degree, on the grid that :func:`repair_shear` gives it.

    Returns:
        The volume, and a sentence that says what was done; None where the axes are at right angles.

    Raises:
        UserError: the file cannot be read, or is sheared by more.
    """
    if not is_sheared(path):
        return read_file(path), None
    with tempfile.TemporaryDirectory() as folder:
        readable, done = repair_shear(path, Path(folder) / path.name)
        return read_file(readable), done


def read_geometry(path: Path) -> Geometry:
    """The grid of a file from its header alone.

    Raises:
        UserError: the header cannot be read.
    """
    return _read_header(path)[0]


def read_channels(path: Path) -> tuple[int, int]:
    """The number of channels in a file and the dimensions of its grid (2 or 3), from the header alone.

    Raises:
        UserError: the header cannot be read.
    """
    geometry, channels = _read_header(path)
    return channels, geometry.dimensions


def has_alpha(path: Path) -> bool:
    """Whether a photograph has an alpha channel, which readers leave out where it is opaque and refuse otherwise.

    Raises:
        UserError: the header cannot be read.
    """
    if path.is_dir():
        return False
    if reader_name(path) == "tiff":
        from unetrpp.io.readers import tiff

        return tiff.has_alpha(path)
    if reader_name(path) == "pictures":
        from unetrpp.io.readers import pictures

        return pictures.has_alpha(path)
    return False


def _read_header(path: Path) -> tuple[Geometry, int]:
    if _is_dicom(path):
        from unetrpp.io.readers import dicom  # here, for pydicom takes a tenth of a second

        return dicom.read_header(path)
    return reader_of(path).read_header(path)


def _is_dicom(path: Path) -> bool:
    """A folder, or a file that is DICOM and whose name ends like none of the other formats."""
    if is_folder(path):
        return True
    return reader_name(path) is None and bool(require_content(path)) and is_dicom(path)


def most_voxels(files: Iterable[Path]) -> int:
    """The number of voxels of the largest file, by its header; 0 where that cannot be read."""
    sizes = {file: file.stat().st_size for file in files if file.is_file()}
    try:
        return math.prod(read_geometry(max(sizes, key=lambda file: sizes[file])).shape_zyx) if sizes else 0
    except UserError:
        return 0


def read_label(path: Path) -> Volume:
    """Read a label file as an integer array (1, Z, Y, X); float files must hold whole numbers, up to rounding.

    Raises:
        UserError: unreadable, more than one channel (unless they are equal: a gray picture that was saved in colours), or
            values that are not whole numbers.
    """
    return as_label(path, read_file(path))


def read_straight_label(path: Path) -> Volume:
    """:func:`read_label` for a file whose axes may be sheared, as :func:`read_straight` reads it."""
    return as_label(path, read_straight(path)[0])


def as_label(path: Path, volume: Volume) -> Volume:
    """What was read of a label as whole numbers in one channel; ``path`` names the file in messages.

    Raises:
        UserError: values that are not whole numbers, or several channels.
    """
    array = _one_channel(path, volume.array)
    if array.dtype.kind == "f":
        array = whole_numbers(path, array)
    return Volume(array, volume.geometry)


def _one_channel(path: Path, array: np.ndarray) -> np.ndarray:
    in_colours = reader_name(path) in ("pictures", "tiff")
    if in_colours and (array == array[:1]).all():
        return array[:1]
    if len(array) != 1:
        found, repair = f"{len(array)} channels", "write the label values as one"
        if in_colours:
            found, repair = (
                f"{found} (colours)",
                "save the label values as a gray image, without a palette, or convert the folder with the colours named "
                "(unetrpp_convert folder ... --label NAME=#RRGGBB)",
            )
        raise UserError(f"{path.name} has {found}; a label file must have one channel: {repair}")
    return array


def whole_numbers(path: Path, array: np.ndarray) -> np.ndarray:
    """int32 from the float32 values of a label; a scale factor in the header may turn 1 into 1.0000001.

    Raises:
        UserError: values that are not whole numbers, or so large that two labels may have been rounded to one; ``path`` names
            the file in the message.
    """
    largest = max(array.max(initial=0), array.min(initial=0), key=abs)
    if EXACT_FLOAT32 <= abs(largest) < math.inf:
        raise UserError(
            f"{path.name} holds the value {largest:.0f} as float32, which rounds whole numbers from {EXACT_FLOAT32} on; write the "
            "labels as integers"
        )
    with np.errstate(invalid="ignore"):
        whole: np.ndarray = np.rint(array).astype(np.int32)
    broken = ~(np.abs(array - whole) <= LABEL_ROUNDING)
    if broken.any():
        values = ", ".join(f"{v:g}" for v in np.unique(array[broken])[:3])
        raise UserError(f"{path.name} holds values that are not whole numbers ({values}); write the labels as integers")
    return whole


def write_segmentation(path: Path, array: np.ndarray, geometry: Geometry) -> None:
    """Write a label array (Z, Y, X) on the grid of ``geometry``, compressed and atomically.

    Raises:
        UserError: the ending's format is only read, or holds a single slice and there are more.
    """
    _write(path, array, geometry)


def write_image(path: Path, volume: Volume) -> None:
    """Write one channel (1, Z, Y, X) on its grid, compressed and atomically."""
    _write(path, volume.array[0], volume.geometry)


def write_colours(path: Path, volume: Volume) -> None:
    """Write all channels (C, 1, Y, X) of a photograph into one file, compressed and atomically."""
    if len(volume.array) == 1:
        write_image(path, volume)
    else:
        image = sitk.GetImageFromArray(np.moveaxis(volume.array[:, 0], 0, -1).copy(), isVector=True)
        image.SetSpacing(volume.geometry.spacing_zyx_mm[:0:-1])
        write_sitk(path, image)


def _write(path: Path, array: np.ndarray, geometry: Geometry) -> None:
    if ending_of(path) in NIFTI:
        write_nifti(path, array, geometry)
    else:
        write_sitk(path, to_sitk(array, geometry))


def to_sitk(array: np.ndarray, geometry: Geometry) -> sitk.Image:
    """An ITK image from an array (Z, Y, X); 2D where the geometry has two dimensions."""
    flat = geometry.dimensions == 2
    n = 2 if flat else 3
    image = sitk.GetImageFromArray(np.ascontiguousarray(array[0] if flat else array))
    image.SetSpacing(geometry.spacing_zyx_mm[::-1][:n])
    image.SetOrigin(geometry.origin_xyz_mm[:n])
    image.SetDirection([geometry.direction[3 * row + column] for row in range(n) for column in range(n)])
    return image


def from_sitk(image: sitk.Image) -> Volume:
    """Array (C, Z, Y, X) and geometry of an ITK image of two, three or four dimensions.

    Raises:
        UserError: its spacing, origin or direction are not numbers, or its axes are sheared.
    """
    return Volume(itk.array_of(image), itk.geometry_of(Path("the image"), image))


def read_file(path: Path) -> Volume:
    """Read one file, or the DICOM series of a folder: whole numbers as they are stored, all others as float32.

    Raises:
        UserError: the file is missing, empty, damaged or not an image.
    """
    if _is_dicom(path):
        from unetrpp.io.readers import dicom  # here, for pydicom takes a tenth of a second

        return Volume(*dicom.read(path))
    return Volume(*reader_of(path).read(path))


def _require_one_grid(files: list[Path], volumes: list[Volume]) -> None:
    for file, volume in zip(files[1:], volumes[1:], strict=True):
        differences = same_grid(volumes[0].geometry, volume.geometry, GRID_LIMIT_VOXELS)
        if differences:
            raise UserError(
                f"{file.name} and {files[0].name} are on different grids: {differences[0]}; resample one onto the other"
            )
