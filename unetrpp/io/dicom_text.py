"""Texts of DICOM files that are written: character sets and lengths."""

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pydicom import Dataset

UTF_8 = "ISO_IR 192"
ESCAPE_SEQUENCE = re.compile(r"\x1b\$?[()-][A-Z]")
LONG_STRING = 64  # characters at most in a label or a description (DICOM PS3.5, LO)


def use_unicode(source: "Dataset") -> None:
    """Decode the texts of the slice from which a result takes the patient and the character set.

    highdicom refuses the character sets of many valid series: several of them, such as those of Japan, Korea and
    China with escape sequences, and the default one by its name.
    """
    source.decode()
    source.SpecificCharacterSet = UTF_8
    for keyword in ("PatientName", "ReferringPhysicianName"):
        if keyword in source:  # pydicom leaves the escape sequences of ISO 2022 IR 58 (Chinese) in the text
            setattr(source, keyword, ESCAPE_SEQUENCE.sub("", str(source[keyword].value)))


def long_string(text: str) -> str:
    """A value of DICOM's type LO, in which a backslash separates values."""
    return text.replace("\\", "/")[:LONG_STRING]
