"""Segments by name: which of those that a segmentation holds become which class of the dataset."""

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Protocol, TypeVar

from unetrpp.core.errors import UserError
from unetrpp.core.text import counted, listed

MOST_FOUND = 60  # names that a message lists
MOST_OF_CASE = 6


class Named(Protocol):
    """A segment, whatever file holds it."""

    @property
    def name(self) -> str: ...


Segment = TypeVar("Segment", bound=Named)


@dataclass(frozen=True)
class Wanted:
    """Segments whose names fit a pattern, and the class that they become."""

    pattern: str
    name: str
    value: int

    def of(self, segments: Sequence[Segment]) -> list[Segment]:
        """The segments of that name in any capitals or, where there are none, those that fit it as a pattern (``*``, ``?``)."""
        pattern = self.pattern.casefold()
        exact = [segment for segment in segments if segment.name.strip().casefold() == pattern]
        return exact or [segment for segment in segments if fnmatchcase(segment.name.strip().casefold(), pattern)]


@dataclass(frozen=True)
class Choice:
    """What ``--roi`` or ``--segment`` says, as NAME or NAME=CLASS each; the classes get the values 1, 2, ... in this order."""

    wanted: tuple[Wanted, ...]
    option: str

    @property
    def classes(self) -> dict[str, int]:
        return {wanted.name: wanted.value for wanted in self.wanted}

    def of(self, segments: Sequence[Segment]) -> list[tuple[Wanted, Segment]]:
        """The segments of one case that become classes, in the order of the classes."""
        every = [(wanted, segment) for wanted in self.wanted for segment in wanted.of(segments)]
        once = {(wanted.value, id(segment)): (wanted, segment) for wanted, segment in every}
        return sorted(once.values(), key=lambda pair: pair[0].value)

    def problem(self, segments: Sequence[Segment], allow_missing: bool) -> str | None:
        """Why the segments of one case do not give its label, and the repair; None where they do."""
        missing = self.classes.keys() - {wanted.name for wanted, _ in self.of(segments)}
        if not missing or (allow_missing and len(missing) < len(self.classes)):
            return None
        lacks = listed([name for name in self.classes if name in missing], MOST_OF_CASE, "or")
        has = listed([repr(segment.name) for segment in segments], MOST_OF_CASE) if segments else "none"
        return f"has no segment for {lacks}, only {has}; add the name to {self.option}, or leave the case out"

    def require_known(self, found: Mapping[str, Collection[str]]) -> None:
        """
        Args:
            found: case -> names of its segments.

        Raises:
            UserError: a name that no case has.
        """
        names = [_Name(name) for of_case in found.values() for name in of_case]
        for wanted in self.wanted:
            if not wanted.of(names):
                raise UserError(
                    f"{self.option} names {wanted.pattern!r}, which no case has; there are {names_found(found)}"
                )


@dataclass(frozen=True)
class _Name:
    name: str


def read_choice(given: Sequence[str] | None, option: str, found: Mapping[str, Collection[str]]) -> Choice:
    """
    Args:
        given: NAME or NAME=CLASS each.
        option: its name, for messages.
        found: case -> names of its segments.

    Raises:
        UserError: nothing is given, or a name that no case has, or a pattern without a class.
    """
    if not given:
        example = next((name for name, _ in _counted(found)), "NAME")
        raise UserError(
            f"which segments become which classes? give {option} NAME[=CLASS] ..., such as {option} {example!r}; "
            f"there are {names_found(found)}"
        )
    pairs = [_pair(text, option) for text in given]
    values = {name: value for value, name in enumerate(dict.fromkeys(name for _, name in pairs), 1)}
    choice = Choice(tuple(Wanted(pattern, name, values[name]) for pattern, name in pairs), option)
    choice.require_known(found)
    return choice


def _pair(text: str, option: str) -> tuple[str, str]:
    pattern, _, name = text.rpartition("=") if "=" in text else (text, "", text)
    pattern, name = pattern.strip(), name.strip()
    if not pattern or not name:
        raise UserError(f"{option} {text!r} is not NAME or NAME=CLASS, such as GTV=tumour")
    if name == "background" or set(name) & set("*?["):
        raise UserError(f"{option} {text!r} names no class; write NAME=CLASS, such as 'GTV*=tumour'")
    return pattern, name


def names_found(found: Mapping[str, Collection[str]]) -> str:
    """The names of all segments with the number of their cases, the most frequent ones first.

    >>> names_found({"a": ["Liver", "GTV"], "b": ["Liver"]})
    "'Liver' (2 cases) and 'GTV' (1 case)"
    """
    names = [f"{name!r} ({counted(n, 'case')})" for name, n in _counted(found)]
    return listed(names, MOST_FOUND) if names else "no segments"


def _counted(found: Mapping[str, Collection[str]]) -> list[tuple[str, int]]:
    counts = Counter(name for of_case in found.values() for name in dict.fromkeys(of_case))
    return sorted(counts.items(), key=lambda pair: (-pair[1], pair[0].casefold(), pair[0]))
