"""Patterns such as ``images`` or ``{case}/t1.nii.gz``: which files of a folder they mean, and which images they pass over."""

import re
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from unetrpp.core.errors import UserError
from unetrpp.core.files import is_dangling, is_system, walk
from unetrpp.core.text import composed, escaped
from unetrpp.dataset_conversion.finding import is_below
from unetrpp.io.formats import ending_of, is_folder, strip_ending
from unetrpp.io.listing import beside_slices, holds_series, images_below, is_image, parts_of, unreadable

CASE = "{case}"
LABEL = "{label}"  # in a path of masks: the class
GROUP = "{group}"  # what several cases have in common, such as the patient
WHOLE = (CASE, f"{GROUP}/{CASE}")  # patterns that mean all that a folder holds


class Match(NamedTuple):
    """A file that a pattern takes."""

    case: str
    group: str | None  # where the pattern has one
    label: str  # empty where the pattern has none
    path: Path


class Tree:
    """What lies below folders: many patterns share one, and a folder is walked once."""

    def __init__(self) -> None:
        self._walked: dict[Path, list[Path]] = {}
        self._images: dict[Path, list[tuple[Path, bool]]] = {}

    def below(self, base: Path) -> list[Path]:
        if base not in self._walked:
            self._walked[base] = list(walk(base))
        return self._walked[base]

    def images(self, base: Path) -> list[tuple[Path, bool]]:
        """Images, and folders that cannot be opened, and whether each is :func:`unreadable`."""
        if base not in self._images:
            closed = [path for path in self.below(base) if path.is_dir() and not is_system(path) and unreadable(path)]
            self._images[base] = [(path, unreadable(path) is not None) for path in (*images_below(base), *closed)]
        return self._images[base]


@dataclass(frozen=True)
class Pattern:
    """A pattern as it was given: a folder whose entries are the cases, or a path with ``{case}`` in it.

    It is relative to a root folder, or absolute, and may begin with ``./`` or ``../``; ``*`` stands for any part of a name.
    With ``{group}``, which is as short as possible, a case is called GROUP_CASE, or CASE alone where that begins with the group.
    """

    root: Path
    text: str

    @property
    def is_folder(self) -> bool:
        return CASE not in self.text

    @property
    def base(self) -> Path:
        """The folder above the first ``{case}``, ``{group}`` or ``*``."""
        return self.root.joinpath(*self._parts[: self._fixed])

    @property
    def below(self) -> str:
        """The pattern under ``base``."""
        return "/".join(self._parts[self._fixed :])

    @property
    def _parts(self) -> tuple[str, ...]:
        path = Path(self.text) / CASE if self.is_folder else Path(self.text)
        return path.parts

    @property
    def _fixed(self) -> int:
        return next(i for i, part in enumerate(self._parts) if any(sign in part for sign in (CASE, GROUP, "*")))

    def expected(self, case: str, label: str = LABEL) -> str:
        """Where a case's file should be, for messages."""
        if GROUP in self.text:
            return f"{self.text} of {case}"
        if self.is_folder:
            return f"{Path(self.text).as_posix()}/{case}.*"
        return self.text.replace(CASE, case).replace(LABEL, label)

    def files(self, tree: Tree | None = None) -> dict[str, list[Path]]:
        """Case -> the images and the folders of DICOM series that match, in either Unicode form.

        Links to folders are followed. A link to a file that is not there matches too, so that it is reported and not left out.

        Raises:
            UserError: nothing matches, or the pattern has ``..`` behind its first ``{case}``.
        """
        return self.files_by_label(tree)[""]

    def files_by_label(self, tree: Tree | None = None) -> dict[str, dict[str, list[Path]]]:
        """What stands for ``{label}`` in the pattern -> the files of every case, as :meth:`files` has them.

        Raises:
            UserError: as :meth:`files`.
        """
        if ".." in Path(self.below).parts:
            raise UserError(f"{self.text!r} has '..' after {CASE} or '*'; write the path without it")
        if self.is_folder and self.root.joinpath(self.text).is_file():
            raise UserError(
                f"{self.text!r} is one file; give the folder that holds a file of every case, or a path with {CASE} in it"
            )
        matches: dict[str, dict[str, list[Path]]] = {}
        for match in self._matches(tree or Tree()):
            matches.setdefault(match.label, {}).setdefault(match.case, []).append(match.path)
        if not matches:
            raise self._nothing()
        return matches

    def groups(self, tree: Tree) -> dict[str, str]:
        """Case -> what stands for ``{group}``; empty where the pattern has none."""
        return {match.case: match.group for match in self._matches(tree) if match.group is not None}

    def _matches(self, tree: Tree) -> Iterator[Match]:
        expression, base = expression_of(self.below), self.base
        for path in tree.below(base):
            found = expression.fullmatch(path.relative_to(base).as_posix())
            if found and (_is_case(path) or (self.below not in WHOLE and is_image(path))):
                parts = {key: composed(strip_ending(value)) for key, value in found.groupdict().items()}
                group, case = parts.get("group"), parts["case"]
                name = case if group is None or case.startswith(group) else f"{group}_{case}"
                yield Match(name, group, parts.get("label", ""), path)

    def _nothing(self) -> UserError:
        broken = next((path for path in (self.base, *walk(self.base)) if is_dangling(path)), None)
        if broken is not None:
            return UserError(
                f"{self.root} has no image that matches {self.text!r}, and {escaped(broken.name)} in it is a link to something "
                "that is not there; correct the link"
            )
        closed = next((path for path in (self.base, *walk(self.base)) if path.is_dir() and unreadable(path)), None)
        if closed is not None:
            return UserError(f"{escaped(str(closed))} {unreadable(closed)}")
        return UserError(
            f"{self.root} has no image that matches {self.text!r} (where {CASE} stands for the case); "
            "check the folder or the pattern"
        )

    def passed_over(self, used: Collection[Path], tree: Tree) -> Iterator[Path]:
        """Images, and folders that cannot be opened, below ``base`` that this pattern should have taken, as far as can be told.

        Of a folder, all. Where ``{case}`` names folders, those in a folder that could be a case but has no file in ``used``;
        other files of a case were not asked for. Where it names files, those that match but for capitals or their ending.
        """
        names, base = self.below.split("/"), self.base
        level = next(i for i, name in enumerate(names) if CASE in name) + 1
        could_be = [expression_of("/".join(names[: i + 1])) for i in range(len(names))]
        near = expression_of(strip_ending(self.below), re.IGNORECASE)
        depth = len(base.parts)
        areas = {path.parts[depth : depth + level] for path in used if path.parts[:depth] == base.parts}
        for path, is_unreadable in tree.images(base):
            parts = path.parts[depth:]
            relative = "/".join(parts)
            if self.below in WHOLE:
                yield path
            elif is_unreadable and len(parts) < len(names):  # what lies below it is unknown
                if could_be[len(parts) - 1].fullmatch(relative):
                    yield path
            elif level < len(names):
                if parts[:level] not in areas and could_be[level - 1].fullmatch("/".join(parts[:level])):
                    yield path
            elif near.fullmatch(strip_ending(relative)):
                yield path


