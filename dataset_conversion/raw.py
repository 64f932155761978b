"""Writing a raw dataset: each case is copied or rewritten unless that was done before, and dataset.json comes last."""

import glob
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from unetrpp.core.errors import UserError
from unetrpp.core.files import Record, is_dangling, read_json, write_json
from unetrpp.core.parallel import CaseError, default_processes, run_cases
from unetrpp.core.text import escaped, is_utf8
from unetrpp.dataset.description import DatasetDescription, nnunet_json
from unetrpp.dataset.labels import LabelScheme, present_values
from unetrpp.dataset_conversion.source import Source, SourceCase, common_ending
from unetrpp.io.formats import copy_image, ending_of, files_of_image
from unetrpp.io.images import Volume, most_voxels, read_channels, read_file, read_label, write_image, write_segmentation

MOST_NAMED = 5  # undeclared labels that a message lists
BYTES_A_VALUE = 24  # peak memory per value of a case while it is rewritten
CLOCK_TOLERANCE_S = 2  # FAT and some network disks keep modification times to two seconds


class Conversion(Record, frozen=True, kw_only=True):
    """conversion.json: the source and the options of a conversion; a later run must have the same ones."""

    format: int = 1
    source: str
    options: dict[str, Any]


@dataclass(frozen=True)
class ConversionResult:
    """The result of a conversion."""

    folder: Path  # of the raw dataset
    cases: tuple[str, ...]  # that are in the folder now
    errors: tuple[CaseError, ...]  # of the cases that could not be converted, and of images that belong to no case
    left_out: dict[str, str] = field(default_factory=dict)  # with ``skip_unreadable``: what cannot be used, and why


@dataclass(frozen=True)
class Target:
    """What all cases of a raw dataset have in common."""

    folder: Path
    ending: str
    channels: int
    labels: LabelScheme
    foreground: int | None = None  # the value written for every label above 0; None keeps the values
    overwrite: bool = False


def write_raw_dataset(
    source: Source,
    folder: Path,
    conversion: Conversion,
    *,
    foreground_from_instances: bool = False,
    skip_unreadable: bool = False,
    overwrite: bool = False,
    processes: int | None = None,
) -> ConversionResult:
    """Fill ``folder`` (imagesTr, labelsTr, imagesTs, dataset.json, conversion.json) from ``source``.

    Args:
        foreground_from_instances: every label value above 0 becomes the one foreground value.
        skip_unreadable: what cannot be read or used is ``left_out`` of the result and not among its ``errors``.
        overwrite: convert every case again, not only those whose sources changed.
        processes: worker processes; None chooses by cores and memory.

    Raises:
        UserError: the folder holds another conversion or other cases, or no image can be read.
    """
    ending = common_ending(source.cases)
    _require_no_others(source, folder, ending)
    _record_conversion(folder, conversion, overwrite)
    foreground = source.labels.values[-1] if foreground_from_instances else None
    target = Target(folder, ending, len(source.channel_names), source.labels, foreground, overwrite)
    jobs = {case.id: (case, target) for case in source.cases}
    processes = processes or default_processes(_case_bytes(source))
    errors = tuple(o.error for o in run_cases(convert_case, jobs, "converting", processes) if o.error)
    failed = {error.case for error in errors}
    converted = [case for case in source.cases if case.id not in failed]
    training = sum(case.label is not None for case in converted)
    if training:
        description = DatasetDescription(
            name=folder.name,
            channel_names=source.channel_names,
            labels=source.labels,
            file_ending=ending,
            reference=source.reference,
            licence=source.licence,
        )
        write_json(folder / "dataset.json", nnunet_json(description, training))
    others = [CaseError(name, "finding cases", reason, refused=True) for name, reason in source.left_out.items()]
    return _result(folder, tuple(case.id for case in converted), (*errors, *others), skip_unreadable and training > 0)


def _result(
    folder: Path, cases: tuple[str, ...], errors: Sequence[CaseError], skip_unreadable: bool
) -> ConversionResult:
    skipped = {escaped(error.case): error.message for error in errors if skip_unreadable and error.refused}
    return ConversionResult(folder, cases, tuple(e for e in errors if escaped(e.case) not in skipped), skipped)


def _case_bytes(source: Source) -> int:
    """The memory that the largest case takes while it is rewritten."""
    voxels = most_voxels(file for case in source.cases for file in case.images)
    return voxels * len(source.channel_names) * BYTES_A_VALUE


def _require_no_others(source: Source, folder: Path, ending: str) -> None:
    """Refuse cases in the folder that ``source`` does not have, because they would be trained on."""
    training = {case.id for case in source.cases if case.label is not None}
    tests = {case.id for case in source.cases if case.label is None}
    for part, number, known in (
        ("imagesTr", "_0000", training),
        ("labelsTr", "", training),
        ("imagesTs", "_0000", tests),
    ):
        found = {p.name.removesuffix(number + ending) for p in (folder / part).glob(f"[!.]*{number}{ending}")}
        if others := sorted(found - known):
            raise UserError(
                f"{folder / part} holds {len(others)} cases, such as {others[0]}, that the source does not have; "
                "remove their files, or give another --name"
            )


