"""What converters of fixed layouts share: the folder meant, files by case, and images that belong to no case."""

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from unetrpp.core.errors import UserError
from unetrpp.core.files import is_system, walk
from unetrpp.core.text import composed, escaped
from unetrpp.dataset_conversion.source import Made, SourceCase
from unetrpp.io.listing import images_below, is_image, open_entries, parts_of, unreadable

DEEPEST = 3  # folders above those of a dataset that a download or a user may add


def folder_with(source: Path, *names: str) -> Path:
    """``source``, or the folder up to three levels below it, that holds all of ``names``, in any capitals.

    Raises:
        UserError: there is none, or several.
    """
    wanted = [name.casefold() for name in names]
    level = [source]
    for _ in range(DEEPEST + 1):
        found = [folder for folder in level if all(child(folder, name) is not None for name in wanted)]
        if len(found) > 1:
            both = " and ".join(escaped(folder.relative_to(source).as_posix()) for folder in found[:2])
            raise UserError(f"{source} holds several such datasets ({both}); give one of the folders")
        if found:
            return found[0]
        level = [path for folder in level for path in open_entries(folder) if path.is_dir()]
    raise UserError(f"{source} has no folder with {' and '.join(names)}; give the folder of the unpacked download")


def child(folder: Path, path: str) -> Path | None:
    """The entry of ``folder`` at a path such as ``Training/img``, in any capitals; None where there is none.

    Raises:
        UserError: two entries differ in capitals only.
    """
    here = folder
    for part in path.split("/"):
        if not here.is_dir():
            return None
        found = [p for p in open_entries(here) if p.name.casefold() == part.casefold()]
        if len(found) > 1:
            raise UserError(f"{here} holds both {found[0].name} and {found[1].name}; remove one of them")
        if not found:
            return None
        here = found[0]
    return here


def case_folders(source: Path, expression: str, example: str) -> dict[str, Path]:
    """The folders of cases, by name: those up to four levels below ``source`` whose names match, in any capitals.

    Args:
        example: of such a name, for messages.

    Raises:
        UserError: there is none, or two have one name.
    """
    found: dict[str, Path] = {}
    level = [source]
    for _ in range(DEEPEST + 1):
        level = [path for folder in level for path in open_entries(folder) if path.is_dir()]
        for path in level:
            if re.fullmatch(expression, path.name, re.IGNORECASE):
                if path.name in found:
                    both = " and ".join(escaped(p.relative_to(source).as_posix()) for p in (found[path.name], path))
                    raise UserError(f"{source} holds two folders of one case ({both}); give the folder of one dataset")
                found[path.name] = path
        level = [path for path in level if path.name not in found]
    if not found:
        raise UserError(
            f"{source} has no folders of cases, such as {example}; give the folder of the unpacked download"
        )
    return found


def images_in_tree(folder: Path) -> list[Path]:
    """All images below ``folder`` but those of a workspace with raw datasets, which may lie inside of a download."""
    made = _made_here(folder, walk(folder))
    return [path for path in images_below(folder) if made.isdisjoint(path.parents)]


def _made_here(folder: Path, paths: Iterable[Path]) -> set[Path]:
    """The folders of workspaces with raw datasets among the files and folders of the tree ``folder``, not of one that it lies in."""
    found = {path.parent.parent for path in paths if path.name == "conversion.json"}
    raw = {place for place in found if place.name == "raw" and folder in place.parents}
    return {place.with_name(name) for place in raw for name in (place.name, "preprocessed", "results", "unpacked")}


class Part(NamedTuple):
    """The cases of one part of a download, such as its training set, and what was found that makes no case."""

    cases: tuple[SourceCase, ...]
    left_out: dict[str, str]  # case -> reason and repair
    known: dict[Path, str | None]  # files that ``left_out`` accounts for, as `not_used` takes them


def part_of(
    images: Iterable[Path], labels: Iterable[Path], *, image: str, label: str, name: str = "{}", test: bool = False
) -> Part:
    """The pairs of an image and a label whose names belong together.

    Args:
        image: the expression of `by_case` for images; ``label`` is that for labels.
        name: of a case, where that is more than the group ``case``.
        test: whether they are test cases, which need no label.
    """
    pictures, other_images = by_case(images, image)
    drawn, other_labels = by_case(labels, label)
    several = _several(other_images, image) | _several(other_labels, label)
    ids = {case: name.format(case) for case in pictures.keys() | drawn.keys() | several.keys()}
    single = {ids[case]: (path,) for case, path in pictures.items() if case not in several}
    cases, lacking = paired(single, {ids[c]: path for c, path in drawn.items() if c not in several}, test=test)
    if test:
        cases += [SourceCase(case, single[case], test=True) for case in sorted(single.keys() & lacking.keys())]
        lacking = {case: why for case, why in lacking.items() if case not in single}
    left_out = lacking | {ids[case]: why for case, why in several.items()}
    files = [(case, path) for found in (pictures, drawn) for case, path in found.items()]
    known = dict.fromkeys([path for case, path in files if ids[case] in left_out] + [*other_images, *other_labels])
    return Part(tuple(cases), left_out, known)


def _several(found: Mapping[Path, str], expression: str) -> dict[str, str]:
    """Case -> what `by_case` says of its files."""
    matches = {path: re.fullmatch(expression, composed(path.name), re.IGNORECASE) for path in found}
    return {match["case"]: said_of_case(found[path]) for path, match in matches.items() if match}


