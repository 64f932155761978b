"""Verification of a dataset: all problems of all cases, as errors, which prevent planning, and warnings."""

import os
from collections import defaultdict
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np

from unetrpp.core.digest import digest, file_digest
from unetrpp.core.errors import UserError
from unetrpp.core.files import Record, own_name
from unetrpp.core.problems import grouped
from unetrpp.core.text import counted, escaped, text_table
from unetrpp.dataset.cases import Case, RawDataset, unrecordable
from unetrpp.dataset.description import DatasetDescription
from unetrpp.dataset.intensities import unusable
from unetrpp.dataset.labels import LabelScheme, listed_values, present_values
from unetrpp.dataset.left_out import left_out
from unetrpp.dataset.modality import check_modality
from unetrpp.io.formats import files_of_image, reader_name
from unetrpp.io.geometry import GRID_LIMIT_VOXELS, SAME_GRID_VOXELS, same_grid
from unetrpp.io.images import Volume, read_file, read_label
from unetrpp.io.listing import beside_slices
from unetrpp.io.nifti import place_warnings

DATASET = "(dataset)"  # in the case column, for problems that concern no single case


class Problem(Record, frozen=True, kw_only=True):
    """A problem of one case: an error (``fatal``), which must be repaired before planning, or a warning."""

    case: str
    message: str
    fatal: bool = True


class Inspection(Record, frozen=True, kw_only=True):
    """A case as it was read: its image and label, None where unreadable, and all its problems."""

    image: Volume | None
    label: Volume | None
    problems: tuple[Problem, ...]


class _Notes:
    """Collects the problems of one case."""

    def __init__(self, case: str):
        self.case = case
        self.problems: list[Problem] = []

    def add(self, message: str, fatal: bool = True) -> None:
        self.problems.append(Problem(case=self.case, message=message, fatal=fatal))


def inspect(case: Case, description: DatasetDescription) -> Inspection:
    """Read a training case and list all its problems; faults of the data never raise an error."""
    notes = _Notes(escaped(case.id))
    reason = unrecordable(case.id)
    if reason is not None:
        notes.add(f"{reason}; rename the files")
        return Inspection(image=None, label=None, problems=tuple(notes.problems))
    files = [volume for path in case.images if (volume := _try(read_file, path, notes)) is not None]
    image = _stack(files, case, description, notes) if len(files) == len(case.images) else None
    label = _try(read_label, case.label, notes) if case.label is not None else None
    if image is not None:
        _check_values(image, description, notes)
    if label is not None:
        _check_labels(label, description.labels, notes)
    if image is not None and label is not None:
        _check_grid(image, label, notes)
    for path, volume in ((case.images[0], image), (case.label, label)):
        if path is not None and volume is not None:
            for message in place_warnings(path.name, volume.geometry):
                notes.add(message, fatal=False)
    return Inspection(image=image, label=label, problems=tuple(notes.problems))


def _try(read: Callable[[Path], Volume], path: Path, notes: _Notes) -> Volume | None:
    try:
        return read(path)
    except UserError as error:
        notes.add(str(error))
        return None


def _stack(files: list[Volume], case: Case, description: DatasetDescription, notes: _Notes) -> Volume | None:
    """All channels as one float32 volume; None when they do not belong together."""
    first = case.images[0].name
    for path, volume in zip(case.images[1:], files[1:], strict=True):
        for difference in same_grid(files[0].geometry, volume.geometry, GRID_LIMIT_VOXELS):
            notes.add(f"{path.name} and {first} are on different grids: {difference}; resample one onto the other")
            return None
        for difference in same_grid(files[0].geometry, volume.geometry, SAME_GRID_VOXELS):
            notes.add(
                f"the grids of {path.name} and {first} differ slightly: {difference}; the grid of {first} is used",
                fatal=False,
            )
    found, names = sum(len(volume.array) for volume in files), description.channel_names
    if found != len(names):
        channels = counted(found, "channel")
        advice = "correct dataset.json" + (", or add the missing files CASE_0001, ..." if found < len(names) else "")
        notes.add(f"the image has {channels}, dataset.json names {len(names)} ({', '.join(names)}); {advice}")
        return None
    return Volume(np.concatenate([v.array.astype(np.float32, copy=False) for v in files]), files[0].geometry)


def _check_values(image: Volume, description: DatasetDescription, notes: _Notes) -> None:
    for name, channel in zip(description.channel_names, image.array, strict=True):
        reason = unusable(channel, name)
        if reason is not None:
            notes.add(reason)
        elif channel.min() == channel.max():
            notes.add(f"channel {name!r} is constant ({channel.flat[0]:g}); check the export", fatal=False)
        elif description.check_modality:
            for message, fatal in check_modality(channel, name):
                notes.add(message, fatal)


