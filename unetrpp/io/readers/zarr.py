"""OME-Zarr, a folder NAME.zarr: the finest level of a multiscale image, its spacing and place by the metadata of OME-NGFF 0.4 or 0.5.

Needs the extra ``zarr``. Chunks are read layer by layer, so that what is large goes to a temporary file and not into memory.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from unetrpp.core.errors import UserError
from unetrpp.core.large_arrays import is_finite, new_array
from unetrpp.core.text import counted, escaped, listed
from unetrpp.io.geometry import Geometry
from unetrpp.io.readers.content import shown, unreadable
from unetrpp.io.readers.grid import MM, make_geometry
from unetrpp.io.readers.values import exact

# RFC 4 of OME-NGFF: the world axis in LPS that an image axis runs along, and whether with it or against it.
ORIENTATIONS = {
    "right-to-left": (0, 1),
    "left-to-right": (0, -1),
    "anterior-to-posterior": (1, 1),
    "posterior-to-anterior": (1, -1),
    "inferior-to-superior": (2, 1),
    "superior-to-inferior": (2, -1),
}
LPS = {"x": "right-to-left", "y": "anterior-to-posterior", "z": "inferior-to-superior"}


class _Orientation(msgspec.Struct):
    value: str


class _Axis(msgspec.Struct):
    name: str
    type: str = ""
    unit: str = ""
    orientation: _Orientation | None = None


class _Transformation(msgspec.Struct):
    type: str
    scale: tuple[float, ...] = ()
    translation: tuple[float, ...] = ()


class _Level(msgspec.Struct):
    path: str
    coordinateTransformations: tuple[_Transformation, ...] = ()


class _Multiscale(msgspec.Struct):
    axes: tuple[_Axis, ...]
    datasets: tuple[_Level, ...]
    coordinateTransformations: tuple[_Transformation, ...] = ()


@dataclass(frozen=True)
class _Image:
    """An array of Zarr and what its axes are.

    Attributes:
        order: its axes in the order (channel, z, y, x), without the channel where it has none, and of time at the end.
    """

    array: Any
    order: tuple[int, ...]
    geometry: Geometry
    channels: int


def read(path: Path) -> tuple[np.ndarray, Geometry]:
    """Voxels (C, Z, Y, X) of the finest level, whole numbers as they are and all others as float32, and their grid.

    Raises:
        UserError: zarr is not installed; no OME-Zarr image, or one without z, y and x, a scale or a unit; damaged or not finite.
    """
    image = _open(path)
    source, (z, y, x) = image.array, image.geometry.shape_zyx
    voxels = new_array(source.shape, source.dtype)
    layer = getattr(source, "shards", None) or source.chunks  # a shard is read whole
    axis = max(range(source.ndim), key=lambda a: -(-source.shape[a] // layer[a]))  # the axis of most layers
    for start in range(0, source.shape[axis], layer[axis]):
        part = (slice(None),) * axis + (slice(start, start + layer[axis]),)
        try:
            voxels[part] = source[part]
        except Exception as error:  # every codec has errors of its own
            raise unreadable(path, error) from None
    arranged = voxels.transpose(image.order).reshape(image.channels, z, y, x)
    array = exact(path, arranged)
    if array.dtype.kind == "f" and not is_finite(array):
        raise UserError(f"{shown(path)} holds voxels that are NaN or infinite; replace them")
    return array, image.geometry


def read_header(path: Path) -> tuple[Geometry, int]:
    """Grid and channels, from the metadata alone.

    Raises:
        UserError: as :func:`read`, but for the voxels.
    """
    image = _open(path)
    return image.geometry, image.channels


def parts(path: Path) -> list[Path]:
    """All files of the store."""
    return sorted(file for file in path.rglob("*") if file.is_file())


def _open(path: Path) -> _Image:
    if not path.exists():
        raise UserError(f"{shown(path, full=True)} does not exist; check the path or restore the folder")
    if not path.is_dir():
        raise UserError(f"{shown(path)} is a file, but an OME-Zarr image is a folder; unpack it")
    zarr = _library(path)
    try:
        group = zarr.open_group(path, mode="r")
        attributes = group.attrs.asdict()
        if "bioformats2raw.layout" in attributes:  # a group of images, 0, 1 and so on
            if "1" in group:
                raise UserError(
                    f"{shown(path)} holds several images; copy the folder of one of them to a name that ends in .zarr"
                )
            group = group["0"]
            attributes = group.attrs.asdict()
    except UserError:
        raise
    except Exception as error:  # of the file system, of JSON or of zarr
        raise UserError(f"{shown(path)} is no group of Zarr ({escaped(str(error))}); write it as OME-Zarr") from None
    multiscale = _multiscale(path, attributes)
    name = multiscale.datasets[0].path  # the finest, by the specification
    try:
        array = group[name]
        shape, kind = array.shape, array.dtype.kind
    except Exception as error:
        raise UserError(
            f"{shown(path)} has no array {escaped(name)!r} ({escaped(str(error))}); copy it again"
        ) from None
    if kind not in "biufc":
        raise UserError(f"{shown(path)} holds values of the type {array.dtype}, not numbers; write an image")
    return _described(path, multiscale, array, tuple(shape))


def _library(path: Path) -> Any:
    try:
        import zarr
    except ModuleNotFoundError:
        raise UserError(f'{shown(path)} needs the package zarr; pip install "unetrpp[zarr]"') from None
    return zarr


def _multiscale(path: Path, attributes: Mapping[str, Any]) -> _Multiscale:
    ngff = attributes.get("ome", attributes)  # version 0.5, or 0.4
    found = ngff.get("multiscales") if isinstance(ngff, dict) else None
    if not found:
        raise UserError(
            f"{shown(path)} has no multiscales of OME-NGFF, so its spacing is unknown; write it as OME-Zarr"
        )
    try:
        multiscale = msgspec.convert(found, tuple[_Multiscale, ...])[0]
    except msgspec.ValidationError as error:
        raise UserError(
            f"{shown(path)} has multiscales that are not those of OME-NGFF 0.4 or 0.5 ({error}); write it again"
        ) from None
    if not multiscale.datasets:
        raise UserError(f"{shown(path)} has multiscales without datasets; write it again")
    return multiscale


def _described(path: Path, multiscale: _Multiscale, array: Any, shape: tuple[int, ...]) -> _Image:
    axes = {axis.name: i for i, axis in enumerate(multiscale.axes)}
    names = listed(list(axes), 9)
    if not len(axes) == len(multiscale.axes) == len(shape) or not {"z", "y", "x"} <= axes.keys() <= {*"tczyx"}:
        raise UserError(
            f"{shown(path)} has the axes {names} and an array of {counted(len(shape), 'axis', 'axes')}; "
            "an image needs z, y and x, and may have c and t"
        )
    if "t" in axes and shape[axes["t"]] != 1:
        raise UserError(f"{shown(path)} has {shape[axes['t']]} points in time; write one image for each")
    scale, translation = _transformed(path, multiscale, len(shape))
    columns, origin = np.zeros((3, 3)), np.zeros(3)
    used = [multiscale.axes[axes[name]] for name in "xyz"]
    for column, (axis, (world, sign)) in enumerate(zip(used, _directions(path, used), strict=True)):
        if axis.unit not in MM:
            given = f"the unit {escaped(axis.unit)!r}" if axis.unit else "no unit"
            raise UserError(
                f'{shown(path)} gives its axis {axis.name} {given}; write "millimeter" or "micrometer" into its metadata'
            )
        place = axes[axis.name]
        columns[world, column] = sign * scale[place] * MM[axis.unit]
        origin[world] = sign * translation[place] * MM[axis.unit]
    order = tuple(axes[name] for name in "czyxt" if name in axes)
    channels = shape[axes["c"]] if "c" in axes else 1
    geometry = make_geometry(path, columns, origin, tuple(shape[axes[name]] for name in "xyz"))
    return _Image(array, order, geometry, channels)


def _transformed(path: Path, multiscale: _Multiscale, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Scale and translation of every axis: those of the level, then those of all levels."""
    scale, translation, scaled = np.ones(count), np.zeros(count), False
    for step in (*multiscale.datasets[0].coordinateTransformations, *multiscale.coordinateTransformations):
        given = step.scale if step.type == "scale" else step.translation
        if step.type not in ("scale", "translation") or len(given) != count:
            raise UserError(
                f"{shown(path)} has a transformation {escaped(step.type)!r} of {counted(len(given), 'number')} "
                f"for {counted(count, 'axis', 'axes')}; "
                "write a scale, and a translation if there is one"
            )
        if step.type == "scale":
            scale, translation, scaled = scale * given, translation * given, True
        else:
            translation = translation + given
    if not scaled:
        raise UserError(
            f"{shown(path)} gives no scale of its finest level, so its spacing is unknown; write one into its metadata"
        )
    return scale, translation


def _directions(path: Path, axes: list[_Axis]) -> list[tuple[int, int]]:
    """World axis and sign of x, y and z: LPS where no axis says more."""
    if all(axis.orientation is None for axis in axes):
        values = [LPS[axis.name] for axis in axes]
    else:
        values = [axis.orientation.value if axis.orientation else "unknown" for axis in axes]
    found = [ORIENTATIONS[value] for value in values if value in ORIENTATIONS]
    if len({world for world, _ in found}) != 3:
        raise UserError(
            f"{shown(path)} has the orientations {escaped(listed(values, 3))}; write those of three axes of a patient"
        )
    return found
