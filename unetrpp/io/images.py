"""Reading and writing images through SimpleITK: a Volume is an array (C, Z, Y, X) with its Geometry."""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import msgspec
import numpy as np
import SimpleITK as sitk

from unetrpp.core.errors import UserError
from unetrpp.io.dicom import is_dicom
from unetrpp.io.formats import sidecar_spacing, write_sitk
from unetrpp.io.geometry import Geometry, same_grid
from unetrpp.io.integrity import matches_checksum, require_intact
from unetrpp.io.nifti import require_repairable, shear_degrees, write_without_shear

T = TypeVar("T")
GRID_TOLERANCE_MM = 1e-2  # grids whose corners are nearer than this count as equal
LABEL_ROUNDING = 1e-4  # distance from a whole number up to which a float is read as that label


@dataclass(frozen=True)
class Volume:
    """``array`` (C, Z, Y, X) on the grid of ``geometry``."""

    array: np.ndarray
    geometry: Geometry


def read_image(paths: Path | Sequence[Path], verified: bool = False) -> Volume:
    """Read one file, or one file per channel, as float32 (C, Z, Y, X).

    A file may hold several channels itself (RGB, or a 4D NIfTI whose last axis is the channel).

    Args:
        verified: see :func:`read_file`.

    Raises:
        UserError: a file is missing, empty, truncated or not an image, or the channels are on different grids.
    """
    files = [paths] if isinstance(paths, Path) else list(paths)
    volumes = [read_file(file, verified) for file in files]
    _require_one_grid(files, volumes)
    array = np.concatenate([v.array.astype(np.float32, copy=False) for v in volumes])
    return Volume(array, volumes[0].geometry)


