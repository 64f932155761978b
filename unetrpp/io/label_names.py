"""Names of label values that a label file holds itself: the segments of 3D Slicer, the label table of Connectome Workbench."""

import gzip
import re
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import Literal

from unetrpp.core.errors import UserError
from unetrpp.io.formats import reader_name
from unetrpp.io.readers.nrrd import Header

SEGMENT = re.compile(rb"(Segment\d+)_(Name|LabelValue):=(.*)")
CARET = 30  # code of NIfTI's header extension that Connectome Workbench writes
FIRST = 348  # bytes of NIfTI-1's header; four more say whether extensions follow
MOST = 1 << 20  # bytes of extensions


def label_names(path: Path) -> dict[int, str]:
    """Label value -> name, as far as the file says; empty where it says nothing or cannot be read.

    >>> label_names(Path("nowhere.nrrd"))
    {}
    """
    try:
        if reader_name(path) == "nrrd":
            return _of_nrrd(path)
        return _of_nifti(path) if reader_name(path) == "nifti" else {}
    except (
        UserError,
        OSError,
        ValueError,
        EOFError,
        ElementTree.ParseError,
    ):  # who reads the labels says what is wrong
        return {}


def _of_nrrd(path: Path) -> dict[int, str]:
    """https://slicer.readthedocs.io/en/latest/developer_guide/modules/segmentations.html describes the fields."""
    fields: dict[bytes, dict[bytes, str]] = {}
    for line in Header(path).lines:
        if match := SEGMENT.fullmatch(line.strip()):
            fields.setdefault(match[1], {})[match[2]] = match[3].decode("utf-8", "replace").strip()
    return {
        int(s[b"LabelValue"]): s[b"Name"]
        for s in fields.values()
        if s.get(b"LabelValue", "").isdecimal() and s.get(b"Name")
    }


def _of_nifti(path: Path) -> dict[int, str]:
    """The extension of one file of NIfTI-1 that holds Caret's XML."""
    with gzip.open(path) if path.name.lower().endswith(".gz") else path.open("rb") as file:
        content = file.read(FIRST + 4 + MOST)
    order: Literal["little", "big"] = "little" if content[:4] == FIRST.to_bytes(4, "little") else "big"
    start = FIRST + 4
    while content[FIRST : FIRST + 1] == b"\x01" and start + 8 <= len(content):
        size, code = (int.from_bytes(content[at : at + 4], order) for at in (start, start + 4))
        if code == CARET:
            text = content[start + 8 : start + size].rstrip(b"\0")
            labels = ElementTree.fromstring(text).iter("Label")
            return {int(label.get("Key", "")): (label.text or "").strip() for label in labels}
        if size < 16:
            break
        start += size
    return {}
