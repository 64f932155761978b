"""Names in the user's files that are no case of the dataset, with the case that each probably means."""

import difflib
import re
from collections.abc import Collection, Sequence
from pathlib import PurePosixPath

from unetrpp.core.text import composed, listed
from unetrpp.io.formats import strip_ending

MOST = 3  # names that a message lists


def named_unknown(names: Sequence[str], cases: Collection[str]) -> str:
    """The first of ``names``, each with the nearest case.

    >>> named_unknown(["case_00.nii.gz", "lung"], ["case_00", "case_01"])
    "'case_00.nii.gz' (did you mean case_00?) and 'lung'"
    """
    hints = [(name, nearest_case(name, cases)) for name in names[:MOST]]
    shown = [repr(name) + (f" (did you mean {case}?)" if case else "") for name, case in hints]
    return listed([*shown, *names[MOST:]], MOST)


def nearest_case(name: str, cases: Collection[str]) -> str | None:
    """The case that a name probably means: a file of the case, or another spelling with the same numbers.

    >>> nearest_case("imagesTr/case_00_0000.nii.gz", ["case_00"]), nearest_case("Case00", ["case_00"])
    ('case_00', 'case_00')
    """
    stem = strip_ending(PurePosixPath(name.replace("\\", "/")).name)
    plain = {_plain(case): case for case in cases}
    for likely in (stem, stem[:-5]):
        if likely and (case := plain.get(_plain(likely))):
            return case
    alike = {_plain(case): case for case in cases if _numbers(case) == _numbers(stem)}
    near = difflib.get_close_matches(_plain(stem), alike, n=1, cutoff=0.8)
    return alike[near[0]] if near else None


def _numbers(name: str) -> list[int]:
    return [int(digits) for digits in re.findall("[0-9]+", name)]


def _plain(name: str) -> str:
    """Without what is easily written otherwise: letter case, separators, the Unicode form."""
    return "".join(c for c in composed(name).casefold() if c.isalnum())
