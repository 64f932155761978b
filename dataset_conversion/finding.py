"""What converters of fixed layouts share: the folder meant, files by case, and images that belong to no case."""

import re
from collections.abc import Iterable, Mapping
from pathlib import Path

from unetrpp.core.errors import UserError
from unetrpp.core.text import composed, escaped
from unetrpp.dataset_conversion.patterns import is_below
from unetrpp.dataset_conversion.source import Made, SourceCase
from unetrpp.io.listing import images_below, is_system, parts_of, unreadable

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
        level = [path for folder in level for path in sorted(folder.iterdir()) if path.is_dir() and not is_system(path)]
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
        found = [p for p in here.iterdir() if p.name.casefold() == part.casefold() and not is_system(p)]
        if len(found) > 1:
            raise UserError(f"{here} holds both {found[0].name} and {found[1].name}; remove one of them")
        if not found:
            return None
        here = found[0]
    return here


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
        path: f"is one of several files of this case ({' and '.join(escaped(p.name) for p in of_case)}); keep one"
        for of_case in found.values()
        if len(of_case) > 1
        for path in of_case
    }
    return {case: of_case[0] for case, of_case in found.items() if len(of_case) == 1}, several


def paired(
    images: Mapping[str, tuple[Path | Made, ...]], labels: Mapping[str, Path | Made], *, test: bool = False
) -> tuple[list[SourceCase], dict[str, str]]:
    """Cases that have images and a label, by id, and what the other cases lack."""
    cases = [SourceCase(id, images[id], labels[id], test=test) for id in sorted(images.keys() & labels.keys())]
    lacking = dict.fromkeys(images.keys() - labels.keys(), "has no label; complete the download, or remove its image")
    lacking |= dict.fromkeys(labels.keys() - images.keys(), "has no image; complete the download, or remove its label")
    return cases, dict(sorted(lacking.items()))


def groups_by(cases: Iterable[SourceCase], expression: str) -> dict[str, str] | None:
    r"""Case -> patient, which is the group ``patient`` in the case's id; None where every patient has one case.

    >>> groups_by([SourceCase("P1_a", ()), SourceCase("P1_b", ())], r"(?P<patient>P\d)_.")
    {'P1_a': 'P1', 'P1_b': 'P1'}
    """
    matches = {case.id: re.fullmatch(expression, case.id, re.IGNORECASE) for case in cases}
    found = {case: match["patient"] if match else case for case, match in matches.items()}
    return found if len(set(found.values())) < len(found) else None


def not_used(
    folder: Path, cases: Iterable[SourceCase], reason: str, known: Mapping[Path, str | None] | None = None
) -> dict[Path, str]:
    """Images below ``folder`` that are in no case, with reason and repair.

    Args:
        reason: for those of which nothing else is known.
        known: file -> a reason of its own; None does not name the file.
    """
    used = parts_of({file.resolve() for case in cases for file in case.files})
    found: dict[Path, str] = {}
    for path in images_below(folder):
        why = (known or {}).get(path, unreadable(path) or reason)
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
