"""Finding the cases to predict: those of a folder, or one case given by its files."""

import logging
from collections.abc import Sequence
from pathlib import Path

from unetrpp.core.errors import UserError
from unetrpp.core.text import escaped, is_utf8
from unetrpp.dataset.cases import Case, channel_paths, ignored_images, image_ids
from unetrpp.dataset.description import DatasetDescription
from unetrpp.dataset.verification import inputs_digest
from unetrpp.io.dicom import dicom_files, is_dicom, is_series
from unetrpp.io.formats import strip_ending

LOG = logging.getLogger(__name__)

Cases = dict[str, tuple[Path, ...]]
RESULTS = "predictions*.json"  # marks a folder of results, which may hold DICOM files too


def find_cases(inputs: Sequence[Path], description: DatasetDescription) -> Cases:
    """Case -> its files, one per channel, from one folder of CASE_0000.ending or from the files of one case.

    A DICOM series is a folder of its own in place of a file: CASE, or CASE_0000, CASE_0001 and so on.

    Raises:
        UserError: nothing is found, a file is named otherwise, or there is not one file per channel.
    """
    missing = next((path for path in inputs if not path.exists()), None)
    if missing is not None:
        raise UserError(f"{missing} does not exist; check the path")
    if len(inputs) == 1 and inputs[0].is_dir():
        return _cases_of_folder(inputs[0], description)
    channels = len(description.channel_names)
    if len(inputs) not in (1, channels):
        names = ", ".join(description.channel_names)
        raise UserError(
            f"{len(inputs)} files for a model with {channels} channels ({names}); give one file per channel, in this order"
        )
    return {case_id(inputs[0]): tuple(inputs)}


def _cases_of_folder(folder: Path, description: DatasetDescription) -> Cases:
    cases = image_ids(folder, description)
    if not cases:
        return _series_of_folder(folder, description)
    ignored = ignored_images(folder, description)
    if ignored:
        names = ", ".join(ignored[:5]) + (", ..." if len(ignored) > 5 else "")
        LOG.warning(
            "%d images are not named CASE_0000%s and are ignored: %s", len(ignored), description.file_ending, names
        )
    return {case: channel_paths(folder, case, description) for case in cases}


def _series_of_folder(folder: Path, description: DatasetDescription) -> Cases:
    folders = sorted(path for path in folder.iterdir() if _may_hold_series(path))
    series, files = [path for path in folders if is_series(path)], list(dicom_files(folder))
    if files and not series:
        return {case_id(folder): (folder,)}
    if not series:
        ending, others = description.file_ending, ignored_images(folder, description)
        found = f", but {others[0]}; rename the files or give them one by one" if others else _deeper(folder, folder)
        repair = found or "; rename the files or give them one by one"
        raise UserError(f"{folder} has no image named CASE_0000{ending} and no folder with a DICOM series{repair}")
    _name_passed_over(folder, files, [path for path in folders if path not in series])
    channels = len(description.channel_names)
    if channels == 1:
        return {case_id(path): (path,) for path in series}
    first = [path for path in series if path.name.endswith("_0000")]
    if not first:
        raise UserError(
            f"{folder} holds the DICOM series {series[0].name}, but a model with {channels} channels takes folders "
            "named CASE_0000, CASE_0001 and so on; rename them"
        )
    return {case_id(path): tuple(folder / f"{case_id(path)}_{i:04d}" for i in range(channels)) for path in first}


def _may_hold_series(path: Path) -> bool:
    return path.is_dir() and not path.name.startswith(".") and not any(path.glob(RESULTS))


def _name_passed_over(folder: Path, files: Sequence[Path], folders: Sequence[Path]) -> None:
    """Warn about files and folders next to the folders of series that are not predicted."""
    if files:
        names = ", ".join(path.name for path in files[:5]) + (", ..." if len(files) > 5 else "")
        LOG.warning("DICOM files next to the folders of series are ignored: %s; give each series a folder", names)
    for path in folders:
        LOG.warning("%s holds no DICOM series itself and is ignored%s", path.name, _deeper(folder, path))


def _deeper(folder: Path, top: Path) -> str:
    """Names the first folder with a series somewhere below ``top``, for a message."""
    found = next((path for path in sorted(top.rglob("*")) if is_series(path)), None)
    return "" if found is None else f", but {found.relative_to(folder)} holds one; give that folder"


def case_id(path: Path) -> str:
    """A case's name from the file name of its first channel.

    >>> case_id(Path("liver_7_0000.nii.gz")), case_id(Path("scan.nrrd"))
    ('liver_7', 'scan')
    """
    return strip_ending(path.name).removesuffix("_0000")


def require_series(cases: Cases) -> None:
    """Check that every case is a DICOM series, to whose slices a DICOM SEG can refer.

    Raises:
        UserError: a case was given as files.
    """
    others = [case for case, paths in cases.items() if not (paths[0].is_dir() or is_dicom(paths[0]))]
    if others:
        names = ", ".join(others[:5]) + (", ..." if len(others) > 5 else "")
        raise UserError(f"--dicom-seg is for DICOM series, but {names} came as files; leave it out or give the series")


def share(cases: Cases, part: str) -> Cases:
    """Every n-th case from the k-th on, for ``part`` = "k/n" with k from 1, so that machines or GPUs share a folder.

    Raises:
        UserError: ``part`` has another form.
    """
    k, _, n = part.partition("/")
    if not (k.isdigit() and n.isdigit() and 1 <= int(k) <= int(n)):
        raise UserError(f"part {part!r} must be k/n with k from 1 to n, such as 1/4")
    return dict(list(cases.items())[int(k) - 1 :: int(n)])


def named_in_utf8(cases: Cases) -> tuple[Cases, dict[str, str]]:
    """The cases whose names fit into a record, and what is wrong with each of the others, by its escaped name."""
    fit = {case: files for case, files in cases.items() if is_utf8(case)}
    others = {escaped(case): "the file name is not UTF-8; rename the file" for case in cases.keys() - fit.keys()}
    return fit, others


def files_digest(case: str, files: tuple[Path, ...]) -> str:
    """Hash of the content of a case's image files."""
    return inputs_digest(Case(id=case, images=files, label=None))