def expression_of(pattern: str, flags: int = 0) -> re.Pattern[str]:
    """A regular expression for a pattern; every further ``{case}`` must be equal to the first, and so for the others.

    >>> bool(expression_of("{case}/{case}_t1.nii.gz").fullmatch("a1/a1_t1.nii.gz"))
    True
    """
    text = re.escape(pattern).replace(r"\*", "[^/]*")
    for name, any_part in ((CASE, "[^/]+"), (LABEL, "[^/]+"), (GROUP, "[^/]+?")):
        group = name.strip("{}")
        first, *rest = text.split(re.escape(name))
        if rest:
            text = first + f"(?P<{group}>{any_part})" + f"(?P={group})".join(rest)
    return re.compile(text, flags)


def _is_case(path: Path) -> bool:
    """Whether an entry of a folder can be a case by itself: a DICOM file is rather a slice, unless a pattern names it."""
    if is_system(path):
        return False
    if is_folder(path):
        return holds_series(path)
    return bool(ending_of(path)) and (path.exists() or is_dangling(path))


def not_used(
    patterns: Sequence[Pattern], used: Collection[Path], workspace: Path, tree: Tree | None = None
) -> dict[str, str]:
    """Images that the patterns should have taken but none has: name (relative to the root, if possible) -> reason and repair.

    Those that lie deeper than the cases are named by their folder. What a conversion wrote to a ``workspace`` inside of the
    folder does not count.
    """
    tree = tree or Tree()
    parts, series = parts_of(used), {path for path in used if path.is_dir()}
    found: dict[Path, str] = {}
    for folder in series:
        found |= beside_slices(folder)
    for pattern in patterns:
        texts = " nor ".join(repr(p.text) for p in patterns if p.base == pattern.base)
        for path in pattern.passed_over(used, tree):
            if path in parts or any(above in series for above in path.parents):
                continue
            if not is_below(path, workspace, pattern.base):
                whole = path.parent if path.parent != pattern.base else path
                found.setdefault(whole, _reason(path, whole, texts))
    root = patterns[0].root
    return {escaped((p.relative_to(root) if p.is_relative_to(root) else p).as_posix()): why for p, why in found.items()}


def _reason(path: Path, whole: Path, texts: str) -> str:
    if (reason := unreadable(path)) is not None:
        return reason if whole == path else f"holds {escaped(path.name)}, which {reason}"
    what = "" if whole == path else f"holds {escaped(path.name)}, which "
    if not ending_of(path):
        return f"{what}is a DICOM file that is no case of {texts}; a case is a folder with its series, at the place of {CASE}"
    return f"{what}does not match {texts}; rename or move it"