def _check_labels(label: Volume, scheme: LabelScheme, notes: _Notes) -> None:
    present = present_values(label.array)
    unknown = [v for v in present if v not in scheme.known_values]
    if unknown:
        what = f"labels {listed_values(unknown)} are" if len(unknown) > 1 else f"label {unknown[0]} is"
        known = listed_values(scheme.known_values)
        notes.add(f'{what} not in dataset.json ({known}); add to "labels" or remap the file')
    elif not any(v in scheme.values[1:] for v in present):
        notes.add("the label has no foreground; check that this is intended", fatal=False)


def _check_grid(image: Volume, label: Volume, notes: _Notes) -> None:
    if image.geometry.shape_zyx != label.geometry.shape_zyx:
        shapes = f"{label.geometry.shape_zyx} and {image.geometry.shape_zyx}"
        notes.add(
            f"label and image must have the same shape, found {shapes} (z, y, x); resample the label onto the image"
        )
        return
    if differences := same_grid(image.geometry, label.geometry, GRID_LIMIT_VOXELS):
        notes.add(
            f"label and image must be on the same grid, but their {differences[0]}; --fix repairs it where that is safe"
        )
    elif differences := same_grid(image.geometry, label.geometry, SAME_GRID_VOXELS):
        notes.add(
            f"the grids of label and image differ slightly: {differences[0]}; the image's grid is used", fatal=False
        )


def duplicates(images: Mapping[str, str], groups: Mapping[str, str] | None) -> list[Problem]:
    """Cases with equal images: a warning, or an error if their groups differ, because copies would be in different folds.

    ``images`` maps a case to :func:`image_digest`.
    """
    alike: dict[str, list[str]] = defaultdict(list)
    for case, content in sorted(images.items()):
        alike[content].append(case)
    problems = []
    for cases in alike.values():
        if len(cases) > 1:
            across = groups is not None and len({groups.get(case, case) for case in cases}) > 1
            message = (
                f"{', '.join(cases)} have the same image{' in different groups' if across else ''}; remove the copies"
            )
            problems.append(Problem(case=cases[0], message=message, fatal=across))
    return problems


def strays(dataset: RawDataset) -> list[Problem]:
    """Images in imagesTr and labelsTr, and in the folders of DICOM series, that belong to no case: errors.

    Those in imagesTr and labelsTr are warnings where dataset.json lists the files itself.
    """
    found: dict[str, str] = {}
    for part in ("imagesTr", "labelsTr"):
        folder = dataset.folder / part
        used = [file for case in dataset.cases for file in (*case.images, case.label) if file and file.parent == folder]
        others = _left_out(folder, used, dataset.description) if folder.is_dir() else {}
        found |= {f"{part}/{name}".removesuffix("/"): reason for name, reason in others.items()}
    problems = [Problem(case=n, message=reason, fatal=not dataset.description.files) for n, reason in found.items()]
    for case in dataset.cases:
        for series in (path for path in case.images if path.is_dir()):
            found = {escaped(path.relative_to(series).as_posix()): why for path, why in beside_slices(series).items()}
            problems += [Problem(case=escaped(case.id), message=f"{name} {why}") for name, why in found.items()]
    return problems


def _left_out(folder: Path, used: Collection[Path], description: DatasetDescription) -> dict[str, str]:
    try:
        return left_out(folder, used, description, labels=folder.name == "labelsTr")
    except OSError as error:
        return {"": f"cannot be opened ({error.strerror}); ask for the permission"}


def image_digest(image: Volume) -> str:
    """Hash of the voxels."""
    return digest(np.ascontiguousarray(image.array).data)


def inputs_digest(case: Case) -> str:
    """Hash of the names and bytes of a case's files; one that is missing or may not be read counts as empty."""
    content: list[bytes] = []
    for path in (*case.images, *(() if case.label is None else (case.label,))):
        content.append(os.fsencode(own_name(path)))
        with suppress(PermissionError):
            for file in files_of_image(path):
                if reader_name(path) == "zarr":  # a chunk may be absent, so its place counts
                    content.append(os.fsencode(file.relative_to(path)))
                content += [file_digest(file)] if file.is_file() else []
    return digest(*content)


def problem_table(problems: Sequence[Problem]) -> str:
    """Errors first, then by case; many cases with the same problem share a line (:func:`grouped`).

    >>> print(problem_table([Problem(case="b", message="odd", fatal=False), Problem(case="case_1", message="is empty")]))
    kind     case    problem
    error    case_1  is empty
    warning  b       odd
    """
    rows = [("kind", "case", "problem")]
    for kind, fatal in (("error", True), ("warning", False)):
        of_kind = sorted((p.case, p.message) for p in problems if p.fatal == fatal)
        rows += [(kind, case, message) for case, message in grouped(of_kind)]
    return text_table(rows, align="l")
