"""Writing a raw dataset: every case copied or rewritten atomically, done ones skipped, dataset.json last."""

import os
from pathlib import Path
from typing import Any

import numpy as np

from unetrpp.core.errors import UserError
from unetrpp.core.files import Record, read_json, write_json
from unetrpp.core.parallel import CaseError, run_cases
from unetrpp.dataset.description import DatasetDescription, nnunet_json
from unetrpp.dataset.labels import LabelScheme, present_values
from unetrpp.dataset_conversion.source import Source, SourceCase, common_ending
from unetrpp.io.formats import copy_image, ending_of
from unetrpp.io.images import Volume, read_channels, read_file, read_label, write_image, write_segmentation
from unetrpp.io.integrity import require_intact

MOST_NAMED = 5  # undeclared labels that a message lists
CLOCK_TOLERANCE_S = 2  # FAT and some network disks keep modification times to two seconds


class Conversion(Record, frozen=True, kw_only=True):
    """conversion.json: how a raw dataset was made. A second run must ask for the same."""

    format: int = 1
    source: str
    options: dict[str, Any]


def write_raw_dataset(
    source: Source, folder: Path, conversion: Conversion, *, instances: bool, overwrite: bool, processes: int
) -> list[CaseError]:
    """Fill ``folder`` (imagesTr, labelsTr, imagesTs, dataset.json) from ``source``; returns the cases that failed.

    With ``instances`` every label value above 0 becomes the one foreground value.

    Raises:
        UserError: the folder holds another conversion or other cases, or no case has a readable image.
    """
    ending = common_ending(source.cases)
    _require_no_others(source, folder, ending)
    _require_same(folder, conversion, overwrite)
    foreground = source.labels.values[-1] if instances else None
    channels, labels = len(source.channel_names), source.labels
    jobs = {case.id: (case, folder, channels, labels, ending, foreground, overwrite) for case in source.cases}
    errors = [o.error for o in run_cases(convert_case, jobs, "converting", processes) if o.error]
    failed = {error.case for error in errors}
    training = sum(case.label is not None and case.id not in failed for case in source.cases)
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
    return errors


def _require_no_others(source: Source, folder: Path, ending: str) -> None:
    """A case that an earlier conversion left in the folder would be trained on."""
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
                f"{folder / part} holds {len(others)} cases, such as {others[0]}, that the source has not; "
                "remove their files, or give another --name"
            )


def _require_same(folder: Path, conversion: Conversion, overwrite: bool) -> None:
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


def convert_case(
    case: SourceCase,
    folder: Path,
    channels: int,
    labels: LabelScheme,
    ending: str,
    foreground: int | None,
    overwrite: bool,
) -> bool:
    """Write one case and say whether there was anything to do. Runs in a worker.

    Outputs carry the newest modification time of the case's sources, by which a second run sees what is done.

    Raises:
        UserError: a file is missing, unreadable, or has another number of channels or other labels than dataset.json
            will say.
    """
    images = folder / ("imagesTs" if case.label is None else "imagesTr")
    first = images / f"{case.id}_0000{ending}"
    label = folder / "labelsTr" / f"{case.id}{ending}"
    stamp = _newest(case)
    if not overwrite and all(_carries(path, stamp) for path in (first, *([label] if case.label else []))):
        return False
    try:
        written = _write_images(case, images, channels, ending)
        if case.label is not None:
            written.append(_write_label(case.label, label, labels, foreground))
    except Exception:
        for path in (label, *images.glob(f"{case.id}_[0-9][0-9][0-9][0-9]{ending}")):
            path.unlink(missing_ok=True)
        raise
    for path in reversed(written):  # the first channel last: it stands for all of them
        os.utime(path, (stamp, stamp))
    return True


def _newest(case: SourceCase) -> float:
    for file in case.files:
        if not file.is_file():
            raise UserError(f"{file} does not exist; complete the download")
        if file.stat().st_size == 0:
            raise UserError(f"{file.name} is empty (0 bytes); download or copy it again")
    return max(file.stat().st_mtime for file in case.files)


def _carries(path: Path, stamp: float) -> bool:
    return path.is_file() and abs(path.stat().st_mtime - stamp) <= CLOCK_TOLERANCE_S


def _write_images(case: SourceCase, folder: Path, channels: int, ending: str) -> list[Path]:
    """One file a channel, except that a photograph keeps its colours in one file, as nnU-Net's users expect."""
    found = [read_channels(file) for file in case.images]
    if sum(n for n, _ in found) != channels:
        files = " and ".join(f"{file.name} ({n})" for file, (n, _) in zip(case.images, found, strict=True))
        raise UserError(
            f"{channels} channels are named, but the files hold other numbers: {files}; correct one of them"
        )
    as_they_are = all(
        ending_of(file) == ending and (n == 1 or d == 2) for file, (n, d) in zip(case.images, found, strict=True)
    )
    # A file of several channels can stand for a case only when it brings all of them.
    if as_they_are and len(case.images) in (1, channels):
        targets = [folder / f"{case.id}_{i:04d}{ending}" for i in range(len(case.images))]
        for file, target in zip(case.images, targets, strict=True):
            require_intact(file)
            copy_image(file, target)
        return targets
    return _split_channels(case, folder, ending)


def _split_channels(case: SourceCase, folder: Path, ending: str) -> list[Path]:
    targets: list[Path] = []
    for file in case.images:
        volume = read_file(file)
        for channel in volume.array:
            targets.append(folder / f"{case.id}_{len(targets):04d}{ending}")
            write_image(targets[-1], Volume(channel[None], volume.geometry))
    return targets


def _write_label(file: Path, target: Path, labels: LabelScheme, foreground: int | None) -> Path:
    volume = read_label(file)
    array = volume.array[0]
    if foreground is None:
        _require_declared(file, array, labels)
    if foreground is None and target.name.endswith(ending_of(file)):
        copy_image(file, target)
        return target
    if foreground is not None:
        array = (array > 0) * np.uint16(foreground)
    if array.min() >= 0:
        array = array.astype(np.min_scalar_type(int(array.max())))
    write_segmentation(target, array, volume.geometry)
    return target


def _require_declared(file: Path, array: np.ndarray, labels: LabelScheme) -> None:
    unknown = sorted(set(present_values(array)) - set(labels.known_values))
    if unknown:
        found, known = (", ".join(map(str, values)) for values in (unknown[:MOST_NAMED], labels.known_values))
        mend = "declare it or remap the file"
        if len(labels.values) == 2:
            mend += ", or give --foreground-from-instances if the values number objects"
        raise UserError(f"{file.name} holds the label {found}, but declared are {known}; {mend}")
