"""Writing a raw dataset: each case is copied or rewritten unless that was done before, and dataset.json comes last."""

import logging
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import msgspec

from unetrpp.core.errors import UserError
from unetrpp.core.files import is_dangling, read_json, write_json
from unetrpp.core.machine import default_processes
from unetrpp.core.parallel import CaseError, run_cases
from unetrpp.core.problems import grouped
from unetrpp.core.text import counted, escaped, is_utf8, listed, text_table
from unetrpp.dataset.cases import Case
from unetrpp.dataset.description import DatasetDescription, nnunet_json
from unetrpp.dataset.labels import LabelScheme
from unetrpp.dataset.verification import Problem, inspect
from unetrpp.dataset_conversion.case_files import WrittenImages, write_images, write_label
from unetrpp.dataset_conversion.earlier_files import (
    remove_case,
    remove_other_endings,
    require_elsewhere,
    require_no_others,
)
from unetrpp.dataset_conversion.masks import Remarks, warnings_of
from unetrpp.dataset_conversion.record import (
    PARTS,
    Conversion,
    earlier_description,
    images_of,
    merged_groups,
    require_same_conversion,
    without_changed,
)
from unetrpp.dataset_conversion.source import Source, SourceCase, common_ending
from unetrpp.io.formats import files_of_image
from unetrpp.io.images import most_voxels

LOG = logging.getLogger(__name__)

BYTES_A_VALUE = 24  # peak memory per value of a case while it is rewritten
CLOCK_TOLERANCE_S = 2  # FAT and some network disks keep modification times to two seconds


@dataclass(frozen=True)
class ConversionResult:
    """The result of a conversion."""

    folder: Path  # of the raw dataset
    cases: tuple[str, ...]  # that are in the folder now
    errors: tuple[CaseError, ...]  # of the cases that could not be converted, and of images that belong to no case
    left_out: dict[str, str] = field(default_factory=dict)  # with ``skip_unreadable``: what cannot be used, and why
    test_cases: tuple[str, ...] = ()  # those of ``cases`` that are in imagesTs


@dataclass(frozen=True)
class Target:
    """What all cases of a raw dataset have in common."""

    folder: Path
    ending: str
    channel_names: tuple[str, ...]
    labels: LabelScheme
    one_class: bool = False  # every label value above 0 becomes the one foreground value
    link: bool = False  # files that can stay as they are are linked instead of copied
    by_options: bool = True  # the user chose the classes with options, so that these can mend undeclared values
    check_modality: bool = True
    overwrite: bool = False


class Converted(NamedTuple):
    """What one case had that is said once for the dataset."""

    remarks: Remarks = Remarks()  # on its label
    alpha: bool = False  # an opaque alpha channel was left out
    gray: bool = False  # red, green and blue are equal everywhere
    problems: tuple[Problem, ...] = ()  # that planning will find


