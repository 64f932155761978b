"""Files in which programs list the classes of a segmentation: ITK-SNAP, 3D Slicer, FreeSurfer, JSON, CSV.

Formats: the header of ITK-SNAP's "Label Description File"; 3D Slicer's vtkMRMLColorTableStorageNode (.ctbl, .txt, and .csv with
LabelValue and Name); FreeSurfer's LUT, which has Slicer's columns; dataset.json of nnU-Net and of the decathlon.
"""

import csv
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

from unetrpp.core.errors import UserError, refuse
from unetrpp.core.files import read_edited_json
from unetrpp.core.text import listed

Labels: TypeAlias = Mapping[str, int | Sequence[int]]  # name -> value; a region has several

# value, R, G, B, A, visibility, mesh, "name"
ITK_SNAP = re.compile(r'\s*(?P<value>\d+)(?:\s+\d+){3}\s+[\d.]+\s+[01]\s+[01]\s+"(?P<name>.*)"\s*')
# value, name, R, G, B and mostly A; whole numbers or fractions
COLOUR_TABLE = re.compile(r'\s*(?P<value>\d+)\s+(?:"(?P<quoted>[^"]*)"|(?P<name>.+?))(?:\s+[\d.]+){3,4}\s*')
VALUE_HEADS = ("labelvalue", "value", "labelid", "id", "index", "idx", "number", "no")
NAME_HEADS = ("name", "labelname", "structure", "structurename", "class", "classname", "segment", "label")
UNNAMED = ("", "(none)")  # entries of a colour table that stand for no class


class LabelFile(NamedTuple):
    """The classes of a file: ``labels`` without the background, and the values that predictions show for regions."""

    labels: Labels
    order: Sequence[int] | None = None


def read_label_file(path: Path) -> LabelFile:
    """The classes that a file lists, by what it holds: JSON, CSV with a header, ITK-SNAP's or a colour table.

    The entry of value 0 is the background, whatever its name.

    Raises:
        UserError: missing, of another form, or two classes of one name or value; all problems at once.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise UserError(f"{path} does not exist; give the file that lists the classes") from None
    except UnicodeDecodeError:
        raise UserError(f"{path} is not a text in UTF-8; save it again with this encoding") from None
    if path.suffix.lower() == ".json" or text.lstrip().startswith("{"):
        return _from_json(path)
    parse = _csv_rows if path.suffix.lower() in (".csv", ".tsv") else _table_rows
    return LabelFile(_distinct(path, parse(path, text)))


def _distinct(path: Path, rows: Iterable[tuple[int, str]]) -> dict[str, int]:
    """
    Raises:
        UserError: no class, or two of one name or value.
    """
    found = [(value, name.strip()) for value, name in rows if value != 0 and name.strip() not in UNNAMED]
    if not found:
        raise UserError(f"{path} lists no class; give a file that does")
    names, values = Counter(name for _, name in found), Counter(value for value, _ in found)
    problems = [f"{times} classes are called {name!r}; give each a name" for name, times in names.items() if times > 1]
    problems += [f"{times} classes have the value {v}; give each a value" for v, times in values.items() if times > 1]
    refuse(problems, path)
    return {name: value for value, name in found}


def _table_rows(path: Path, text: str) -> list[tuple[int, str]]:
    """Lines of ITK-SNAP's file or of a colour table; ``#`` begins a comment.

    Raises:
        UserError: a line is neither.
    """
    lines = [
        (i, line) for i, line in enumerate(text.splitlines(), 1) if line.strip() and not line.lstrip().startswith("#")
    ]
    for expression in (ITK_SNAP, COLOUR_TABLE):
        matches = [(i, line, expression.fullmatch(line)) for i, line in lines]
        if any(match for _, _, match in matches):
            wrong = [f"line {i} ({line.strip()[:40]!r})" for i, line, match in matches if not match]
            if wrong:
                raise UserError(f"{path}: {listed(wrong)} is not like the other lines; correct the file")
            return [(int(m["value"]), m.groupdict().get("quoted") or m["name"] or "") for _, _, m in matches if m]
    raise UserError(
        f"{path} is none of the files of classes that are read: ITK-SNAP's label descriptions, 3D Slicer's colour tables, "
        'JSON ({"liver": 1}), or CSV with a header (value,name); give one of these'
    )


def _csv_rows(path: Path, text: str) -> list[tuple[int, str]]:
    """Rows of a CSV file: a column of values and one of names, by the words of the header or as the only one of numbers.

    Raises:
        UserError: the two columns cannot be told, or a value is not a whole number.
    """
    delimiter = max(",;\t", key=text.splitlines()[0].count) if text.strip() else ","
    rows = [row for row in csv.reader(text.splitlines(), delimiter=delimiter) if any(cell.strip() for cell in row)]
    rows = [row for row in rows if not row[0].startswith("#")]
    columns = _columns(rows) if rows else None
    if columns is None:
        raise UserError(f"{path}: the first line must name a column of values and one of names, such as value,name")
    wrong = [row for row in rows[1:] if len(row) <= max(columns) or not row[columns[0]].strip().isdecimal()]
    if wrong:
        shown = listed([repr(delimiter.join(row)[:40]) for row in wrong])
        raise UserError(f"{path}: {shown} has no whole number >= 0 as its value; correct the file")
    return [(int(row[columns[0]]), row[columns[1]]) for row in rows[1:]]


def _columns(rows: Sequence[Sequence[str]]) -> tuple[int, int] | None:
    """The columns of the values and of the names; None where that cannot be told."""
    heads = [re.sub("[^a-z]", "", head.lower()) for head in rows[0]]
    if any(head.strip().isdecimal() for head in rows[0]):  # no header
        return None
    if len(heads) == 2:
        numbers = [all(len(row) > i and row[i].strip().isdecimal() for row in rows[1:]) for i in (0, 1)]
        if numbers[0] != numbers[1]:
            return (0, 1) if numbers[0] else (1, 0)
    value = next((heads.index(head) for head in VALUE_HEADS if head in heads), None)
    name = next((heads.index(head) for head in NAME_HEADS if head in heads), None)
    return None if value is None or name is None else (value, name)


def _from_json(path: Path) -> LabelFile:
    """Name -> value or value -> name, alone or as ``labels`` of a dataset.json, whose regions are kept.

    Raises:
        UserError: another form.
    """
    content = read_edited_json(path, dict[str, Any], hint='write it as {"liver": 1, "tumour": 2}')
    labels = content.get("labels", content)
    if not isinstance(labels, dict) or not labels:
        raise UserError(f'{path} lists no class; write it as {{"liver": 1, "tumour": 2}}')
    if all(key.isdecimal() and isinstance(name, str) for key, name in labels.items()):
        return LabelFile(_distinct(path, ((int(key), name) for key, name in labels.items())))
    wrong = [name for name, value in labels.items() if not _is_value(value)]
    if wrong:
        raise UserError(f"{path}: the value of {listed(wrong)} is not a whole number >= 0; correct the file")
    foreground = {name: value for name, value in labels.items() if value not in (0, [0])}
    if not foreground:
        raise UserError(f"{path} lists no class; give a file that does")
    return LabelFile(foreground, content.get("regions_class_order") if labels is not content else None)


def _is_value(value: object) -> bool:
    values = value if isinstance(value, list) else [value]
    return bool(values) and all(isinstance(v, int) and not isinstance(v, bool) and v >= 0 for v in values)
