"""Finding the cases to predict: those of a folder, or one case given by its files."""

from collections.abc import Sequence
from pathlib import Path

import msgspec

from unetrpp.core.errors import UserError
from unetrpp.core.files import is_dangling, own_name
from unetrpp.core.text import composed, counted, escaped, listed
from unetrpp.dataset.cases import (
    Case,
    channel_number,
    channel_paths,
    ignored_images,
    image_endings,
    image_ids,
    unrecordable,
)
from unetrpp.dataset.description import DatasetDescription
from unetrpp.dataset.left_out import rename, with_ending_of
from unetrpp.dataset.verification import inputs_digest
from unetrpp.inference.left_out import subfolders
from unetrpp.io.dicom import is_dicom
from unetrpp.io.formats import is_folder, strip_ending
from unetrpp.io.listing import folder_with_images, holds_series, unreadable

Cases = dict[str, tuple[Path, ...]]
NamedFiles = tuple[str, tuple[Path, ...]]  # a case and its files


def find_cases(inputs: Sequence[Path], description: DatasetDescription) -> Cases:
    """Case -> its files, one per channel, from one folder of CASE_0000.ending or from the files of one case.

    Where no file of the folder has the ending of the model's images, and no folder in it holds a DICOM series, every ending
    with a reader will do. A DICOM series is a folder of its own in place of a file: CASE, or CASE_0000, CASE_0001 and so on.

    Raises:
        UserError: nothing is found, or there is not one file per channel. Images of the folder that belong to no case are listed
            by :func:`unetrpp.inference.left_out.left_out`.
    """
    for path in inputs:
        reason = unreadable(path) if path.is_dir() or is_dangling(path) else None
        if reason is not None or not path.exists():
            raise UserError(f"{escaped(str(path))} {reason or 'does not exist; check the path'}")
    if len(inputs) == 1 and is_folder(inputs[0]):
        return _cases_of_folder(inputs[0], description)
    channels = len(description.channel_names)
    if len(inputs) not in (1, channels):
        names = ", ".join(description.channel_names)
        raise UserError(
            f"{len(inputs)} files for a model with {counted(channels, 'channel')} ({names}); give one file per channel, in this order"
        )
    return {case_id(inputs[0]): tuple(inputs)}


def _cases_of_folder(folder: Path, description: DatasetDescription) -> Cases:
    cases = _named_images(folder, description, [description.file_ending]) or _series_of_folder(folder, description)
    cases = cases or _named_images(folder, description, image_endings(folder))
    if not cases:
        raise _nothing_found(folder, description)
    return cases


def _named_images(folder: Path, description: DatasetDescription, endings: Sequence[str]) -> Cases:
    """The cases with images of one of these endings; of two images of one case that differ in the ending, the first."""
    cases: dict[str, tuple[str, tuple[Path, ...]]] = {}  # by composed name
    for ending in endings:
        described = msgspec.structs.replace(description, file_ending=ending)
        for case in image_ids(folder, described):
            cases.setdefault(composed(case), (case, channel_paths(folder, case, described)))
    return dict(sorted(cases.values()))


def _series_of_folder(folder: Path, description: DatasetDescription) -> Cases:
    """The DICOM series in ``folder``, or ``folder`` itself where it is one; none where it holds none.

    Raises:
        UserError: series for a model of several channels that are not numbered.
    """
    series = [path for path in subfolders(folder) if holds_series(path)]
    if not series:
        return {case_id(folder): (folder,)} if holds_series(folder) else {}
    channels = len(description.channel_names)
    if channels == 1:
        cases: Cases = {}
        for path in series:
            cases.setdefault(case_id(path), (path,))
        return cases
    numbered = [path for path in series if (number := channel_number(path.name)) is not None and number < channels]
    if not any(path.name.endswith("_0000") for path in numbered):
        raise UserError(
            f"{folder} holds the DICOM series {series[0].name}, but a model with {channels} channels takes folders "
            "named CASE_0000, CASE_0001 and so on; rename them"
        )
    ids = dict.fromkeys(path.name[:-5] for path in numbered)
    return {case: tuple(folder / f"{case}_{i:04d}" for i in range(channels)) for case in ids}


def _nothing_found(folder: Path, description: DatasetDescription) -> UserError:
    ending, others = description.file_ending, ignored_images(folder, description)
    deeper = [inner for path in subfolders(folder) if (inner := folder_with_images(path)) is not None]
    found = f"{folder} has no image named CASE_0000{ending} and no folder with a DICOM series"
    if others:
        other = folder / others[0]
        more = f" and {len(others) - 1} more" if len(others) > 1 else ""
        return UserError(
            f"{found}, but {escaped(other.name)}{more}; {rename(other, with_ending_of(other, description))}"
        )
    if deeper:
        places = listed([escaped(str(inner.relative_to(folder))) for inner in deeper], 5)
        repair = "holds images; give that folder" if len(deeper) == 1 else "hold images; give one of these folders"
        return UserError(f"{found}, but {places} {repair}")
    return UserError(f"{found}; rename the files or give them one by one")


def case_id(path: Path) -> str:
    """A case's name from the file name of its first channel, or from that of a series' folder.

    >>> case_id(Path("liver_7_0000.nii.gz")), case_id(Path("scan.nrrd"))
    ('liver_7', 'scan')
    """
    return strip_ending(own_name(path)).removesuffix("_0000")


def require_series(cases: Cases, option: str) -> None:
    """Check that every case is a DICOM series, to whose slices the file that ``option`` writes can refer.

    Raises:
        UserError: a case was given as files.
    """
    others = [
        case
        for case, paths in cases.items()
        if not (is_folder(paths[0]) or (paths[0].is_file() and is_dicom(paths[0])))
    ]
    if others:
        raise UserError(
            f"{option} is for DICOM series, but {listed(others, 5)} came as other files; leave the option out or give the series"
        )


def share(cases: Cases, part: str) -> Cases:
    """Every n-th case from the k-th on, for ``part`` = "k/n" with k from 1, so that machines or GPUs share a folder.

    Raises:
        UserError: ``part`` has another form.
    """
    k, _, n = part.partition("/")
    if not (k.isdigit() and n.isdigit() and 1 <= int(k) <= int(n)):
        raise UserError(f"part {part!r} must be k/n with k from 1 to n, such as 1/4")
    return dict(list(cases.items())[int(k) - 1 :: int(n)])


def recordable_cases(cases: Cases) -> tuple[Cases, dict[str, str]]:
    """The cases whose names fit into a record, and what is wrong with each of the others, by its escaped name."""
    reasons = {case: reason for case in cases if (reason := unrecordable(case)) is not None}
    fit = {case: files for case, files in cases.items() if case not in reasons}
    return fit, {escaped(case): f"{reason}; rename the file" for case, reason in reasons.items()}


def files_digest(case: str, files: tuple[Path, ...]) -> str:
    """Hash of the content of a case's image files."""
    return inputs_digest(Case(id=case, images=files, label=None))
