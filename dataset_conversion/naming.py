"""What names of files and folders tell of a case: its patient, and whether it is of a test set."""

import re
from collections.abc import Iterable
from pathlib import Path

from unetrpp.dataset_conversion.source import SourceCase


def groups_by(cases: Iterable[SourceCase], expression: str) -> dict[str, str] | None:
    r"""Case -> patient, which is the group ``patient`` in the case's id; None where every patient has one case.

    >>> groups_by([SourceCase("P1_a", ()), SourceCase("P1_b", ())], r"(?P<patient>P\d)_.")
    {'P1_a': 'P1', 'P1_b': 'P1'}
    """
    matches = {case.id: re.fullmatch(expression, case.id, re.IGNORECASE) for case in cases}
    found = {case: match["patient"] if match else case for case, match in matches.items()}
    return found if len(set(found.values())) < len(found) else None


def in_test_set(path: Path, source: Path, expression: str) -> bool:
    """Whether a file is of a test set by the nearest name that says so: its own, its folders', or that of ``source``.

    Args:
        expression: of names of test sets; one that has "train" as well says nothing.
    """
    for name in reversed((source.resolve().name, *path.relative_to(source).parts)):
        test, training = (re.search(e, name, re.IGNORECASE) is not None for e in (expression, "train"))
        if test != training:
            return test
    return False
