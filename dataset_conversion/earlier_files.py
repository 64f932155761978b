"""What earlier runs wrote to a raw dataset, and the source has no more, or has otherwise."""

import glob
from collections.abc import Iterator
from pathlib import Path

from unetrpp.core.errors import UserError
from unetrpp.core.text import counted, listed
from unetrpp.dataset_conversion.record import PARTS
from unetrpp.dataset_conversion.source import Source
from unetrpp.io.formats import ending_of, remove_sidecar, strip_ending


def require_elsewhere(source: Source, folder: Path) -> None:
    """
    Raises:
        UserError: files of the source lie in the folder that is to be filled, so they would be replaced or removed.
    """
    filled = {folder.resolve() / part for part, _ in PARTS}
    files = (file for case in source.cases for file in case.files)
    inside = next((file for file in files if not filled.isdisjoint(file.resolve().parents)), None)
    if inside is not None:
        raise UserError(
            f"{inside} is to be converted, and lies in {folder}, which the conversion fills: it would replace your files; "
            "give another --name"
        )


def require_no_others(source: Source, folder: Path, overwrite: bool) -> None:
    """Refuse cases in the folder that ``source`` does not have, because they would be trained on or predicted.

    With ``overwrite``, a case may change between training and test; its earlier files are removed once it is converted.
    """
    known = {case.id for case in source.cases}
    for part, number in PARTS:
        test = part.endswith("Ts")
        here = {case.id for case in source.cases if case.test == test and (part.startswith("images") or case.labelled)}
        found = {case for case, _ in _files_of_cases(folder / part, number)}
        if others := sorted(found - (known if overwrite else here)):
            whose = f"that are {'training' if test else 'test'} cases now" if others[0] in known else ""
            why = source.left_out.get(others[0])
            gone = f"of which it is said now: {others[0]} {why}" if why else "that the source does not have"
            raise UserError(
                f"{folder / part} holds {counted(len(others), 'case')} ({listed(others)}) {whose or gone}; "
                f"{'give --overwrite to move them' if whose else 'remove these files'}, or give another --name"
            )


def _files_of_cases(part: Path, number: str) -> Iterator[tuple[str, Path]]:
    """Case and file of the images in a part of a raw dataset, of any format, whose names end with ``number``."""
    for path in sorted(part.glob("[!.]*")):
        if ending_of(path) and strip_ending(path.name).endswith(number):
            yield strip_ending(path.name).removesuffix(number), path


def remove_other_endings(source: Source, folder: Path, ending: str) -> None:
    """Remove what an earlier run wrote of the cases in another format, because the source's files had another one then."""
    known = {case.id for case in source.cases}
    for part, number in PARTS:
        for case, path in [*_files_of_cases(folder / part, number)]:
            if case in known and ending_of(path) != ending:
                remove_case(case, folder / part, (folder / part) / f"{case}{ending_of(path)}")


def remove_case(case: str, images: Path, label: Path) -> None:
    """Remove the files of a case, where there are any."""
    for path in (label, *images.glob(f"{glob.escape(case)}_[0-9][0-9][0-9][0-9]{ending_of(label)}")):
        path.unlink(missing_ok=True)
        remove_sidecar(path)
