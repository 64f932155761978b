"""predictions.json, the prediction record: models and settings, and every case's grid, class volumes and warnings."""

import math
import time
from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, ClassVar

import msgspec
from msgspec import UNSET, UnsetType

from unetrpp import __version__
from unetrpp.core.errors import UserError
from unetrpp.core.files import Record, read_json, update_json, write_json
from unetrpp.dataset.labels import LabelScheme
from unetrpp.inference.expected_dice import ExpectedDice
from unetrpp.inference.intensities import Intensity
from unetrpp.inference.postprocessing import PostProcessing
from unetrpp.io.formats import files_of_image, strip_ending
from unetrpp.io.geometry import Geometry

FILE = "predictions.json"
RECORD_SECONDS = 5.0  # at least this long between two writes of the record while cases finish

# These files are replaced and removed, so a record may name none outside its own folder.
# Files of single classes are in a folder of the case.
FileName = Annotated[str, msgspec.Meta(pattern=r"^((?!\.\.?/)[^/\\]+/)?[^/\\]+$")]


class CaseRecord(Record, frozen=True, kw_only=True):
    """One finished case. ``output`` and ``maps`` are file names in the folder of the record."""

    output: FileName
    inputs: str  # digest of the image's files
    geometry: Geometry
    volumes_ml: dict[str, float]  # by class name
    areas_pixels: dict[str, int] = msgspec.field(default_factory=dict)  # by class name, of a photograph
    warnings: tuple[str, ...]
    seconds: float  # network and export
    maps: tuple[FileName, ...] = ()
    temperatures: tuple[float, ...] = ()  # of the maps and thresholds: one, or one for each region; none: 1
    expected_dice: dict[str, ExpectedDice | None] = msgspec.field(default_factory=dict)  # by class name
    expected_by: str = ""  # digest of what the expected Dice was computed with
    intensities: dict[str, dict[str, Intensity]] | UnsetType = UNSET  # by class or region and channel, where asked for

    @property
    def mean_expected_dice(self) -> float | None:
        """Over the classes that have one; None where none has."""
        known = [each.expected for each in self.expected_dice.values() if each is not None]
        return sum(known) / len(known) if known else None


def readable(record: CaseRecord) -> CaseRecord:
    """The record, if it can be read again: one that cannot would make every record of its folder useless.

    Raises:
        msgspec.ValidationError: a name leads out of the folder, or a number is not finite.
    """
    msgspec.json.decode(msgspec.json.encode(record), type=CaseRecord)
    return record


class Member(Record, frozen=True, kw_only=True):
    """One model of the ensemble (usually the only one)."""

    model: str  # name of the model folder
    model_hash: str  # of its plans and checkpoints
    plans: str
    configuration: str
    folds: tuple[str, ...]
    checkpoint: str


class Settings(Record, frozen=True, kw_only=True):
    """Everything that determines a prediction. Outputs of other settings do not count as finished."""

    later_fields: ClassVar[frozenset[str]] = frozenset({"threshold", "temperatures", "classes", "export_order"})
    dataset: str
    members: tuple[Member, ...]
    mirroring: bool
    step: float
    postprocessing: PostProcessing
    threshold: dict[str, float] | UnsetType = UNSET  # by class or region, where there are any
    temperatures: tuple[float, ...] | UnsetType = UNSET  # that these thresholds are compared after
    export_order: int | UnsetType = UNSET  # where it is not 0
    classes: tuple[str, ...] | UnsetType = UNSET  # that are written, where it is not all of them


class Predictions(Record, frozen=True, kw_only=True):
    """The content of predictions.json."""

    later_fields: ClassVar[frozenset[str]] = frozenset({"labels", "file_ending", "review_order"})
    format: int = 1
    version: str  # of unetrpp
    device: str
    settings: Settings
    cases: dict[str, CaseRecord]
    failed: dict[str, str]  # case -> message
    pending: tuple[str, ...] = ()  # outputs not recorded yet; a killed run may have written some of them
    labels: LabelScheme | None = None  # of the segmentations; release 0.1.0 did not write it
    file_ending: str = ""  # of the segmentations
    review_order: tuple[str, ...] = ()  # cases by expected Dice, the lowest first


def file_name(part: str | None) -> str:
    """The record's file; one per part, so that processes that share a folder never write the same one.

    >>> file_name(None), file_name("2/4")
    ('predictions.json', 'predictions_2_of_4.json')
    """
    return FILE if part is None else FILE.replace(".json", f"_{part.replace('/', '_of_')}.json")


def earlier_runs(folder: Path) -> dict[str, Predictions]:
    """The records of earlier runs in ``folder``, by file name.

    Raises:
        UserError: one is malformed.
    """
    paths = sorted(folder.glob("predictions*.json"))
    return {path.name: read_json(path, Predictions, hint="choose another output folder") for path in paths}


