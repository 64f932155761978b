"""Which files of a folder are the slices of its only DICOM series; every other file is accounted for by name."""

import logging
import re
from collections.abc import Sequence
from pathlib import Path

from pydicom.dataset import Dataset

from unetrpp.core.errors import UserError
from unetrpp.core.files import is_system, own_name
from unetrpp.core.text import counted, listed
from unetrpp.io.dicom import is_dicom
from unetrpp.io.readers.dicom_header import (
    Header,
    class_name,
    is_directory,
    read_dataset,
    read_header,
    text,
)

LOG = logging.getLogger(__name__)

MOST_NAMES = 3  # in one message


def series_headers(folder: Path) -> list[Header]:
    """The headers of the only series of a folder, in the order of file names; what lies in subfolders is not read.

    A file that is no DICOM stops with its name where it could be a damaged slice: an empty one, one that starts with
    zeros, or one with the ending of the slices. Others are named in a warning.

    Raises:
        UserError: no series or several, or a file that is damaged or does not belong.
    """
    files = _visible_files(folder)
    slices = [path for path in files if is_dicom(path)]
    datasets = {path: read_dataset(path) for path in slices}
    datasets = {path: dataset for path, dataset in datasets.items() if not is_directory(dataset)}
    if not datasets:
        raise UserError(f"{own_name(folder)} holds no DICOM series; give a folder with exactly one")
    _account_for(folder, [path for path in files if path not in slices], {_ending(path) for path in datasets})
    _require_one_series(folder, datasets)
    return [read_header(path, dataset) for path, dataset in datasets.items()]


def _visible_files(folder: Path) -> list[Path]:
    """
    Raises:
        UserError: a link whose file is gone.
    """
    entries = sorted(path for path in folder.iterdir() if not is_system(path))
    broken = [path.name for path in entries if not path.exists()]
    if broken:
        link = "links to a missing file" if len(broken) == 1 else "link to missing files"
        raise UserError(f"{own_name(folder)}: {listed(broken, MOST_NAMES)} {link}; restore the file or remove the link")
    return [path for path in entries if path.is_file()]


def _account_for(folder: Path, others: Sequence[Path], endings: set[str]) -> None:
    """
    Raises:
        UserError: a file that could be a damaged slice.
    """
    for path in others:
        with path.open("rb") as file:
            start = file.read(132)
        if not start:
            state = "is empty (0 bytes)"
        elif not any(start):
            state = "starts with zeros only, so its content is lost"
        elif _ending(path) in endings:
            state = "is not a DICOM file, though its name is that of a slice"
        else:
            continue
        raise UserError(f"{own_name(folder)}: {path.name} {state}; copy it again, or remove it if it is not a slice")
    if others:
        LOG.warning(
            "%s: skipped files that are not DICOM: %s",
            own_name(folder),
            listed([path.name for path in others], MOST_NAMES),
        )


def _ending(path: Path) -> str:
    """The ending of a name; none where it is a number, as in the names that are UIDs.

    >>> _ending(Path("IM1.DCM")), _ending(Path("1.2.840.7")), _ending(Path("IM1"))
    ('.dcm', '', '')
    """
    return "" if re.fullmatch(r"\.\d+", path.suffix) else path.suffix.lower()


def _require_one_series(folder: Path, datasets: dict[Path, Dataset]) -> None:
    series: dict[str, list[Path]] = {}
    for path, dataset in datasets.items():
        uid = text(dataset, "SeriesInstanceUID")
        if not (uid or text(dataset, "SOPClassUID")):
            raise UserError(
                f"{own_name(folder)}: {path.name} names neither its kind nor its series, so it is truncated or damaged; "
                "copy it again, or remove it if it is not a slice"
            )
        series.setdefault(uid, []).append(path)
    if len(series) > 1:
        found = [_described(datasets[paths[0]], paths) for paths in series.values()]
        raise UserError(
            f"{own_name(folder)} holds {len(series)} DICOM series ({listed(found, MOST_NAMES)}); give a folder with exactly one"
        )
    kinds: dict[str, list[Path]] = {}
    for path, dataset in datasets.items():
        kinds.setdefault(text(dataset, "SOPClassUID"), []).append(path)
    if len(kinds) > 1:
        found = [_described(datasets[paths[0]], paths) for paths in kinds.values()]
        raise UserError(
            f"{own_name(folder)} mixes {len(kinds)} kinds of DICOM objects in one series ({listed(found, MOST_NAMES)}); give a folder "
            "with exactly one, or copy a damaged file again"
        )


def _described(dataset: Dataset, paths: Sequence[Path]) -> str:
    parts = (text(dataset, "SeriesNumber"), text(dataset, "SeriesDescription"), class_name(dataset))
    return f"{' '.join(part for part in parts if part)}: {counted(len(paths), 'file')}, {paths[0].name}"