def write_raw_dataset(
    source: Source,
    folder: Path,
    conversion: Conversion,
    *,
    foreground_from_instances: bool = False,
    link: bool = False,
    skip_unreadable: bool = False,
    overwrite: bool = False,
    processes: int | None = None,
) -> ConversionResult:
    """Fill ``folder`` (imagesTr, labelsTr, imagesTs, labelsTs, dataset.json, conversion.json) from ``source``.

    Args:
        foreground_from_instances: every label value above 0 becomes the one foreground value.
        link: link files that can stay as they are instead of copying them; a case with another image is refused.
        skip_unreadable: what cannot be read or used is ``left_out`` of the result and not among its ``errors``.
        overwrite: convert every case again, not only those whose sources changed.
        processes: worker processes; None chooses by cores and memory.

    Raises:
        UserError: the folder holds another conversion or other cases, or there is no case, or no image can be read.
    """
    if not source.cases:
        found = [f"{escaped(name)} {why}" for name, why in source.left_out.items()]
        raise UserError(f"no case can be converted: {listed(found) or 'the source holds none'}")
    ending = common_ending(source.cases)
    require_elsewhere(source, folder)
    require_same_conversion(folder, conversion, overwrite)
    require_no_others(source, folder, overwrite)
    write_json(folder / "conversion.json", without_changed(source.cases, folder, ending, conversion))
    earlier = earlier_description(folder)
    target = Target(
        folder,
        ending,
        source.channel_names,
        source.labels,
        one_class=foreground_from_instances,
        link=link,
        by_options=conversion.options.get("layout") == "folder",
        check_modality=earlier.check_modality if earlier else True,
        overwrite=overwrite,
    )
    jobs = {case.id: (case, target) for case in source.cases}
    processes = processes or default_processes(_case_bytes(source))
    outcomes = list(run_cases(convert_case, jobs, "converting", processes))
    _report_once([outcome.value for outcome in outcomes if outcome.value is not None], source.channel_names)
    errors = tuple(outcome.error for outcome in outcomes if outcome.error)
    failed = {error.case for error in errors}
    converted = [case for case in source.cases if case.id not in failed]
    kept = [case for case in source.cases if case.id in failed and _is_whole(case, folder, ending)]
    if kept:
        LOG.warning(
            "warning: the dataset has files of %s that could not be converted now (%s), and planning takes them",
            counted(len(kept), "case"),
            listed([escaped(case.id) for case in kept]),
        )
    training = sum(not case.test for case in [*converted, *kept])
    remove_other_endings(source, folder, ending)
    if training:
        _write_description(source, folder, ending, training)
    else:
        LOG.warning(
            "warning: there is no training case, so dataset.json is not written, and planning cannot take this dataset"
        )
    others = [CaseError(name, "finding cases", reason, refused=True) for name, reason in source.left_out.items()]
    return _result(folder, converted, (*errors, *others), skip_unreadable and training > 0)


def _is_whole(case: SourceCase, folder: Path, ending: str) -> bool:
    """Whether the files of a failed case are there; an image without its label is removed."""
    kind = "Ts" if case.test else "Tr"
    images, label = folder / f"images{kind}", folder / f"labels{kind}" / f"{case.id}{ending}"
    if case.labelled and not label.exists():
        remove_case(case.id, images, label)
    return bool(images_of(case, images, ending))


def _report_once(converted: Sequence[Converted], channel_names: Sequence[str]) -> None:
    if problems := [problem for case in converted for problem in case.problems]:
        lines = grouped((problem.case, problem.message) for problem in problems)
        LOG.warning(
            "warning: planning will refuse these cases; some of it --fix of unetrpp_plan_and_preprocess repairs\n%s",
            text_table([("case", "problem"), *lines]),
        )
    for warning in warnings_of([case.remarks for case in converted]):
        LOG.warning("warning: %s", warning)
    if count := sum(case.alpha for case in converted):
        LOG.info("the alpha channel of %s is opaque and was left out", counted(count, "case"))
    if converted and all(case.gray for case in converted):
        LOG.info(
            "%s are equal in every image: saved as gray and converted with one --channel, the images take a third of the memory",
            listed(channel_names),
        )


def _write_description(source: Source, folder: Path, ending: str, training: int) -> None:
    """dataset.json; what a user added to that of an earlier conversion is kept."""
    earlier = earlier_description(folder)
    training_cases = {case.id for case in source.cases if not case.test}
    given = {case: group for case, group in (source.groups or {}).items() if case in training_cases}
    groups = merged_groups(source.cases, given, folder)
    description = DatasetDescription(
        name=folder.name,
        channel_names=source.channel_names,
        labels=source.labels,
        file_ending=ending,
        groups=groups.all or None,
        check_modality=earlier.check_modality if earlier else True,
        reference=source.reference,
        licence=source.licence,
    )
    write_json(folder / "dataset.json", nnunet_json(description, training))
    conversion = read_json(folder / "conversion.json", Conversion)
    write_json(folder / "conversion.json", msgspec.structs.replace(conversion, groups=groups.given))