def said_of_case(reason: str) -> str:
    """What `by_case` says of one of several files, said of their case."""
    return reason.replace("is one of several files of this case", "has several files for one")


def listed_folder(folder: Path, path: str) -> list[Path]:
    """What the folder at a path such as ``imagesTr`` holds, in any capitals; nothing where there is none."""
    found = child(folder, path)
    return open_entries(found) if found is not None and found.is_dir() else []


def together(*parts: Part) -> Part:
    """Several parts as one; a case that two of them have is in none."""
    count: dict[str, int] = {}
    for part in parts:
        for case in part.cases:
            count[case.id] = count.get(case.id, 0) + 1
    twice = {case: "is in two parts of the dataset; remove one of them" for case, n in count.items() if n > 1}
    of_twice = dict.fromkeys(file for part in parts for case in part.cases if case.id in twice for file in case.files)
    return Part(
        tuple(case for part in parts for case in part.cases if case.id not in twice),
        {case: why for part in parts for case, why in part.left_out.items()} | twice,
        {path: why for part in parts for path, why in part.known.items()} | of_twice,
    )


def by_case(paths: Iterable[Path], expression: str) -> tuple[dict[str, Path], dict[Path, str]]:
    r"""Case -> file of those whose names match, with the case as the group ``case``, and what is ambiguous.

    Capitals do not matter outside of the group, files of the system (``._*``) do not count, and of two files of one case
    neither is taken.

    >>> by_case([Path("img0001.nii.gz"), Path("._img0001.nii.gz")], r"img(?P<case>\d{4})\.nii(\.gz)?")
    ({'0001': PosixPath('img0001.nii.gz')}, {})
    """
    found: dict[str, list[Path]] = {}
    for path in sorted(paths):
        match = None if is_system(path) else re.fullmatch(expression, composed(path.name), re.IGNORECASE)
        if match:
            found.setdefault(match["case"], []).append(path)
    several = {
        path: f"is one of several files of this case ({_told_apart(of_case)}); keep one"
        for of_case in found.values()
        if len(of_case) > 1
        for path in of_case
    }
    return {case: of_case[0] for case, of_case in found.items() if len(of_case) == 1}, several


def _told_apart(paths: Sequence[Path]) -> str:
    """The names of files, with as many of the folders above them as tell them apart.

    >>> _told_apart([Path("a/P1/x.nii"), Path("b/P1/x.nii")])
    'a/P1/x.nii and b/P1/x.nii'
    """
    most = max(len(path.parts) for path in paths)
    names = ([Path(*path.parts[-n:]).as_posix() for path in paths] for n in range(1, most + 1))
    return " and ".join(map(escaped, next(found for found in names if len(set(found)) == len(found))))


def by_name(paths: Iterable[Path], expression: str) -> tuple[dict[str, Path], dict[Path, str]]:
    """`by_case` for the files of one case, of which the group ``case`` is the name in small letters."""
    found, several = by_case(paths, expression)
    return {name.casefold(): path for name, path in found.items()}, several


def paired(
    images: Mapping[str, tuple[Path | Made, ...]], labels: Mapping[str, Path | Made], *, test: bool = False
) -> tuple[list[SourceCase], dict[str, str]]:
    """Cases that have images and a label, by id, and what the other cases lack."""
    cases = [SourceCase(id, images[id], labels[id], test=test) for id in sorted(images.keys() & labels.keys())]
    lacking = dict.fromkeys(images.keys() - labels.keys(), "has no label; complete the download, or remove its image")
    lacking |= dict.fromkeys(labels.keys() - images.keys(), "has no image; complete the download, or remove its label")
    return cases, dict(sorted(lacking.items()))


def not_used(
    folder: Path, cases: Iterable[SourceCase], reason: str, known: Mapping[Path, str | None] | None = None
) -> dict[Path, str]:
    """Images below ``folder`` that are in no case, and folders that may not be opened, with reason and repair.

    Args:
        reason: for those of which nothing else is known.
        known: file -> a reason of its own; None does not name the file.
    """
    used = parts_of({file.resolve() for case in cases for file in case.files})
    found: dict[Path, str] = {}
    paths = [*walk(folder)]
    made = _made_here(folder, paths)
    for path in paths:
        if any(map(is_system, (path, *path.relative_to(folder).parents))) or not made.isdisjoint((path, *path.parents)):
            continue
        damage = unreadable(path)
        why = (known or {}).get(path, damage or reason) if damage or is_image(path) else None
        if why is not None and path.resolve() not in used:
            found[path] = why
    return found


def of_named_cases(cases: Iterable[str], *found: Mapping[str, Path]) -> dict[Path, None]:
    """Files of cases that are left out by name, so that :func:`not_used` (its ``known``) need not name them once more."""
    return {files[case]: None for case in cases for files in found if case in files}


def named(unused: Mapping[Path, str], folder: Path, workspace: Path) -> dict[str, str]:
    """``unused`` with files named relative to ``folder``, and without what a workspace inside of it holds."""
    return {
        escaped(path.relative_to(folder).as_posix()): why
        for path, why in unused.items()
        if not is_below(path, workspace, folder)
    }


def is_below(path: Path, workspace: Path, source: Path) -> bool:
    """Whether ``path`` is in a workspace that lies in the folder ``source``."""
    home, top = workspace.resolve(), source.resolve()
    return home != top and home.is_relative_to(top) and path.absolute().resolve().is_relative_to(home)
