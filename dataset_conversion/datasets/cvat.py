"""CVAT: one XML file ("CVAT for images 1.1") with the shapes of all photographs of a task.

Source: <https://docs.cvat.ai/docs/other/xml_format>; run lengths and rotations as in CVAT's own formats/transformations.py.
Licence: of the photographs.

Expected: the unpacked export, or its .zip; images are found by their `name`, relative to the XML file or anywhere below the
folder, and give their names to the cases:

    annotations.xml
    images/cell_01.png  ...

Label values: labels get the values 1, 2, ... in the order of the task's list, as far as shapes have them. A label `background`
is painted as 0, which cuts holes, and `ignore` marks pixels that training does not count.

Shapes: polygon, box (turned ones, too), ellipse and mask. Points, polylines, skeletons and cuboids have no area in this sense:
such an image is left out and named. Tags of images are not read.

Traps:
- Shapes overlap, but a pixel has one class: the one with the higher `z_order` lies on top, of equal ones the later in the file.
- Touching objects of one class become one region.
- A pixel belongs to a shape when its centre does; pixels begin at whole numbers. Run lengths of masks go along the rows of
  their box.
- An image without shapes is an image without objects; one line says how many there are.
- "CVAT for video" (tracks) is another format; export the task as "CVAT for images".
- Files with a document type are refused, because entities in it may expand without limit.
- That CVAT shows photographs upright which a camera stored turned (EXIF) was not verified; they are left out and named.
"""

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from xml.etree import ElementTree

from unetrpp.core.errors import UserError
from unetrpp.core.files import is_system, walk
from unetrpp.core.text import counted, listed
from unetrpp.dataset_conversion.annotations.drawn import Drawing, Object, source_of
from unetrpp.dataset_conversion.annotations.polygons import Ellipse, Points, Polygon, Runs, Shape
from unetrpp.dataset_conversion.datasets import About
from unetrpp.dataset_conversion.source import Source

ABOUT = About(
    title="CVAT for images 1.1: photographs with an XML file of shapes",
    modality="photographs, microscopy",
    cases="any number of cases",
    size="any size",
    origin="https://www.cvat.ai",
    licence="that of the data",
)
NOT_DRAWN = ("tag", "attribute")


def read(folder: Path) -> Source:
    """The annotated photographs below a folder.

    Raises:
        UserError: there is not exactly one file of this format, or it is malformed.
    """
    found = {path: root for path in walk(folder) if (root := _root(path)) is not None}
    if len(found) != 1:
        names = [path.relative_to(folder).as_posix() for path in found]
        what = (
            f"several XML files of CVAT ({listed(names)}); give the folder of one"
            if found
            else ("no XML file of CVAT; export the task as CVAT for images 1.1, and give the unpacked folder")
        )
        raise UserError(f"{folder} has {what}")
    [(file, root)] = found.items()
    if root.find("track") is not None:
        raise UserError(f"{file.name} has tracks of a video; export the task as CVAT for images 1.1")
    drawings = [_drawing(file, image) for image in root.iter("image")]
    used = {thing.name for drawing in drawings for thing in drawing.objects}
    listed_first = dict.fromkeys((label.findtext("name") or "").strip() for label in root.iter("label"))
    return source_of(
        folder, drawings, [name for name in {**listed_first, **dict.fromkeys(sorted(used))} if name in used]
    )


def _root(path: Path) -> ElementTree.Element | None:
    """The content of an XML file of CVAT; None for another file.

    Raises:
        UserError: it has a document type, or is malformed.
    """
    if path.suffix.lower() != ".xml" or is_system(path) or not path.is_file():
        return None
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        return None
    if "<annotations" not in text:
        return None
    # The parser itself would expand entities; CVAT writes none.
    if "<!DOCTYPE" in text.upper():
        raise UserError(f"{path.name} has a document type, which CVAT does not write; export the annotations again")
    try:
        root = ElementTree.fromstring(text)
    except ElementTree.ParseError as error:
        raise UserError(f"{path.name} is damaged ({error}); export the annotations again") from None
    return root if root.tag == "annotations" else None


def _drawing(file: Path, image: ElementTree.Element) -> Drawing:
    drawn: list[tuple[int, Object]] = []
    fault: str | None = None
    for element in image:
        if element.tag in NOT_DRAWN:
            continue
        try:
            thing = Object((element.get("label") or "").strip(), (_shape(element),))
            drawn.append((int(element.get("z_order") or 0), thing))
        except UserError as error:
            fault = fault or str(error)
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            what = f"{type(error).__name__}: {error}"
            fault = fault or f"has a {element.tag} that is malformed ({what}); export the annotations again"
    size = [int(value) for key in ("height", "width") if (value := image.get(key, "")).isdecimal()]
    return Drawing(
        image.get("name", ""),
        file,
        (size[0], size[1]) if len(size) == 2 else None,
        tuple(thing for _, thing in sorted(drawn, key=lambda pair: pair[0])),
        fault=fault,
    )


def _shape(element: ElementTree.Element) -> Shape:
    """
    Raises:
        UserError: it has no area, or no label.
    """
    if not (element.get("label") or "").strip():
        raise UserError(f"has a shape {element.tag!r} without a label; give it one, or remove it")
    if element.tag not in KINDS:
        raise UserError(
            f"has a shape {element.tag!r} of {element.get('label')!r}, which has no area; draw an outline, or remove it"
        )
    return KINDS[element.tag](element.attrib)


def _polygon(of: Mapping[str, str]) -> Shape:
    pairs = [pair.split(",") for pair in of["points"].split(";")]
    if len(pairs) < 3:
        raise ValueError(counted(len(pairs), "corner"))
    return Polygon(tuple((float(x), float(y)) for x, y in pairs))


def _box(of: Mapping[str, str]) -> Shape:
    left, top, right, bottom = (float(of[key]) for key in ("xtl", "ytl", "xbr", "ybr"))
    corners = ((left, top), (right, top), (right, bottom), (left, bottom))
    return Polygon(_turned(corners, float(of.get("rotation") or 0)))


def _turned(corners: Points, degrees: float) -> Points:
    """Corners turned clockwise about their centre, as y points downwards."""
    cos, sin = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    cx, cy = (sum(values) / len(corners) for values in zip(*corners, strict=True))
    return tuple((cx + (x - cx) * cos - (y - cy) * sin, cy + (x - cx) * sin + (y - cy) * cos) for x, y in corners)


def _ellipse(of: Mapping[str, str]) -> Shape:
    cx, cy, rx, ry = (float(of[key]) for key in ("cx", "cy", "rx", "ry"))
    return Ellipse((cx, cy), (rx, ry), float(of.get("rotation") or 0))


def _mask(of: Mapping[str, str]) -> Shape:
    top, left, height, width = (int(float(of[key])) for key in ("top", "left", "height", "width"))
    return Runs(tuple(int(length) for length in of["rle"].split(",")), (top, left, height, width))


KINDS: dict[str, Callable[[Mapping[str, str]], Shape]] = {
    "polygon": _polygon,
    "box": _box,
    "ellipse": _ellipse,
    "mask": _mask,
}