def _result(
    folder: Path, converted: Sequence[SourceCase], errors: Sequence[CaseError], skip_unreadable: bool
) -> ConversionResult:
    skipped = {escaped(error.case): error.message for error in errors if skip_unreadable and error.refused}
    return ConversionResult(
        folder,
        tuple(case.id for case in converted),
        tuple(e for e in errors if escaped(e.case) not in skipped),
        skipped,
        tuple(case.id for case in converted if case.test),
    )


def _case_bytes(source: Source) -> int:
    """The memory that the largest case takes while it is rewritten."""
    voxels = most_voxels(file for case in source.cases for file in case.image_files)
    made = (image for case in source.cases for image in case.images if not isinstance(image, Path))
    slices = max((len(image.files) for image in made), default=1)  # what is made from several files is a stack of them
    return voxels * slices * len(source.channel_names) * BYTES_A_VALUE


def convert_case(case: SourceCase, target: Target) -> Converted:
    """Write one case, unless an earlier run has done so. Runs in a worker.

    The files get the newest modification time of the case's sources, by which a later run sees that they are current.

    Raises:
        UserError: a file is missing or unreadable, or its channels or labels are not those of the dataset.
    """
    if not is_utf8(case.id):
        raise UserError(f"the file name {escaped(case.files[0].name)} is not UTF-8; rename the files")
    images = target.folder / ("imagesTs" if case.test else "imagesTr")
    label = target.folder / ("labelsTs" if case.test else "labelsTr") / f"{case.id}{target.ending}"
    done = [images / f"{case.id}_0000{target.ending}", *([label] if case.labelled else [])]
    stamp = _newest(case)
    current = [not target.overwrite and _is_current(path, stamp, case) for path in done]
    if all(current):
        return Converted()
    try:
        written = (
            WrittenImages(images_of(case, images, target.ending))
            if current[0]
            else write_images(
                case,
                images,
                target.ending,
                target.channel_names,
                link=target.link,
                by_options=target.by_options,
            )
        )
        remarks = _write_label(case, label, target) if case.labelled else Remarks()
    except Exception:
        remove_case(case.id, images, label)
        raise
    files = [*written.files, *done[1:]]
    for path in reversed(files):  # the first channel last, because a later run looks at this one only
        if not path.is_symlink():
            os.utime(path, (stamp, stamp))
    before = [target.folder / part for part, _ in PARTS if part.endswith("Ts") != case.test]
    remove_case(case.id, before[0], before[1] / label.name)
    return Converted(remarks, written.alpha, written.gray, _problems(case, label, written, target))


def _write_label(case: SourceCase, path: Path, target: Target) -> Remarks:
    return write_label(case, path, target.labels, target.one_class, link=target.link, by_options=target.by_options)


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


def _is_current(path: Path, stamp: float, case: SourceCase) -> bool:
    """Whether a file has the time of its sources, or is a link to one of them that was made, and so checked, after their changes."""
    if path.is_symlink():
        linked = any(path.resolve() == file.resolve() for file in case.files)
        return linked and path.lstat().st_mtime >= stamp - CLOCK_TOLERANCE_S
    return path.is_file() and abs(path.stat().st_mtime - stamp) <= CLOCK_TOLERANCE_S


def _problems(case: SourceCase, label: Path, written: WrittenImages, target: Target) -> tuple[Problem, ...]:
    """Why planning will refuse a training case that was just written: its grid, its values or its modality."""
    if case.test or not case.labelled or not written.files:
        return ()
    description = DatasetDescription(
        name=target.folder.name,
        channel_names=target.channel_names,
        labels=target.labels,
        file_ending=target.ending,
        check_modality=target.check_modality,
    )
    found = inspect(Case(case.id, tuple(written.files), label), description).problems
    return tuple(problem for problem in found if problem.fatal)