def repair_shear(path: Path, target: Path) -> tuple[Path, str | None]:
    """Write ``target``, a copy whose axes are at right angles, if ``path`` is a NIfTI that ITK refuses for a small shear.

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


def read_geometry(path: Path) -> Geometry:
    """The grid of a file from its header alone.

    Raises:
        UserError: the header cannot be read.
    """
    if _is_dicom(path):
        return _dicom_header(path)[0]
    reader = _read_header(path)
    geometry = _geometry(reader)
    _require_place(path, geometry)
    return _with_sidecar(path, geometry)


def _read_header(path: Path) -> sitk.ImageFileReader:
    _require_content(path)
    reader = sitk.ImageFileReader()
    reader.SetFileName(str(path))
    _guard(path, reader.ReadImageInformation)
    return reader


def read_channels(path: Path) -> tuple[int, int]:
    """The number of channels in a file and the dimensions of its grid (2 or 3), from the header alone.

    Raises:
        UserError: the header cannot be read.
    """
    if _is_dicom(path):
        return _dicom_header(path)[1], 3
    reader = _read_header(path)
    volumes = reader.GetSize()[3] if reader.GetDimension() > 3 else 1
    return reader.GetNumberOfComponents() * volumes, min(reader.GetDimension(), 3)


def most_voxels(files: Iterable[Path]) -> int:
    """The number of voxels of the largest file, by its header; 0 where that cannot be read."""
    sizes = {file: file.stat().st_size for file in files if file.is_file()}
    try:
        return math.prod(read_geometry(max(sizes, key=lambda file: sizes[file])).shape_zyx) if sizes else 0
    except UserError:
        return 0


def read_label(path: Path, verified: bool = False) -> Volume:
    """Read a label file as an integer array (1, Z, Y, X); float files must hold whole numbers, up to rounding.

    Raises:
        UserError: unreadable, more than one channel, or values that are not whole numbers.
    """
    volume = read_file(path, verified)
    if volume.array.shape[0] != 1:
        raise UserError(f"{path.name} has {volume.array.shape[0]} channels; a label file must have one")
    array = volume.array
    if array.dtype.kind == "f":
        array = _whole_numbers(path, array)
    return Volume(array, volume.geometry)


def _whole_numbers(path: Path, array: np.ndarray) -> np.ndarray:
    """int32 from floats; a scale factor in the header may turn 1 into 1.0000001."""
    with np.errstate(invalid="ignore"):
        whole: np.ndarray = np.rint(array).astype(np.int32)
    broken = ~(np.abs(array - whole) <= LABEL_ROUNDING)
    if broken.any():
        values = ", ".join(f"{v:g}" for v in np.unique(array[broken])[:3])
        raise UserError(f"{path.name} holds values that are not whole numbers ({values}); write the labels as integers")
    return whole


def write_segmentation(path: Path, array: np.ndarray, geometry: Geometry) -> None:
    """Write a label array (Z, Y, X) on the grid of ``geometry``, compressed and atomically."""
    write_sitk(path, to_sitk(array, geometry))


def write_image(path: Path, volume: Volume) -> None:
    """Write one channel (1, Z, Y, X) on its grid, compressed and atomically."""
    write_sitk(path, to_sitk(volume.array[0], volume.geometry))


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
    """Array (C, Z, Y, X) and geometry of an ITK image of two, three or four dimensions."""
    geometry = _geometry(image)
    array = sitk.GetArrayFromImage(image)
    channels = image.GetNumberOfComponentsPerPixel()
    if channels > 1:
        array = np.moveaxis(array, -1, 0)
    elif image.GetDimension() < 4:
        array = array[None]
    return Volume(array.reshape(-1, *geometry.shape_zyx), geometry)


def read_file(path: Path, verified: bool = False) -> Volume:
    """Read one file, or the DICOM series of a folder, in its own pixel type.

    The spacing in a TIFF is unreliable; CASE.json beside it, nnU-Net's sidecar, takes precedence.

    Args:
        verified: whether this file was read before, so that it need not be checked for damage again.

    Raises:
        UserError: the file is missing, empty, truncated or not an image.
    """
    if _is_dicom(path):
        from unetrpp.io.readers import dicom  # here, for pydicom takes a tenth of a second

        return Volume(*dicom.read(path))
    volume = from_sitk(_guard(path, lambda: sitk.ReadImage(str(path))))
    _require_place(path, volume.geometry)
    if not verified and not matches_checksum(path, volume.array):
        require_intact(path)
    return Volume(volume.array, _with_sidecar(path, volume.geometry))


def _is_dicom(path: Path) -> bool:
    _require_content(path)
    return path.is_dir() or is_dicom(path)


def _dicom_header(path: Path) -> tuple[Geometry, int]:
    from unetrpp.io.readers.dicom import read_header  # here, for pydicom takes a tenth of a second

    return read_header(path)


def _require_content(path: Path) -> None:
    if not path.exists():
        raise UserError(f"{path} does not exist; check the path or restore the file")
    if path.is_file() and path.stat().st_size == 0:
        raise UserError(f"{path.name} is empty (0 bytes); copy it again")


def _with_sidecar(path: Path, geometry: Geometry) -> Geometry:
    spacing = sidecar_spacing(path)
    return geometry if spacing is None else msgspec.structs.replace(geometry, spacing_zyx_mm=spacing)


def _guard(path: Path, read: Callable[[], T]) -> T:
    """What ``read`` returns; an error of ITK becomes one sentence about the file."""
    try:
        return read()
    except RuntimeError as error:
        if "orthonormal" in str(error).lower():
            degrees = shear_degrees(require_repairable(path)[0])
            raise UserError(
                f"{path.name} is sheared by {degrees:.2g} degrees, which ITK refuses; "
                "--fix (of unetrpp_plan_and_preprocess and unetrpp_predict) repairs it"
            ) from None
        require_intact(path)
        raise UserError(
            f"{path.name} cannot be read as an image (damaged, truncated or of an unknown format); copy it again"
        ) from None


def _geometry(image: sitk.Image | sitk.ImageFileReader) -> Geometry:
    """The geometry of an ITK image or header; a photograph gets one slice of 1 mm, a fourth axis is dropped."""
    dimensions = image.GetDimension()
    n = min(dimensions, 3)
    matrix = np.eye(3)
    matrix[:n, :n] = np.array(image.GetDirection()).reshape(dimensions, dimensions)[:n, :n]
    x, y, z = [*image.GetSize()[:n], 1][:3]
    sx, sy, sz = [*image.GetSpacing()[:n], 1.0][:3]
    ox, oy, oz = [*image.GetOrigin()[:n], 0.0][:3]
    return Geometry(
        shape_zyx=(int(z), int(y), int(x)),
        spacing_zyx_mm=(float(sz), float(sy), float(sx)),
        origin_xyz_mm=(float(ox), float(oy), float(oz)),
        direction=tuple(float(v) for v in matrix.ravel()),
        dimensions=n,
    )


def _require_place(path: Path, geometry: Geometry) -> None:
    place = (*geometry.spacing_zyx_mm, *geometry.origin_xyz_mm, *geometry.direction)
    if not np.isfinite(place).all():
        raise UserError(
            f"{path.name} has a spacing, origin or direction that is not a number, so its place is unknown; "
            "write it again from its source"
        )


def _require_one_grid(files: list[Path], volumes: list[Volume]) -> None:
    for file, volume in zip(files[1:], volumes[1:], strict=True):
        differences = same_grid(volumes[0].geometry, volume.geometry, GRID_TOLERANCE_MM)
        if differences:
            raise UserError(
                f"{file.name} and {files[0].name} are on different grids: {differences[0]}; resample one onto the other"
            )
