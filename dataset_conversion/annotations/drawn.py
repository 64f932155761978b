"""What COCO, labelme and CVAT have in common: photographs, and label maps that are painted from the objects drawn into them."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from unetrpp.core.errors import UserError
from unetrpp.core.files import is_system, read_json, walk
from unetrpp.core.text import composed, counted, escaped, listed
from unetrpp.dataset.labels import LabelScheme
from unetrpp.dataset_conversion.annotations.polygons import Area, Shape
from unetrpp.dataset_conversion.channels import inferred_channels
from unetrpp.dataset_conversion.finding import images_in_tree, not_used
from unetrpp.dataset_conversion.masks import Canvas, Painted, Remarks
from unetrpp.dataset_conversion.source import Made, Source, SourceCase, scheme_of
from unetrpp.io.formats import strip_ending
from unetrpp.io.images import read_geometry

BACKGROUND = ("background", "_background_")  # classes that are painted as 0; the second is labelme's name
IGNORE = ("ignore", "__ignore__")


@dataclass(frozen=True)
class Object:
    """An object of a class; ``shapes`` are its parts, of which it is the union.

    Raises:
        UserError: the class has no name.
    """

    name: str
    shapes: tuple[Shape, ...]

    def __post_init__(self) -> None:
        if not self.name:
            raise UserError("has no class; name one, or remove it")


@dataclass(frozen=True)
class Drawing:
    """A photograph and the objects in it, in the order of painting: where two overlap, the later one counts.

    Attributes:
        image: as the annotations name it, which also is the case's name.
        file: that holds the annotations.
        size: height and width of the image as the annotations have them; None where they do not say.
        embedded: the image itself, for where no file is found.
        fault: why it cannot be used, with the repair.
    """

    image: str
    file: Path
    size: tuple[int, int] | None
    objects: tuple[Object, ...]
    test: bool = False
    embedded: Made | None = None
    fault: str | None = None


@dataclass(frozen=True)
class Drawn:
    """A label map made from objects.

    Attributes:
        objects: in the order of painting.
        values: class -> value.
    """

    file: Path  # the annotations
    image: Path | Made
    size: tuple[int, int] | None
    objects: tuple[Object, ...]
    values: Mapping[str, int]
    largest_first: bool = False

    @property
    def files(self) -> tuple[Path, ...]:
        return (self.file,)

    def read(self) -> Painted:
        """
        Raises:
            UserError: the image cannot be read, is stored turned, or has another size than the annotations say.
        """
        geometry = read_geometry(self.image) if isinstance(self.image, Path) else self.image.read().geometry
        depth, *size = geometry.shape_zyx
        if depth != 1 or (self.size is not None and self.size != tuple(size)):
            wanted = " x ".join(map(str, (self.size or size)[::-1]))
            found = " x ".join(map(str, (*size[::-1], *([depth] if depth > 1 else []))))
            raise UserError(
                f"{self.file.name} has an image of {wanted} pixels, but {self._image_name} has {found}; give the image that was annotated"
            )
        canvas = Canvas((1, 1, *size), max(self.values.values()))
        for thing, areas in self._areas((size[0], size[1])):
            for top, left, mask in areas:
                place = (slice(top, top + mask.shape[0]), slice(left, left + mask.shape[1]))
                canvas.paint(thing.name, self.values[thing.name], mask[None, None], (slice(None), slice(None), *place))
        remarks = canvas.remarks()
        covered = tuple(f"later objects leave nothing of {name}" for name in remarks.hidden)
        return Painted(canvas.label, geometry, Remarks(remarks.pairs, others=covered))

    def _areas(self, size: tuple[int, int]) -> list[tuple[Object, list[Area]]]:
        """The objects with the pixels of their parts, in the order of painting."""
        areas = [(thing, [shape.area(size) for shape in thing.shapes]) for thing in self.objects]
        if self.largest_first:
            areas.sort(key=lambda pair: -sum(int(area.mask.sum()) for area in pair[1]))
        return areas

    @property
    def _image_name(self) -> str:
        return self.image.name if isinstance(self.image, Path) else "the image in it"


def json_files(folder: Path) -> Iterator[tuple[Path, dict[str, Any] | str]]:
    """The JSON files below a folder that hold an object, with their content, or why they cannot be read.

    One after the other, because embedded images and large files of annotations would fill the memory together.
    """
    for path in walk(folder):
        if path.suffix.lower() != ".json" or is_system(path) or not path.is_file():
            continue
        try:
            content = read_json(path, Any, hint="correct it, or export it again")
        except (UserError, OSError) as error:
            yield path, f"cannot be read: {error}"
            continue
        if isinstance(content, dict):
            yield path, content


def source_of(
    folder: Path,
    drawings: Sequence[Drawing],
    classes: Sequence[str],
    *,
    largest_first: bool = False,
    notes: Sequence[str] = (),
) -> Source:
    """The cases of annotated photographs below ``folder``.

    Args:
        classes: in the order of their values 1, 2, ...; what is called background or ignore gets no value of its own.
        largest_first: paint the object with most pixels first, so that small ones lie on top.

    Raises:
        UserError: there is no class, or no image that can be used.
    """
    values, labels = valued(classes)
    files = _by_name(folder)
    names = case_names([drawing.image for drawing in drawings])
    images = [_found(drawing, files) for drawing in drawings]
    same = {
        name: [drawing.image for drawing, other in zip(drawings, names, strict=True) if other == name] for name in names
    }
    faults = {
        name: fault
        for drawing, name, image in zip(drawings, names, images, strict=True)
        if (fault := _fault(drawing, image, same[name])) is not None
    }
    cases = [
        SourceCase(
            name,
            (image,),
            Drawn(drawing.file, image, drawing.size, drawing.objects, values, largest_first),
            test=drawing.test,
        )
        for drawing, name, image in zip(drawings, names, images, strict=True)
        if name not in faults and not isinstance(image, str)
    ]
    if not any(not case.test for case in cases):
        why = "".join(f": {escaped(name)} {fault}" for name, fault in list(faults.items())[:1])
        raise UserError(f"{folder} has no annotated image to train on{why or '; check the annotations'}")
    annotated: dict[Path, str | None] = {image: None for image in images if isinstance(image, Path)}
    return Source(
        channel_names=inferred_channels(cases),
        labels=labels,
        cases=tuple(cases),
        left_out=faults,
        unused=not_used(folder, cases, "is not in the annotations; annotate it, or remove it", annotated),
        notes=(*notes, *_without_objects(cases)),
    )


def _without_objects(cases: Sequence[SourceCase]) -> list[str]:
    empty = sum(isinstance(case.label, Drawn) and not case.label.objects for case in cases)
    verb = "counts as an image" if empty == 1 else "count as images"
    return [f"{counted(empty, 'image')} without annotations {verb} without objects"] if empty else []


def valued(classes: Sequence[str]) -> tuple[dict[str, int], LabelScheme]:
    """The value of every class, in their order from 1 on, and the labels of the dataset.

    >>> valued(["cell", "_background_", "__ignore__"])[0]
    {'cell': 1, '_background_': 0, '__ignore__': 2}

    Raises:
        UserError: no class is left.
    """
    named = [name for name in dict.fromkeys(classes) if name.casefold() not in (*BACKGROUND, *IGNORE)]
    if not named:
        raise UserError("the annotations have no class but the background; annotate objects of a class")
    values = {name: i for i, name in enumerate(named, 1)}
    ignored = [name for name in classes if name.casefold() in IGNORE]
    known = {**values, **({"ignore": len(named) + 1} if ignored else {})}
    others = {name: 0 for name in classes if name.casefold() in BACKGROUND}
    return values | others | dict.fromkeys(ignored, len(named) + 1), scheme_of(known)


def case_names(images: Sequence[str]) -> list[str]:
    """The names of cases: those of the images' files, with their folders where files in several folders have one name.

    >>> case_names(["a/1.png", "a/2.png"]), case_names(["a/1.png", "b/1.png"])
    (['1', '2'], ['a_1', 'b_1'])
    """
    paths = [PurePosixPath(composed(image).replace("\\", "/")) for image in images]
    places: dict[str, set[PurePosixPath]] = {}
    for path in paths:
        places.setdefault(strip_ending(path.name), set()).add(path.parent)
    return [
        stem if len(places[stem]) == 1 else "_".join([*_folders(path), stem])
        for path, stem in ((path, strip_ending(path.name)) for path in paths)
    ]


def _folders(path: PurePosixPath) -> list[str]:
    """Those above a file, without what only absolute and relative paths have, such as ``C:``."""
    return [part for part in path.parent.parts if part not in ("..", "/") and not part.endswith(":")]


def _by_name(folder: Path) -> dict[str, list[Path]]:
    """Name in small letters -> images: annotations often differ in the capitals of an ending."""
    files: dict[str, list[Path]] = {}
    for path in images_in_tree(folder):
        files.setdefault(composed(path.name).casefold(), []).append(path)
    return files


def _found(drawing: Drawing, files: Mapping[str, Sequence[Path]]) -> Path | Made | str:
    """The image's file, or what is wrong: relative to the annotations, else the one file of its name below the folder, else the
    embedded image."""
    given = PurePosixPath(composed(drawing.image).replace("\\", "/"))
    beside = drawing.file.parent / given
    found = files.get(given.name.casefold(), [])
    found = [path for path in found if composed(path.name) == given.name] or found
    ending = [path for path in found if path.parts[-len(given.parts) :] == given.parts]
    for candidates in ([path for path in found if path.resolve() == beside.resolve()], ending, found):
        if len(candidates) == 1:
            return candidates[0]
    if drawing.embedded is not None:
        return drawing.embedded
    if not found:
        return f"{escaped(given.name)} is not there; complete the download, or remove its annotations"
    places = listed([escaped(path.parent.name) for path in found])
    return f"there are several files {escaped(given.name)} (in {places}); give the folder of one"


def _fault(drawing: Drawing, image: Path | Made | str, same: Sequence[str]) -> str | None:
    """Why a photograph cannot be used.

    Args:
        same: the images that the case's name stands for.
    """
    if len(set(same)) > 1:
        return f"would be the case of several images ({listed([escaped(name) for name in same])}); rename them apart"
    if len(same) > 1:
        return f"is annotated {len(same)} times; keep one of them"
    return drawing.fault or (image if isinstance(image, str) else None)
