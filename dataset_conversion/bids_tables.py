"""Tables of BIDS that name the values of label files: `*_dseg.tsv` with index and name, and `LabelMap` of a JSON file."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from unetrpp.core.errors import UserError
from unetrpp.core.files import read_json, walk
from unetrpp.dataset.label_files import read_label_file
from unetrpp.dataset_conversion.bids_names import LABEL_WORDS, Name
from unetrpp.io.listing import entries, is_system


def table_of(labels: Sequence[Name], root: Path, places: Sequence[Path]) -> dict[str, int] | None:
    """The classes that tables of BIDS name for label files; None where no table applies.

    A table applies to labels in its folder and below whose names have all of its parts; of several, the nearest.

    Raises:
        UserError: labels have different tables.
    """
    found = [(path, content) for path, content in _tables([root, *places]).items()]
    nearest: dict[Path, dict[str, int]] = {}
    for label in labels:
        applicable = [
            (path, content)
            for path, content in found
            if label.path.is_relative_to(path.parent) and {*path.name.split(".")[0].split("_")} <= {*label.parts}
        ]
        if applicable:
            path, content = max(applicable, key=lambda pair: (len(pair[0].parts), len(pair[0].name)))
            nearest[path] = content
    if not nearest:
        return None
    (first, classes), *others = nearest.items()
    if differing := next((path for path, content in others if content != classes), None):
        raise UserError(
            f"{first} and {differing} name different classes, but a dataset has one list; choose one kind of label with --labels"
        )
    return classes


def _tables(places: Sequence[Path]) -> dict[Path, dict[str, int]]:
    """Path -> class -> value, of all tables for label files."""
    found: dict[Path, dict[str, int]] = {}
    for place in places:
        for top in entries(place):
            for path in [top] if top.is_file() else walk(top):
                words = path.name.split(".")[0].split("_")
                if words[-1].partition("-")[0] in LABEL_WORDS and not is_system(path) and path not in found:
                    if path.suffix == ".tsv":
                        labels = read_label_file(path).labels
                        found[path] = {name: value for name, value in labels.items() if isinstance(value, int)}
                    elif path.suffix == ".json" and (classes := _label_map(path)) is not None:
                        found[path] = classes
    return found


def _label_map(path: Path) -> dict[str, int] | None:
    """The classes of `LabelMap` in a JSON file, name -> value or value -> name; None where it has none."""
    content = read_json(path, dict[str, Any], hint="correct it, or download it again").get("LabelMap")
    if not isinstance(content, dict):
        return None
    pairs = [(name, key) if str(key).isdecimal() else (key, name) for key, name in content.items()]
    if not all(str(value).isdecimal() for _, value in pairs):
        raise UserError(f"{path}: LabelMap must map names to whole numbers; correct the file")
    return {str(name): int(value) for name, value in pairs if int(value) != 0}