def recorded_cases(folder: Path, earlier: Mapping[str, Predictions], settings: Settings) -> dict[str, CaseRecord]:
    """Cases that earlier runs with the same settings finished and whose output still exists.

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
    """Protect files that no earlier run wrote.

    Raises:
        UserError: one of ``outputs`` exists and no record lists it.
    """
    ours = our_files(earlier)
    folders = {strip_ending(output) for run in earlier.values() for output in run.pending}
    foreign = next((o for o in outputs if not {o, case_folder(o)} & (ours | folders) and (folder / o).exists()), None)
    if foreign is not None:
        raise UserError(
            f"{folder} holds {foreign}, which no predictions.json lists; choose another folder or --overwrite"
        )


def case_folder(name: str) -> str | None:
    """The folder in which a file of one class is written; None for the other files.

    >>> case_folder("case_1/liver.nii.gz"), case_folder("case_1.nii.gz")
    ('case_1', None)
    """
    folder, separator, _ = name.partition("/")
    return folder if separator else None


def our_files(earlier: Mapping[str, Predictions]) -> set[str]:
    """Names of all files that earlier runs wrote, or may have written before they were killed."""
    records = [record for run in earlier.values() for record in run.cases.values()]
    files = {name for record in records for name in (record.output, *record.maps)}
    return files | {output for run in earlier.values() for output in run.pending}


def forget(
    folder: Path, earlier: Mapping[str, Predictions], outputs: Collection[str], tried: Collection[str] = ()
) -> None:
    """Remove ``outputs``, which will be predicted again, from the records; a record that becomes empty is deleted.

    ``tried`` are the cases that are predicted again; earlier failures of them do not count any more.
    """
    for name, run in earlier.items():
        remove_maps(folder, [record for record in run.cases.values() if record.output in outputs])
        cases = {case: record for case, record in run.cases.items() if record.output not in outputs}
        pending = tuple(output for output in run.pending if output not in outputs)
        failed = {case: message for case, message in run.failed.items() if case not in tried}
        if (len(cases), len(pending), len(failed)) == (len(run.cases), len(run.pending), len(run.failed)):
            continue
        if cases or pending or failed:
            write_json(folder / name, msgspec.structs.replace(run, cases=cases, pending=pending, failed=failed))
        else:
            (folder / name).unlink(missing_ok=True)


def remove_maps(folder: Path, records: Iterable[CaseRecord]) -> None:
    """Delete the maps of segmentations that will be replaced, so that no old map stays beside a new segmentation."""
    for record in records:
        for name in record.maps:
            remove_file(folder / name, folder)


def remove_file(path: Path, folder: Path) -> None:
    """Delete a result in ``folder``, if it exists, with the files that belong to it, and the case's folder that it leaves empty."""
    for file in () if path.is_dir() else files_of_image(path):
        file.unlink(missing_ok=True)
    if path.parent != folder:
        with suppress(OSError):  # it is not there, or not empty
            path.parent.rmdir()


def with_earlier(record: CaseRecord, earlier: CaseRecord, folder: Path) -> CaseRecord:
    """The record with the files and the intensities that only the ``earlier`` record of the same prediction has.

    Its maps are deleted where they have another temperature than those that were written now.
    """
    kept = [name for name in earlier.maps if name not in record.maps and (folder / name).is_file()]
    if record.temperatures and record.temperatures != (earlier.temperatures or (1.0,) * len(record.temperatures)):
        outdated = [name for name in kept if not case_folder(name) and not name.endswith(".dcm")]
        remove_maps(folder, [msgspec.structs.replace(earlier, maps=tuple(outdated))])
        kept = [name for name in kept if name not in outdated]
    return msgspec.structs.replace(
        record,
        maps=(*record.maps, *kept),
        temperatures=record.temperatures or earlier.temperatures,
        intensities=earlier.intensities if record.intensities is UNSET else record.intensities,
    )


def review_order(cases: Mapping[str, CaseRecord], expected_by: str) -> tuple[str, ...]:
    """The cases whose expected Dice was computed with ``expected_by``, by its mean over the classes, the lowest first."""
    found = {case: record.mean_expected_dice for case, record in cases.items() if record.expected_by == expected_by}
    return tuple(
        sorted((case for case, mean in found.items() if mean is not None), key=lambda case: (found[case], case))
    )


@dataclass
class Progress:
    """The record of the run in progress, written again as cases finish.

    ``cases`` may start with those that earlier runs finished; ``pending`` are outputs not written yet.
    """

    path: Path
    settings: Settings
    device: str
    cases: dict[str, CaseRecord]
    pending: set[str]
    labels: LabelScheme | None = None
    file_ending: str = ""
    expected_by: str = ""  # digest of what the expected Dice of this run's cases is computed with
    failed: dict[str, str] = field(default_factory=dict)  # case -> message
    refused: set[str] = field(default_factory=set)  # failed cases whose input cannot be read or used
    limits: dict[str, int] = field(default_factory=dict)  # failed case -> errno of what the system lacked or refused
    # case -> files that must not stay if it fails: of another image, other settings, or half of the results
    outdated: Mapping[str, Sequence[Path]] = field(default_factory=dict)
    saved: float = -math.inf  # time.monotonic() of the last write

    def finish(self, case: str, record: CaseRecord) -> None:
        """Record a case whose files are written, with what an earlier run with these settings wrote and this one did not."""
        earlier = self.cases.get(case)
        self.cases[case] = record if earlier is None else with_earlier(record, earlier, self.path.parent)
        self.pending.discard(record.output)
        if time.monotonic() - self.saved > RECORD_SECONDS:
            self.save()

    def fail(self, case: str, message: str) -> None:
        """Record a case that failed, and remove what an earlier run left of it, unless that is still right."""
        self.failed[case] = message
        for path in () if case in self.cases else self.outdated.get(case, ()):
            remove_file(path, self.path.parent)
            self.pending.discard(path.name)

    def save(self) -> None:
        """Write the record now, its cases in the order of their names, whatever the order they finished in."""
        record = Predictions(
            version=__version__,
            device=self.device,
            settings=self.settings,
            cases=dict(sorted(self.cases.items())),
            failed=dict(sorted(self.failed.items())),
            pending=tuple(sorted(self.pending)),
            labels=self.labels,
            file_ending=self.file_ending,
            review_order=review_order(self.cases, self.expected_by),
        )
        update_json(self.path, record)  # the bytes of release 0.1.0 stay where nothing changed
        self.saved = time.monotonic()
