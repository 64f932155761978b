"""Between napari's layers and volumes.

napari's world has the axes of the array, (z, y, x), and no directions of the body. Here it is the patient's: z to the head, y to the
back, x to the left, in mm. What a layer's scale, translate, rotate, shear and affine say together is then its Geometry.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, TypeAlias

import numpy as np

from unetrpp.core.errors import UserError
from unetrpp.inference.segmentation import Segmentation
from unetrpp.io.angles import has_right_angles
from unetrpp.io.geometry import GRID_LIMIT_VOXELS, Geometry, same_grid
from unetrpp.io.images import Volume
from unetrpp.io.readers.grid import make_geometry
from unetrpp.io.readers.values import without_alpha
from unetrpp.plotting.colors import color

LayerData: TypeAlias = tuple[np.ndarray, dict[str, Any], str]  # as napari takes it: array, arguments, type of the layer
PLACE = (
    "scale",
    "translate",
    "rotate",
    "shear",
    "affine",
    "units",
    "axis_labels",
)  # arguments that say where a layer lies
OPACITY = 0.5
FAR = 2.0**20  # voxels; over so many of them, rounding beside the origin is lost
UNCERTAINTY = "unetrpp uncertainty"  # in the metadata of such layers


class Layer(Protocol):
    """What is used of napari's image and labels layers."""

    name: str
    data: Any  # an array, or what becomes one; a sequence of them, from fine to coarse, where multiscale
    multiscale: bool
    units: Sequence[Any]  # pint's, one an axis

    def data_to_world(self, position: Sequence[float]) -> Sequence[float]: ...


def volume_of(layers: Sequence[Layer], *, pictures: bool) -> Volume:
    """The channels of one image: each layer is one, or all of them where it has colours (RGB).

    Args:
        pictures: whether the model was trained on pictures, whose pixels count as 1 x 1 whatever a file says.

    Raises:
        UserError: a layer has another number of axes than two or three, sheared axes or transparent pixels, or the layers are on
            different grids.
    """
    volumes = [_volume(layer, pictures) for layer in layers]
    for layer, volume in zip(layers, volumes, strict=True):
        if differences := same_grid(volumes[0].geometry, volume.geometry, GRID_LIMIT_VOXELS):
            raise UserError(
                f"layers {layers[0].name!r} and {layer.name!r} are on different grids: {differences[0]}; "
                "choose layers of one image"
            )
    return Volume(np.concatenate([volume.array for volume in volumes]), volumes[0].geometry)


def _volume(layer: Layer, pictures: bool) -> Volume:
    array, colours = _array(layer), bool(getattr(layer, "rgb", False))
    channels = np.moveaxis(array, -1, 0) if colours else array[None]
    if channels.ndim not in (3, 4):
        raise UserError(
            f"layer {layer.name!r} has {channels.ndim - 1} axes, and an image two or three; split it (Split Stack in its menu)"
        )
    flat = channels.ndim == 3
    geometry = geometry_of(layer, channels.shape[1:])
    if flat and pictures:
        _, y, x = geometry.shape_zyx
        geometry = Geometry(shape_zyx=(1, y, x), spacing_zyx_mm=(1.0, 1.0, 1.0), dimensions=2)
    channels = channels.reshape(-1, *geometry.shape_zyx)
    if colours and len(channels) == 4:
        channels = without_alpha(Path(layer.name), channels)
    return Volume(channels.astype(np.float32), geometry)


def _array(layer: Layer) -> np.ndarray:
    array: np.ndarray = np.asarray(layer.data[0] if layer.multiscale else layer.data)
    return array


def geometry_of(layer: Layer, shape: tuple[int, ...]) -> Geometry:
    """The grid of a layer of this shape (Y, X) or (Z, Y, X).

    Lengths in pixels, which is what napari has where nothing else is known, count as mm.

    Raises:
        UserError: its axes are not at right angles.
    """
    n = len(shape)
    mm = np.array([_in_mm(unit) for unit in layer.units])
    origin = np.asarray(layer.data_to_world([0.0] * n)) * mm
    ends = [np.asarray(layer.data_to_world(step)) * mm for step in (FAR * np.eye(n)).tolist()]
    columns = (np.stack(ends, axis=1) - origin[:, None]) / FAR
    if not has_right_angles(columns):
        raise UserError(f"layer {layer.name!r} is sheared; reset its transform or resample it")
    return make_geometry(Path(layer.name), columns[::-1, ::-1], origin[::-1], shape[::-1])


def _in_mm(unit: Any) -> float:
    """The length of a unit of pint in mm; 1 for pixels."""
    return float((1 * unit).to("mm").magnitude) if unit.is_compatible_with("mm") else 1.0


def placed(geometry: Geometry) -> dict[str, Any]:
    """The arguments that place a layer on a grid of three axes, in mm."""
    affine = np.eye(4)
    affine[:3, :3] = np.array(geometry.direction).reshape(3, 3)[::-1, ::-1]
    affine[:3, 3] = geometry.origin_xyz_mm[::-1]
    return {"scale": geometry.spacing_zyx_mm, "affine": affine, "units": ("mm", "mm", "mm")}


def place_of(layer: object) -> dict[str, Any]:
    """The arguments that place another layer where this one lies; the channels of colours are no axis."""
    return {name: getattr(layer, name) for name in PLACE if hasattr(layer, name)}


def result_layers(segmentation: Segmentation, name: str, place: Mapping[str, Any]) -> list[LayerData]:
    """The labels in the colours of reports, with the names of the classes, and the uncertainty (entropy) where there is one.

    Args:
        name: of the segmented layer.
        place: of the segmented layer, by :func:`place_of`.
    """
    flat = segmentation.geometry.dimensions == 2
    values = list(segmentation.names)
    clear = (0.0, 0.0, 0.0, 0.0)
    colours: dict[int | None, tuple[float, ...]] = {None: clear, 0: clear}
    colours |= {value: (*color(i), 1.0) for i, value in enumerate(values)}
    labels = {
        "name": f"{name} segmentation",
        "opacity": OPACITY,
        "colormap": colours,
        "features": {"index": [0, *values], "name": ["background", *segmentation.names.values()]},
        **place,
    }
    found: list[LayerData] = [(segmentation.array[0] if flat else segmentation.array, labels, "labels")]
    if segmentation.entropy is not None:
        shown = {
            "name": f"{name} uncertainty",
            "colormap": "inferno",
            "blending": "additive",
            "contrast_limits": (0.0, 1.0),
            "metadata": {UNCERTAINTY: True},
        }
        found.insert(0, (segmentation.entropy[0] if flat else segmentation.entropy, {**shown, **place}, "image"))
    return found
