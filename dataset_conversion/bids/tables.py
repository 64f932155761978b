"""Tables of BIDS that name the values of label files: `*_dseg.tsv` with index and name, and `LabelMap` of a JSON file."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from unetrpp.core.errors import UserError
from unetrpp.core.files import is_system, read_json, walk
from unetrpp.dataset.label_files import read_label_file
from unetrpp.dataset_conversion.bids.names import Name
from unetrpp.io.listing import entries

ENDINGS = (".tsv", ".json")
OF_LABELS = ("dseg", "mask")  # suffixes of label files that have tables


def table_of(labels: Sequence[Name], places: Sequence[Path]) -> dict[str, int] | None:
    """The classes that tables below ``places`` name for label files; None where no table applies.

    A table applies to labels in its folder and below whose names have all of its parts; of several, the nearest.

    Raises:
        UserError: labels have different tables, or one is malformed.
    """
    by_folder = _tables(places)
    first: tuple[Path, dict[str, int]] | None = None
    contents: dict[Path, dict[str, int] | None] = {}
    for label in labels:
        for path in _applicable(label, by_folder):
            if path not in contents:
                contents[path] = _classes(path)
            classes = contents[path]
            if classes is None:
                continue
            first = first or (path, classes)
            if classes != first[1]:
                raise UserError(
                    f"{first[0]} and {path} name different classes, but a dataset has one list; choose one kind of label with --labels"
                )
            break
    return None if first is None else first[1]


def _tables(places: Sequence[Path]) -> dict[Path, list[Path]]:
    """Folder -> files in it that can be tables of label files."""
    found: dict[Path, list[Path]] = {}
    for place in places:
        for top in entries(place):
            for path in [top] if top.is_file() else walk(top):
                if path.suffix in ENDINGS and not is_system(path):
                    found.setdefault(path.parent, []).append(path)
    return found


def _parts(path: Path) -> list[str]:
    return path.name.split(".")[0].split("_")


def _applicable(label: Name, by_folder: Mapping[Path, Sequence[Path]]) -> Iterator[Path]:
    """The nearest folder's first, and there the most specific; a table of values before a JSON file."""
    for folder in label.path.parents:
        fitting = [path for path in by_folder.get(folder, ()) if {*_parts(path)} <= {*label.parts}]
        yield from sorted(fitting, key=lambda path: (-len(_parts(path)), path.suffix == ".json", path.name))


def _classes(path: Path) -> dict[str, int] | None:
    """Class -> value; None where the file names none."""
    if path.suffix == ".json":
        return _label_map(path)
    if _parts(path)[-1] not in OF_LABELS:
        return None
    labels = read_label_file(path).labels
    return {name: value for name, value in labels.items() if isinstance(value, int)}


def _label_map(path: Path) -> dict[str, int] | None:
    """`LabelMap`, name -> value or value -> name; a list, as probabilities of tissues have it, names no values."""
    content = read_json(path, dict[str, Any], hint="correct it, or download it again").get("LabelMap")
    if not isinstance(content, dict):
        return None
    pairs = [(name, key) if str(key).isdecimal() else (key, name) for key, name in content.items()]
    if not all(str(value).isdecimal() for _, value in pairs):
        raise UserError(f"{path}: LabelMap must map names to whole numbers; correct the file")
    return {str(name): int(value) for name, value in pairs if int(value) != 0}
