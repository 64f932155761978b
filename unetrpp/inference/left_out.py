"""What a folder of inputs holds in addition to the cases found in it, without the results of earlier predictions."""

from collections.abc import Iterable, Mapping
from pathlib import Path

from unetrpp.core.errors import UserError
from unetrpp.dataset import left_out as of_dataset
from unetrpp.dataset.description import DatasetDescription
from unetrpp.inference.record import case_folder, earlier_runs
from unetrpp.io.formats import strip_ending
from unetrpp.io.listing import entries

RESULTS = "predictions*.json"  # marks a folder of results, which may hold images too


def left_out(
    folder: Path,
    cases: Mapping[str, tuple[Path, ...]],
    description: DatasetDescription,
    own: Iterable[Path] = (),
) -> dict[str, str]:
    """Images in ``folder`` that none of the ``cases`` found there uses: escaped name -> reason and repair.

    As :func:`unetrpp.dataset.left_out.left_out` has it. What earlier predictions wrote does not count, nor do subfolders that
    are or hold one of ``own``, such as the model.
    """
    used = {path for files in cases.values() for path in files}
    results = {path.name for path in entries(folder) if path.is_dir()} - {path.name for path in subfolders(folder)}
    top = folder.resolve()
    holding = {path.resolve().relative_to(top).parts[0] for path in own if top in path.resolve().parents}
    ignored = written_by_predictions(folder) | results | holding
    return of_dataset.left_out(folder, used, description, whose="the model's", ignored=ignored)


def subfolders(folder: Path) -> list[Path]:
    """The folders in ``folder`` without hidden ones and results of predictions."""
    written = {"fixed"} | written_by_predictions(folder) if any(folder.glob(RESULTS)) else set()
    return [
        path for path in entries(folder) if path.is_dir() and not any(path.glob(RESULTS)) and path.name not in written
    ]


def written_by_predictions(folder: Path) -> set[str]:
    """Names of the files and the folders of cases that earlier predictions wrote into ``folder``."""
    try:
        runs = earlier_runs(folder).values()
    except UserError:  # another program's file of this name
        return set()
    records = [record for run in runs for record in run.cases.values()]
    outputs = {case_folder(name) or name for record in records for name in (record.output, *record.maps)}
    return outputs | {name for run in runs for name in run.pending} | {f"{strip_ending(name)}.dcm" for name in outputs}
