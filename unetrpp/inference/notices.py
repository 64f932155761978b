"""Warnings about cases on the terminal: a line or two a case, and one line for all cases where many have some.

The prediction record keeps every one of them.
"""

import logging
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from unetrpp.core.text import counted, listed

LOG = logging.getLogger(__name__)
MOST_CASES = 10  # whose warnings are printed case by case
MOST_CLASSES = 3  # whose sizes are given one by one

Kind = Literal["header", "intensities", "spacing", "extent", "class not found", "unusual size", "straightened"]


@dataclass(frozen=True)
class Notice:
    """A warning about a case, or about one class of it."""

    kind: Kind
    text: str
    class_name: str = ""


def lines_of(notices: Sequence[Notice], classes: int) -> list[str]:
    """The warnings of a case as lines; those of more than ``MOST_CLASSES`` of its ``classes`` in one.

    >>> few = [Notice("class not found", "liver was not found", "liver")]
    >>> lines_of(few, 37)
    ['liver was not found']
    >>> lines_of([Notice("class not found", f"r{i} was not found", f"r{i}") for i in range(32)], 37)
    ['32 of 37 classes were not found that every training case had: r0, r1, r2 and 29 more']
    """
    sized = [notice for notice in notices if notice.class_name]
    if len(sized) <= MOST_CLASSES:
        return [notice.text for notice in notices]
    missing = [notice.class_name for notice in sized if notice.kind == "class not found"]
    unusual = [notice.class_name for notice in sized if notice.kind == "unusual size"]
    told = {
        "not found that every training case had": missing,
        "far larger or smaller than in any training case": unusual,
    }
    parts = [f"{_count(names, classes)} {what}: {listed(names)}" for what, names in told.items() if names]
    return [*(notice.text for notice in notices if not notice.class_name), "; ".join(parts)]


def _count(names: Sequence[str], classes: int) -> str:
    return f"{len(names)} of {counted(classes, 'class', 'classes')} {'was' if len(names) == 1 else 'were'}"


@dataclass
class CaseNotices:
    """Logs the warnings of the first cases as they come, and counts all of them for :meth:`summarise`."""

    record: Path  # which holds every warning
    classes: int
    cases: int = 0  # so far
    warned: int = 0  # those of them that have warnings
    kinds: Counter[str] = field(default_factory=Counter)  # kind -> cases that have such a warning

    def add(self, case: str, notices: Sequence[Notice]) -> None:
        self.cases += 1
        if not notices:
            return
        self.warned += 1
        self.kinds.update({notice.kind for notice in notices})
        for line in lines_of(notices, self.classes) if self.warned <= MOST_CASES else ():
            LOG.warning("%s: warning: %s", case, line)

    def summarise(self) -> None:
        """One line about all cases, unless each of them was logged."""
        if self.warned > MOST_CASES:
            ordered = sorted(self.kinds.items(), key=lambda item: (-item[1], item[0]))
            kinds = ", ".join(f"{kind} ({count})" for kind, count in ordered)
            told = "%d of %d cases have warnings: %s; the first %d are above, %s lists all"
            LOG.warning(told, self.warned, self.cases, kinds, MOST_CASES, self.record)