def _record_conversion(folder: Path, conversion: Conversion, overwrite: bool) -> None:
    """Write conversion.json, unless the folder holds another conversion or a dataset that was not converted."""
    path = folder / "conversion.json"
    if path.exists() and not overwrite:
        earlier = read_json(path, Conversion)
        if earlier != conversion:
            raise UserError(
                f"{folder} was converted from {earlier.source} with other options; give --name or --overwrite"
            )
    elif (folder / "dataset.json").exists() and not overwrite:
        raise UserError(
            f"{folder} already holds a dataset that was not converted here; give another --name or --overwrite"
        )
    write_json(path, conversion)


def convert_case(case: SourceCase, target: Target) -> bool:
    """Write one case; returns False where an earlier run has done so. Runs in a worker.

    The files get the newest modification time of the case's sources, by which a later run sees that they are current.

    Raises:
        UserError: a file is missing or unreadable, or its channels or labels are not those of the dataset.
    """
    if not is_utf8(case.id):
        raise UserError(f"the file name {escaped(case.images[0].name)} is not UTF-8; rename the files")
    images = target.folder / ("imagesTs" if case.label is None else "imagesTr")
    label = target.folder / "labelsTr" / f"{case.id}{target.ending}"
    done = [images / f"{case.id}_0000{target.ending}", *([label] if case.label else [])]
    stamp = _newest(case)
    if not target.overwrite and all(_has_time(path, stamp) for path in done):
        return False
    try:
        written = _write_images(case, images, target)
        if case.label is not None:
            written.append(_write_label(case.label, label, target))
    except Exception:
        for path in (label, *images.glob(f"{glob.escape(case.id)}_[0-9][0-9][0-9][0-9]{target.ending}")):
            path.unlink(missing_ok=True)
        raise
    for path in reversed(written):  # the first channel last, because a later run looks at this one only
        os.utime(path, (stamp, stamp))
    return True


def _newest(case: SourceCase) -> float:
    """The newest modification time of a case's sources."""
    for file in case.files:
        if is_dangling(file):
            raise UserError(
                f"{escaped(file.name)} is a link to a file that is not there; fetch it (such as with git annex get)"
            )
        if not file.exists():
            raise UserError(f"{escaped(str(file))} does not exist; complete the download")
        if file.is_file() and file.stat().st_size == 0:
            raise UserError(f"{file.name} is empty (0 bytes); download or copy it again")
    parts = (part for file in case.files for part in (file, *files_of_image(file)))
    return max(part.stat().st_mtime for part in parts if part.exists())


def _has_time(path: Path, stamp: float) -> bool:
    return path.is_file() and abs(path.stat().st_mtime - stamp) <= CLOCK_TOLERANCE_S


def _write_images(case: SourceCase, folder: Path, target: Target) -> list[Path]:
    """One file per channel; a photograph keeps its colours in one file, as is usual with nnU-Net."""
    found = [read_channels(file) for file in case.images]
    if sum(channels for channels, _ in found) != target.channels:
        files = " and ".join(f"{file.name} ({n})" for file, (n, _) in zip(case.images, found, strict=True))
        raise UserError(
            f"{target.channels} channels are named, but the files hold other numbers: {files}; correct one of them"
        )
    as_they_are = all(
        ending_of(file) == target.ending and (channels == 1 or dimensions == 2)
        for file, (channels, dimensions) in zip(case.images, found, strict=True)
    )
    # A file of several channels can be copied only where it holds all channels of the case.
    if not (as_they_are and len(case.images) in (1, target.channels)):
        return _split_channels(case, folder, target.ending)
    copies = [folder / f"{case.id}_{i:04d}{target.ending}" for i in range(len(case.images))]
    for file, copy in zip(case.images, copies, strict=True):
        read_file(file)  # refuses a damaged file
        copy_image(file, copy)
    return copies


def _split_channels(case: SourceCase, folder: Path, ending: str) -> list[Path]:
    written: list[Path] = []
    for file in case.images:
        volume = read_file(file)
        for channel in volume.array:
            written.append(folder / f"{case.id}_{len(written):04d}{ending}")
            write_image(written[-1], Volume(channel[None], volume.geometry))
    return written


def _write_label(file: Path, path: Path, target: Target) -> Path:
    """Copy or rewrite a label as ``path``, in the smallest integer type that holds its values."""
    volume = read_label(file)
    array = volume.array[0]
    if target.foreground is None:
        _require_declared(file, array, target.labels)
        if path.name.endswith(ending_of(file)):
            copy_image(file, path)
            return path
    else:
        array = (array > 0) * np.uint16(target.foreground)
    if array.min() >= 0:
        array = array.astype(np.min_scalar_type(int(array.max())))
    write_segmentation(path, array, volume.geometry)
    return path


def _require_declared(file: Path, array: np.ndarray, labels: LabelScheme) -> None:
    unknown = sorted(set(present_values(array)) - set(labels.known_values))
    if unknown:
        found, known = (", ".join(map(str, values)) for values in (unknown[:MOST_NAMED], labels.known_values))
        advice = "declare it or remap the file"
        if len(labels.values) == 2:
            advice += ", or give --foreground-from-instances if the values number objects"
        raise UserError(f"{file.name} holds the label {found}, but only {known} are declared; {advice}")
