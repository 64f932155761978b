"""Images that napari opens with their grid, the synthetic sample, and labels that it saves with their grid."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from unetrpp.dataset.synthetic import SCHEME, synthetic_case
from unetrpp.io.formats import strip_ending
from unetrpp.io.images import read_image, write_segmentation
from unetrpp.napari.layers import LayerData, geometry_of, placed

FIRST_HELD_OUT = 20  # of unetrpp_demo: no fold was trained on it


def sample() -> list[LayerData]:
    """The first held-out case of unetrpp_demo: its image, and its reference, hidden."""
    image, label = synthetic_case(0, FIRST_HELD_OUT)
    place = placed(image.geometry)
    names = {"index": list(SCHEME.values), "name": list(SCHEME.names)}
    return [
        (image.array[0], {"name": "synthetic", **place}, "image"),
        (label.array[0], {"name": "synthetic reference", "visible": False, "features": names, **place}, "labels"),
    ]


def reader(path: str | list[str]) -> Callable[[str], list[LayerData]] | None:
    """The function that opens a file; None for several that are to become one stack."""
    return read if isinstance(path, str) else None


def read(path: str) -> list[LayerData]:
    """A file's channels as image layers in their place in the patient.

    Raises:
        UserError: it is missing, damaged or not an image.
    """
    file = Path(path)
    volume = read_image(file)
    name, flat = strip_ending(file.name), volume.geometry.dimensions == 2
    names = [name] if len(volume.array) == 1 else [f"{name} {i}" for i in range(len(volume.array))]
    place = {} if flat else placed(volume.geometry)
    channels = volume.array[:, 0] if flat else volume.array
    return [(channel, {"name": each, **place}, "image") for channel, each in zip(channels, names, strict=True)]


def write_labels(path: str, data: np.ndarray, attributes: dict[str, Any]) -> list[str]:
    """Write a labels layer on its grid; returns the files, as napari wants to know them.

    Raises:
        UserError: it has another number of axes than two or three, or sheared axes.
    """
    from napari.layers import Labels  # napari is there, for it calls this

    layer = Labels(data, **attributes)
    geometry = geometry_of(layer, data.shape)
    write_segmentation(Path(path), data.reshape(geometry.shape_zyx), geometry)
    return [path]
