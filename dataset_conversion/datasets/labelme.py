"""labelme: a JSON file for every photograph, with the shapes that were drawn into it.

Source: <https://github.com/wkentaro/labelme>; AnyLabeling and X-AnyLabeling write the same form.
Licence: of the photographs.

Expected: JSON files with `shapes` and `imagePath` below the folder, beside the photographs or in another folder:

    images/cell_01.png  images/cell_01.json  ...

The image is the file that `imagePath` names, else the one of its name below the folder, else the one embedded as `imageData`.
The file name of the image is the name of its case.

Label values: labels get the values 1, 2, ... in alphabetical order. `_background_` is painted as 0, which cuts holes, and
`__ignore__` becomes the label `ignore`, pixels that training does not count.

Shapes: polygon, rectangle, circle and mask. Points and lines have no area: such an image is left out and named.

Traps:
- Shapes overlap, but a pixel has one class: the later shape of the file lies on top, as in labelme itself.
- Touching objects of one class become one region.
- A pixel belongs to a shape when its centre does; pixels begin at whole numbers. labelme's own export takes every pixel that
  an outline touches, so its objects are larger by about half a pixel on every side.
- A photograph that a camera stored turned (EXIF) is left out and named: labelme shows it upright.
- Photographs without a JSON file were not annotated, and are named; one with a file without shapes has no object, and one line
  says how many there are. JSON files that cannot be read are named.
"""

import base64
import binascii
import io
import math
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from unetrpp.core.errors import UserError
from unetrpp.core.files import read_json
from unetrpp.core.text import counted
from unetrpp.dataset_conversion.annotations.drawn import Drawing, Object, json_files, source_of
from unetrpp.dataset_conversion.annotations.polygons import Ellipse, Polygon, Shape, encoded_runs, rectangle
from unetrpp.dataset_conversion.datasets import About
from unetrpp.dataset_conversion.source import Source
from unetrpp.io.images import Volume, read_file

ABOUT = About(
    title="labelme: photographs with a JSON file of shapes for each",
    modality="photographs, microscopy",
    cases="any number of cases",
    size="any size",
    origin="https://github.com/wkentaro/labelme",
    licence="that of the data",
)
FORMATS = {"PNG": ".png", "JPEG": ".jpg", "BMP": ".bmp"}  # of an embedded image, by Pillow's names


@dataclass(frozen=True)
class Embedded:
    """The photograph that a JSON file holds itself."""

    file: Path

    @property
    def files(self) -> tuple[Path, ...]:
        return (self.file,)

    def read(self) -> Volume:
        """
        Raises:
            UserError: it cannot be decoded, or is in another format than PNG, JPEG or BMP.
        """
        content = _decoded(read_json(self.file, dict[str, Any])["imageData"])
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / f"image in {self.file.stem}{_ending(content)}"
            path.write_bytes(content)
            return read_file(path)


def read(folder: Path) -> Source:
    """The annotated photographs below a folder.

    Raises:
        UserError: no file has labelme's form.
    """
    drawings: list[Drawing] = []
    damaged: dict[Path, str] = {}
    for file, content in json_files(folder):
        if isinstance(content, str):
            damaged[file] = content
        elif _is_labelme(content):
            drawings.append(_drawing(file, content))
    if not drawings:
        what = next(iter(damaged.values()), "give the folder that labelme wrote to")
        raise UserError(f"{folder} has no JSON file with shapes and imagePath; {what}")
    classes = sorted({thing.name for drawing in drawings for thing in drawing.objects})
    source = source_of(folder, drawings, classes)
    return replace(source, unused={**source.unused, **damaged})


def _is_labelme(content: Mapping[str, Any]) -> bool:
    image = content.get("imagePath")
    return isinstance(content.get("shapes"), list) and isinstance(image, str) and bool(image)


def _drawing(file: Path, content: Mapping[str, Any]) -> Drawing:
    objects: list[Object] = []
    fault: str | None = None
    for number, shape in enumerate(content["shapes"], 1):
        try:
            objects.append(Object((shape["label"] or "").strip(), (_shape(shape),)))
        except UserError as error:
            fault = fault or f"shape {number} of {file.name} {error}"
        except (KeyError, TypeError, ValueError, AttributeError, OverflowError, OSError) as error:
            fault = (
                fault or f"shape {number} of {file.name} is malformed ({type(error).__name__}: {error}); draw it again"
            )
    size = (content.get("imageHeight"), content.get("imageWidth"))
    if not all(value is None or isinstance(value, int) for value in size):
        fault = (
            fault or f"{file.name} has an imageHeight or imageWidth that is no whole number; save it again with labelme"
        )
    return Drawing(
        content["imagePath"],
        file,
        (size[0], size[1]) if isinstance(size[0], int) and isinstance(size[1], int) else None,
        tuple(objects),
        embedded=Embedded(file) if content.get("imageData") else None,
        fault=fault,
    )


def _shape(shape: Mapping[str, Any]) -> Shape:
    """
    Raises:
        UserError: it has no area, or is of a kind that labelme did not have.
    """
    kind = shape.get("shape_type") or "polygon"  # the first versions had no other
    if kind not in KINDS:
        raise UserError(f"is a {kind}, which has no area; draw an outline, or remove it")
    points = [(float(x), float(y)) for x, y in shape["points"]]
    if len(points) < 3 if kind == "polygon" else len(points) != 2:
        needed = "three points at least" if kind == "polygon" else "two points"
        raise UserError(f"is a {kind} of {counted(len(points), 'point')}, but needs {needed}; draw it again")
    return KINDS[kind](points, shape)


def _polygon(points: Sequence[tuple[float, float]], _: Mapping[str, Any]) -> Shape:
    return Polygon(tuple(points))


def _rectangle(points: Sequence[tuple[float, float]], _: Mapping[str, Any]) -> Shape:
    (x0, y0), (x1, y1) = points
    return rectangle(x0, y0, x1, y1)


def _circle(points: Sequence[tuple[float, float]], _: Mapping[str, Any]) -> Shape:
    """The centre and a point of the edge."""
    centre, edge = points
    radius = math.dist(centre, edge)
    return Ellipse(centre, (radius, radius))


def _mask(points: Sequence[tuple[float, float]], shape: Mapping[str, Any]) -> Shape:
    """A PNG whose first pixel lies at the first point, without its decimals, as in labelme's utils/shape.py."""
    (left, top), _ = points
    content = _decoded(shape["mask"])
    with Image.open(io.BytesIO(content)) as image:
        pixels = np.asarray(image.convert("L"))
    return encoded_runs(pixels, int(top), int(left))


KINDS: dict[str, Callable[[Sequence[tuple[float, float]], Mapping[str, Any]], Shape]] = {
    "polygon": _polygon,
    "rectangle": _rectangle,
    "circle": _circle,
    "mask": _mask,
}


def _decoded(text: str) -> bytes:
    try:
        return base64.b64decode(text)
    except (binascii.Error, TypeError, ValueError):
        raise UserError("holds an image that is not encoded in base64; save the file again with labelme") from None


def _ending(content: bytes) -> str:
    try:
        with Image.open(io.BytesIO(content)) as image:
            found = image.format or ""
    except (OSError, Image.DecompressionBombError):
        found = ""
    if found not in FORMATS:
        raise UserError(f"the embedded image is none of {', '.join(FORMATS)}; save it as a file beside the annotations")
    return FORMATS[found]
