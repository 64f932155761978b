"""conversion.json: what a raw dataset was made from, which a later run must agree with."""

import glob
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from unetrpp.core.digest import digest
from unetrpp.core.errors import UserError
from unetrpp.core.files import Record, read_json
from unetrpp.core.text import is_utf8
from unetrpp.dataset.description import DatasetDescription, read_description
from unetrpp.dataset_conversion.source import SourceCase
from unetrpp.io.formats import files_of_image, remove_sidecar

PARTS = (("imagesTr", "_0000"), ("labelsTr", ""), ("imagesTs", "_0000"), ("labelsTs", ""))  # folder, first channel


class Conversion(Record, frozen=True, kw_only=True):
    """conversion.json: the source and the options of a conversion; a later run must have the same ones.

    ``cases`` has the `case_digests` of each case. Release 0.1.0 did not write it, and of its cases times alone count. ``groups`` are
    those of dataset.json that the source gave; what is otherwise there a user has changed. None: not recorded.
    """

    format: int = 1
    source: str
    options: dict[str, Any]
    cases: dict[str, tuple[str, str]] = msgspec.field(default_factory=dict)
    groups: dict[str, str] | None = None


def earlier_conversion(folder: Path) -> Conversion | None:
    """The conversion that a raw dataset is from; None where it is from none, or no case of it was converted.

    Raises:
        UserError: conversion.json cannot be read.
    """
    path = folder / "conversion.json"
    holds_files = any(any((folder / part).glob("[!.]*")) for part, _ in PARTS)
    return read_json(path, Conversion) if path.exists() and holds_files else None


def earlier_description(folder: Path) -> DatasetDescription | None:
    """What dataset.json of an earlier conversion says; None where there is none that can be read."""
    try:
        return read_description(folder / "dataset.json", folder.name)
    except UserError:
        return None


class Groups(NamedTuple):
    """The patient of each case."""

    all: dict[str, str]
    given: dict[str, str]  # those of the source, which no user has changed


def merged_groups(cases: Iterable[SourceCase], given: Mapping[str, str], folder: Path) -> Groups:
    """The groups that the source has ``given``; what a user added or changed in dataset.json counts before them.

    A group of the source may have another name than before, such as that of an earlier scan of the patient: it keeps the name that
    it had, if no other group has it now. New cases of a group whose every case a user gave another name get that name, too.
    """
    description, conversion = earlier_description(folder), earlier_conversion(folder)
    recorded = conversion.groups if conversion else None
    tests = {case.id: case.test for case in cases}
    before = {case: group for case, group in ((description and description.groups) or {}).items() if case in tests}
    kept = {c: group for c, group in before.items() if tests[c] or recorded is None or group != recorded.get(c)}
    names: dict[str, str] = {}
    for group in sorted(set(given.values())):
        members = sorted(case for case, name in given.items() if name == group and case in before)
        moved = {kept[case] for case in members if case in kept}
        stayed = [before[case] for case in members if case not in kept]
        had = stayed or (list(moved) if len(moved) == 1 else [])
        joined = moved == set(had[:1])  # by a user, who has moved cases of this group to one other and left none
        if had and (joined or had[0] not in {*given.values(), *names.values()}):
            names[group] = had[0]
    ours = {case: names.get(group, group) for case, group in given.items() if case not in kept}
    return Groups({**ours, **kept}, ours)


def require_same_conversion(folder: Path, conversion: Conversion, overwrite: bool) -> None:
    """
    Raises:
        UserError: the folder holds another conversion, or a dataset that was not converted.
    """
    if overwrite:
        return
    earlier = earlier_conversion(folder)
    if earlier is not None and (earlier.source, earlier.options) != (conversion.source, conversion.options):
        what = "" if earlier.options == conversion.options else " with other options"
        raise UserError(f"{folder} was converted from {earlier.source}{what}; give --name or --overwrite")
    if (folder / "dataset.json").exists() and not (folder / "conversion.json").exists():
        raise UserError(
            f"{folder} already holds a dataset that was not converted here; give another --name or --overwrite"
        )


def without_changed(cases: Iterable[SourceCase], folder: Path, ending: str, conversion: Conversion) -> Conversion:
    """``conversion`` with its cases, after those files were removed that an earlier run made in another way.

    They are removed before the record is written, so that no interrupted run leaves files that a later one takes for current.
    """
    earlier = earlier_conversion(folder)
    before = earlier.cases if earlier else {}
    digests: dict[str, tuple[str, str]] = {}
    for case in cases:
        now = case_digests(case, conversion.options) or before.get(case.id)
        if now is None or not is_utf8(case.id):  # such a case is refused when it is converted
            continue
        digests[case.id] = now
        images, label = before.get(case.id, now)
        for kind in ("Tr", "Ts"):
            changed = images_of(case, folder / f"images{kind}", ending) if images != now[0] else []
            changed += [folder / f"labels{kind}" / f"{case.id}{ending}"] if label != now[1] else []
            for path in changed:
                path.unlink(missing_ok=True)
                remove_sidecar(path)
    return msgspec.structs.replace(conversion, cases=digests, groups=earlier.groups if earlier else None)


def images_of(case: SourceCase, folder: Path, ending: str) -> list[Path]:
    """The files of a case's channels that are in a folder of the raw dataset."""
    return sorted(folder.glob(f"{glob.escape(case.id)}_[0-9][0-9][0-9][0-9]{ending}"))


def case_digests(case: SourceCase, options: Mapping[str, Any]) -> tuple[str, str] | None:
    """Digests of the images and of the label of a case: of their files and what is made from them; None while a file is missing.

    Times of files do not tell that a mask is gone, that an older file took the place of another one, or that a class has
    another value because the dataset has more classes now.
    """
    images = case.image_files
    others = set(case.files) - set(images)
    try:
        of_images, of_label = (
            [_state(part) for file in files for part in files_of_image(file)] for files in (images, sorted(others))
        )
    except OSError:
        return None
    made = digest(repr(case.images), dict(options), of_images)
    # A label that is made lies on the grid of its image, so it depends on that as well.
    return made, digest(made, repr((case.label, case.masks)), of_label)


def _state(file: Path) -> tuple[str, int, int]:
    found = file.stat()
    return repr(file.name), found.st_size, int(found.st_mtime)  # repr, because a name may not be UTF-8
