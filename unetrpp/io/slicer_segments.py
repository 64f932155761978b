"""Segments of 3D Slicer's .seg.nrrd as masks on the grid of an image.

https://slicer.readthedocs.io/en/latest/developer_guide/modules/segmentations.html describes the format: segments that overlap lie
in several layers (the list axis), in each of which a segment has a value of its own. A file of one voxel holds no segment's
voxels. Files of old versions have neither layers nor values: every segment is a volume of its own along the list axis.
"""

import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from unetrpp.core.errors import UserError
from unetrpp.core.text import counted
from unetrpp.io.geometry import Geometry
from unetrpp.io.onto_grid import paste
from unetrpp.io.readers import nrrd

FIELD = re.compile(rb"(Segment\d+|Segmentation)_(\w+):=(.*)")
BINARY = "Binary labelmap"


class Segment(NamedTuple):
    """A segment by its name, the layer that it lies in (from 0 on), and its value there."""

    name: str
    layer: int
    value: int


def read_segments(path: Path) -> list[Segment]:
    """The segments that a file lists, from its header alone.

    Raises:
        UserError: it is no segmentation, or not one of whole voxels.
    """
    fields: dict[str, dict[str, str]] = {}
    header = nrrd.Header(path)
    for line in header.lines:
        if match := FIELD.fullmatch(line.strip()):
            owner, key, value = (part.decode("utf-8", "replace").strip() for part in match.groups())
            fields.setdefault(owner, {})[key] = value
    about = fields.pop("Segmentation", {})
    kind = about.get("SourceRepresentation", about.get("MasterRepresentation", BINARY))
    if kind != BINARY:
        raise UserError(f"{path.name} holds the representation {kind!r}; save it with binary labelmaps as its source")
    if not fields and not about:
        raise UserError(f"{path.name} lists no segments, so it is no segmentation of 3D Slicer; save it again there")
    is_list = len(header.sizes()) > 3
    return [_segment(path, number, of, is_list) for number, of in enumerate(_in_order(fields))]


def _in_order(fields: dict[str, dict[str, str]]) -> list[dict[str, str]]:
    return [fields[owner] for owner in sorted(fields, key=lambda owner: int(owner.removeprefix("Segment")))]


def _segment(path: Path, number: int, fields: dict[str, str], is_list: bool) -> Segment:
    layer = fields.get("Layer", str(number) if is_list and "LabelValue" not in fields else "0")
    value = fields.get("LabelValue", "1")
    if not (layer.isdecimal() and value.isdecimal()):
        raise UserError(
            f"{path.name} has a segment in the layer {layer!r} with the value {value!r}, which are no numbers"
        )
    return Segment(fields.get("Name") or fields.get("ID") or f"segment {number}", int(layer), int(value))


def draw(path: Path, segments: Iterable[Segment], geometry: Geometry) -> Iterator[np.ndarray]:
    """The segments on a grid (Z, Y, X), as booleans, one after the other; a file may cover a part of the grid.

    Raises:
        UserError: a damaged file, a layer that it does not have, or another grid.
    """
    layers, own = nrrd.read(path)
    for segment in segments:
        target = np.zeros(geometry.shape_zyx, np.uint8)
        if own.shape_zyx != (1, 1, 1):
            if segment.layer >= len(layers):
                raise UserError(
                    f"{path.name} has {counted(len(layers), 'layer')}, but its segment {segment.name!r} is in layer {segment.layer}, "
                    "from 0; save it again in 3D Slicer"
                )
            mask = (layers[segment.layer] == segment.value).astype(np.uint8)
            paste(mask, own, target, geometry, name=path.name)
        yield target > 0
