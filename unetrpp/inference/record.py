"""predictions.json: what predicted, how, and for every case its grid, its checks, class volumes and warnings."""

from pathlib import Path

from unetrpp.errors import UserError
from unetrpp.evaluation.postprocessing import PostProcessing
from unetrpp.files import Record, read_json
from unetrpp.geometry import Geometry

FILE = "predictions.json"


class CaseRecord(Record, frozen=True, kw_only=True):
    """``output`` is the file's name; ``volumes_ml`` are by class name."""

    output: str
    geometry: Geometry
    volumes_ml: dict[str, float]
    warnings: tuple[str, ...]
    seconds: float  # network and export


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


def file_name(part: str | None) -> str:
    """One file a part, so that processes that share a folder never write the same one.

    >>> file_name(None), file_name("2/4")
    ('predictions.json', 'predictions_2_of_4.json')
    """
    return FILE if part is None else FILE.replace(".json", f"_{part.replace('/', '_of_')}.json")


def finished_cases(folder: Path, settings: Settings) -> dict[str, CaseRecord]:
    """Cases of ``folder`` that earlier runs with the same settings finished, and whose output is still there.

    Raises:
        UserError: the folder holds predictions made with other settings.
    """
    finished: dict[str, CaseRecord] = {}
    for path in sorted(folder.glob("predictions*.json")):
        earlier = read_json(path, Predictions, mend="choose another output folder")
        different = [k for k in Settings.__struct_fields__ if getattr(earlier.settings, k) != getattr(settings, k)]
        if different:
            raise UserError(
                f"{folder} holds predictions made with other settings ({', '.join(different)}); "
                "choose another folder or --overwrite"
            )
        finished |= {case: record for case, record in earlier.cases.items() if (folder / record.output).is_file()}
    return finished
