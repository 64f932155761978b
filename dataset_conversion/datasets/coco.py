"""COCO annotations: a JSON file with the objects of many photographs, as polygons or run lengths.

Source: <https://cocodataset.org/#format-data>, "Object Detection"; also the export of CVAT, Label Studio, Roboflow and others.
Licence: of the photographs.

Expected: photographs (PNG, JPEG, BMP, TIFF) and one JSON file below the folder, which lists `images`, `annotations` and
`categories`. Images are found by their `file_name`, relative to the JSON file or anywhere below the folder:

    annotations/instances_train2017.json     annotations/instances_val2017.json
    train2017/000000000009.jpg               val2017/000000000139.jpg

Where there are several such files, --annotations names those to train on (all are joined) and --test-annotations those of
test cases. The file name of an image is the name of its case.

Label values: categories get the values 1, 2, ... in the order of their ids (which have gaps in COCO, and start at 0 in some
exports); categories of one name are one class, and those that no annotation has are left out. All are said once.

Traps:
- Objects overlap, but a pixel has one class: objects are painted from the largest to the smallest, so that the small ones lie
  on top. Objects marked `iscrowd` are painted like the others.
- A pixel belongs to a polygon when its centre does; pixels begin at whole numbers. The parts of one object are joined, so a
  part inside another is no hole. pycocotools rounds corners to a fifth of a pixel, so single pixels at the edge may differ.
- Touching objects of one class become one region.
- An image without annotations is an image without objects; one line says how many there are.
- Annotations that have a box only cannot be painted: the image is left out and named.
- A photograph that a camera stored turned (EXIF) is left out and named, because programs differ in what they annotated.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from unetrpp.core.errors import UserError
from unetrpp.core.files import read_json
from unetrpp.core.text import counted, listed
from unetrpp.dataset_conversion.annotations.drawn import Drawing, Object, json_files, source_of
from unetrpp.dataset_conversion.annotations.polygons import Polygon, Runs, Shape, decoded_lengths
from unetrpp.dataset_conversion.datasets import About
from unetrpp.dataset_conversion.source import Source

if TYPE_CHECKING:
    from unetrpp.core.command_line import Parser

ABOUT = About(
    title="COCO: photographs with a JSON file of polygons or run lengths",
    modality="photographs, microscopy",
    cases="any number of cases",
    size="any size",
    origin="any program that exports COCO's format",
    licence="that of the data",
)
KEYS = ("images", "annotations", "categories")


def add_options(parser: "Parser") -> None:
    what = "the JSON files to train on, relative to SRC (default: the only one there)"
    parser.add_argument("--annotations", nargs="+", default=(), metavar="FILE", help=what)
    parser.add_argument("--test-annotations", nargs="+", default=(), metavar="FILE", help="those of test cases")


def read(folder: Path, *, annotations: Sequence[str] = (), test_annotations: Sequence[str] = ()) -> Source:
    """The annotated photographs below a folder.

    Raises:
        UserError: there is no such file, several and none was chosen, or one is malformed.
    """
    files = [folder / name for name in annotations] or [_only_file(folder)]
    tests = [folder / name for name in test_annotations]
    contents = {file: _content(file) for file in (*files, *tests)}
    names = {file: _category_names(file, content) for file, content in contents.items()}
    used: dict[str, None] = {}
    drawings: list[Drawing] = []
    for file, content in contents.items():
        found, of_file = _drawings(file, content, names[file], test=file in tests)
        drawings += found
        used |= dict.fromkeys(name for _, name in sorted(names[file].items()) if name in of_file)
    if not used:
        raise UserError(f"{listed([file.name for file in files])} has no annotation; check the file")
    return source_of(folder, drawings, list(used), largest_first=True, notes=_notes(names, used))


def _only_file(folder: Path) -> Path:
    """
    Raises:
        UserError: no JSON file below the folder has COCO's keys, or several have.
    """
    found: list[Path] = []
    damaged: list[str] = []
    for path, content in json_files(folder):
        if isinstance(content, str):
            damaged.append(content)
        elif all(isinstance(content.get(key), list) for key in KEYS):
            found.append(path)
    if len(found) == 1:
        return found[0]
    if not found:
        what = damaged[0] if damaged else "give the folder of the annotations and images"
        raise UserError(f"{folder} has no JSON file with {', '.join(KEYS)}; {what}")
    names = [path.relative_to(folder).as_posix() for path in found]
    raise UserError(
        f"{folder} has {len(names)} files of annotations ({listed(names, 10)}); choose with --annotations, and --test-annotations"
    )


def _content(file: Path) -> dict[str, Any]:
    content = read_json(file, dict[str, Any], hint="give a file of COCO's format")
    if missing := [key for key in KEYS if not isinstance(content.get(key), list)]:
        raise UserError(f"{file} has no list of {listed(missing)}; give a file of COCO's format")
    return content


def _category_names(file: Path, content: Mapping[str, Any]) -> dict[int, str]:
    try:
        pairs = [(int(category["id"]), category["name"].strip()) for category in content["categories"]]
    except (KeyError, TypeError, ValueError, AttributeError):
        pairs = [(0, "")]
    if not all(name for _, name in pairs):
        raise UserError(f"{file}: every category must have a number as its id, and a name; correct the file")
    _require_once(file, "category", [id for id, _ in pairs])
    return dict(pairs)


def _require_once(file: Path, what: str, ids: Sequence[Any]) -> None:
    """
    Raises:
        UserError: two have one id, so that annotations do not say which of them they mean.
    """
    if twice := [id for id, times in Counter(ids).items() if times > 1]:
        raise UserError(f"{file} has the {what} {twice[0]!r} twice; give each an id of its own")


def _drawings(
    file: Path, content: Mapping[str, Any], names: Mapping[int, str], *, test: bool
) -> tuple[list[Drawing], set[str]]:
    """The photographs of a file with their objects, and the classes that objects have."""
    try:
        _require_once(file, "image", [image["id"] for image in content["images"]])
        images = {image["id"]: image for image in content["images"]}
        by_image: dict[Any, list[Mapping[str, Any]]] = {}
        for annotation in content["annotations"]:
            by_image.setdefault(annotation["image_id"], []).append(annotation)
        if unknown := [key for key in by_image if key not in images]:
            raise UserError(
                f"{file} has annotations of image {unknown[0]!r}, which is not among its images; correct the file"
            )
        drawings = [_drawing(file, images[key], by_image.get(key, ()), names) for key in images]
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise UserError(
            f"{file} is not in COCO's format ({type(error).__name__}: {error}); export the annotations again"
        ) from None
    classes = {thing.name for drawing in drawings for thing in drawing.objects}
    return [replace(drawing, test=test) for drawing in drawings], classes


def _drawing(
    file: Path, image: Mapping[str, Any], annotations: Sequence[Mapping[str, Any]], names: Mapping[int, str]
) -> Drawing:
    size = (int(image.get("height") or 0), int(image.get("width") or 0))
    objects: list[Object] = []
    fault = None if min(size) > 0 else f"has no width and height in {file.name}; add them"
    for annotation in annotations:
        try:
            shapes = _shapes(annotation.get("segmentation"), size)
            category = annotation["category_id"]
            if category not in names:
                raise UserError(f"has the category {category!r}, which the file does not list; correct or remove it")
            objects.append(Object(names[category], shapes))
        except UserError as error:
            fault = fault or f"annotation {annotation.get('id')} {error}"
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            what = f"{type(error).__name__}: {error}"
            fault = fault or f"annotation {annotation.get('id')} is malformed ({what}); correct or remove it"
    return Drawing(str(image["file_name"]), file, size, tuple(objects), fault=fault)


def _shapes(segmentation: object, size: tuple[int, int]) -> tuple[Shape, ...]:
    """
    Raises:
        UserError: there is no outline, or it is malformed.
    """
    if isinstance(segmentation, dict):
        counts, (height, width) = segmentation["counts"], map(int, segmentation["size"])
        if (height, width) != size:
            raise UserError(f"has run lengths of {width} x {height} pixels, not those of the image; export them again")
        lengths = decoded_lengths(counts) if isinstance(counts, str) else tuple(map(int, counts))
        return (Runs(lengths, (0, 0, height, width), by_column=True),)
    rings = [ring for ring in segmentation if ring] if isinstance(segmentation, list) else []
    if not rings:
        raise UserError("has no outline, at most a box; draw one, or remove it")
    if wrong := next((ring for ring in rings if len(ring) < 6 or len(ring) % 2), None):
        raise UserError(
            f"has an outline of {counted(len(wrong), 'number')}, but x and y of three corners at least are needed; correct it"
        )
    return tuple(Polygon(tuple(zip(map(float, ring[::2]), map(float, ring[1::2]), strict=True))) for ring in rings)


def _notes(names: Mapping[Path, Mapping[int, str]], used: Mapping[str, None]) -> list[str]:
    known = dict.fromkeys(name for of_file in names.values() for name in of_file.values())
    unused = [name for name in known if name not in used]
    notes = ["objects are painted from the largest to the smallest, so that small ones lie on top"]
    if unused:
        notes.append(
            f"no annotation has the {'category' if len(unused) == 1 else 'categories'} {listed(unused)}, so it is no class"
        )
    return notes
