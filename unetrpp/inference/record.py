"""predictions.json: what predicted, how, and for every case its grid, its checks, class volumes and warnings."""

from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Annotated

import msgspec

from unetrpp.core.errors import UserError
from unetrpp.core.files import Record, read_json, write_json
from unetrpp.inference.postprocessing import PostProcessing
from unetrpp.io.geometry import Geometry

FILE = "predictions.json"
FileName = Annotated[
    str, msgspec.Meta(pattern=r"^[^/\\]+$")
]  # these files are replaced and removed, in one folder only


class CaseRecord(Record, frozen=True, kw_only=True):
    """``output`` and ``maps`` are names of files; ``volumes_ml``, of a photograph ``areas_pixels``, are by class name."""

    output: FileName
    inputs: str  # digest of the image's files
    geometry: Geometry
    volumes_ml: dict[str, float]
    areas_pixels: dict[str, int] = msgspec.field(default_factory=dict)
    warnings: tuple[str, ...]
    seconds: float  # network and export
    maps: tuple[FileName, ...] = ()


class Member(Record, frozen=True, kw_only=True):
    """One model of the ensemble (usually the only one)."""

    model: str  # name of the model folder
    model_hash: str  # of its plans and checkpoints
    plans: str
    configuration: str
    folds: tuple[str, ...]
    checkpoint: str


class Settings(Record, frozen=True, kw_only=True):
    """What decides a prediction; outputs made with other settings are never taken for finished ones."""

    dataset: str
    members: tuple[Member, ...]
    mirroring: bool
    step: float
    postprocessing: PostProcessing


class Predictions(Record, frozen=True, kw_only=True):
    format: int = 1
    version: str  # of unetrpp
    device: str
    settings: Settings
    cases: dict[str, CaseRecord]
    failed: dict[str, str]  # case -> message
    pending: tuple[str, ...] = ()  # outputs that the run had still to write: a killed run may have written some


def file_name(part: str | None) -> str:
    """One file a part, so that processes that share a folder never write the same one.

    >>> file_name(None), file_name("2/4")
    ('predictions.json', 'predictions_2_of_4.json')
    """
    return FILE if part is None else FILE.replace(".json", f"_{part.replace('/', '_of_')}.json")


def earlier_runs(folder: Path) -> dict[str, Predictions]:
    """What stands in ``folder`` already: every predictions*.json by its name."""
    paths = sorted(folder.glob("predictions*.json"))
    return {path.name: read_json(path, Predictions, hint="choose another output folder") for path in paths}


def recorded_cases(folder: Path, earlier: Mapping[str, Predictions], settings: Settings) -> dict[str, CaseRecord]:
    """Cases that earlier runs with the same settings finished, and whose output is still there.

    Raises:
        UserError: the folder holds predictions made with other settings.
    """
    recorded: dict[str, CaseRecord] = {}
    for run in earlier.values():
        different = [k for k in Settings.__struct_fields__ if getattr(run.settings, k) != getattr(settings, k)]
        if different and (run.cases or run.pending):
            raise UserError(
                f"{folder} holds predictions made with other settings ({', '.join(different)}); "
                "choose another folder or --overwrite"
            )
        recorded |= {case: record for case, record in run.cases.items() if (folder / record.output).is_file()}
    return recorded


def refuse_foreign(folder: Path, outputs: Collection[str], earlier: Mapping[str, Predictions]) -> None:
    """
    Raises:
        UserError: one of ``outputs`` exists and no record accounts for it: it is somebody else's.
    """
    ours = {record.output for run in earlier.values() for record in run.cases.values()}
    ours |= {output for run in earlier.values() for output in run.pending}
    foreign = next((o for o in outputs if o not in ours and (folder / o).exists()), None)
    if foreign is not None:
        raise UserError(
            f"{folder} holds {foreign}, which no predictions.json accounts for; choose another folder or --overwrite"
        )


def forget(folder: Path, earlier: Mapping[str, Predictions], outputs: Collection[str]) -> None:
    """Take ``outputs`` out of the records, which are about to be made anew; a record that is left empty goes."""
    for name, run in earlier.items():
        remove_maps(folder, [record for record in run.cases.values() if record.output in outputs])
        cases = {case: record for case, record in run.cases.items() if record.output not in outputs}
        pending = tuple(output for output in run.pending if output not in outputs)
        if (len(cases), len(pending)) == (len(run.cases), len(run.pending)):
            continue
        if cases or pending:
            write_json(folder / name, msgspec.structs.replace(run, cases=cases, pending=pending))
        else:
            (folder / name).unlink(missing_ok=True)


def remove_maps(folder: Path, records: Iterable[CaseRecord]) -> None:
    """Of segmentations that are about to be replaced: no map of the former one stays beside the new one."""
    for record in records:
        for name in record.maps:
            (folder / name).unlink(missing_ok=True)
