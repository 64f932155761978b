"""A folder of cases: finished ones are kept, the others predicted; files that no earlier run wrote are not replaced."""

import logging
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from msgspec import UNSET

from unetrpp.core.errors import UserError
from unetrpp.core.lock import locked
from unetrpp.core.text import counted, counted_of
from unetrpp.inference.cluster import ClusterWorkers
from unetrpp.inference.devices import DeviceWorkers
from unetrpp.inference.ensemble import Ensemble
from unetrpp.inference.inputs import Cases, files_digest
from unetrpp.inference.notices import CaseNotices
from unetrpp.inference.options import OutputOptions
from unetrpp.inference.record import (
    CaseRecord,
    Member,
    Predictions,
    Progress,
    Settings,
    case_folder,
    earlier_runs,
    file_name,
    forget,
    our_files,
    recorded_cases,
    refuse_foreign,
    remove_maps,
)
from unetrpp.inference.stream import predicted_cases, record_cases
from unetrpp.inference.volumes import volumes_path, write_volumes
from unetrpp.model.folder import Checkpoint, ModelFolder
from unetrpp.plans.plans import Plans

LOG = logging.getLogger(__name__)


def predict_folder(ensemble: Ensemble, cases: Cases, output: OutputOptions) -> dict[str, str]:
    """:func:`run_folder`; returns the failed cases with their messages."""
    return run_folder(ensemble, cases, output).failed


def run_folder(
    ensemble: Ensemble, cases: Cases, output: OutputOptions, workers: DeviceWorkers | None = None
) -> Progress:
    """Predict every case that is not finished into ``output.folder``: with ``workers`` in their processes, inside of
    :func:`unetrpp.core.cluster.cluster` by its workers.

    Returns:
        The record of the run, with the failed cases and those of them whose input cannot be used.

    Raises:
        UserError: the folder holds predictions of other settings, or a file that no earlier run wrote, or another process writes
            its record; nothing is changed.
    """
    own = output.folder / file_name(output.part)
    other = "give another --part" if output.part else "divide the cases with --part 1/2 and --part 2/2"
    with locked(lock_of(own), f"{own} is being written", f"wait for it, or {other}"):
        return _run_folder(ensemble, cases, output, workers)


def lock_of(record: Path) -> Path:
    """The lock file of a record of predictions; if no run is going on, it is there only if one was killed."""
    return record.with_name(f".{record.name}.lock")


def _run_folder(ensemble: Ensemble, cases: Cases, output: OutputOptions, workers: DeviceWorkers | None) -> Progress:
    settings, plans = settings_of(ensemble, output), ensemble.first.model.plans
    outputs = {case: f"{case}{plans.file_ending}" for case in cases}
    maps = {case: output.maps(name, plans.labels) for case, name in outputs.items()}
    _refuse_inputs(output.folder, [*outputs.values(), *(name for names in maps.values() for name in names)], cases)
    found = earlier_runs(output.folder)
    earlier = _find_earlier(output, settings, cases, set(outputs.values()))
    temperatures = ensemble.temperatures if output.shows_probability else ()
    left = {case: files for case, files in cases.items() if not earlier.has(case, output, maps[case], temperatures)}
    if not output.overwrite:
        tables = [] if found else [volumes_path(output.folder / file_name(output.part)).name]
        # Of cases that a killed run had begun, maps may be there that it did not record.
        begun = {pending for run in earlier.runs.values() for pending in run.pending}
        beside = [name for case in left for name in maps[case] if case_folder(name) or outputs[case] not in begun]
        refuse_foreign(output.folder, [*(outputs[case] for case in left), *beside, *tables], earlier.runs)
    if len(left) < len(cases):
        LOG.info("%s finished already", counted_of(len(cases) - len(left), len(cases), "case", "is/are"))
    chosen = workers or ClusterWorkers.current(ensemble, output)
    own = file_name(output.part)
    before = earlier.runs.get(own)
    described = (
        plans if left or before is None else before
    )  # a record that stays as it is, of release 0.1.0, has no labels
    progress = Progress(
        path=output.folder / own,
        settings=settings,
        device=str(ensemble.first.device) if chosen is None else chosen.name,
        cases=earlier.kept(own, cases),
        pending=earlier.pending(own, output.folder) | {outputs[case] for case in left},
        labels=described.labels,
        file_ending=described.file_ending,
        expected_by=ensemble.expected_by,
        outdated=_removable(output.folder, {case: (outputs[case], *maps[case]) for case in left}, our_files(found)),
    )
    progress.save()
    remove_maps(output.folder, earlier.changed.values())
    others = {name: run for name, run in earlier.runs.items() if name != own}
    forget(output.folder, others, {record.output for record in earlier.changed.values()}, left)
    notices = CaseNotices(progress.path, len(plans.labels.foreground)) if output.log_warnings else None
    finished = predicted_cases(ensemble, output, left.items()) if chosen is None else chosen.predicted(left)
    try:
        record_cases(finished, len(left), progress, notices)
    finally:
        progress.save()
        write_volumes(progress)
    return progress


@dataclass(frozen=True)
class _Earlier:
    """What earlier runs with the same settings left in the output folder."""

    runs: Mapping[str, Predictions]  # by file name
    recorded: Mapping[str, CaseRecord]  # finished cases
    changed: Mapping[str, CaseRecord]  # finished cases whose images have changed since

    def has(self, case: str, output: OutputOptions, maps: Iterable[str], temperatures: Sequence[float] = ()) -> bool:
        """Whether the case is finished, with all that is requested now: ``maps``, with these ``temperatures``, and intensities."""
        record = self.recorded.get(case)
        if record is None or not all(name in record.maps and (output.folder / name).is_file() for name in maps):
            return False
        if output.intensities and record.intensities is UNSET:
            return False
        return not temperatures or tuple(temperatures) == (record.temperatures or (1.0,) * len(temperatures))

    def kept(self, own: str, cases: Cases) -> dict[str, CaseRecord]:
        """The finished cases that go into the record ``own``: the requested ones, and those it had before."""
        before = self.runs[own].cases if own in self.runs else {}
        return {case: record for case, record in self.recorded.items() if case in cases or case in before}

    def pending(self, own: str, folder: Path) -> set[str]:
        """Outputs that an interrupted run of the record ``own`` wrote without recording them."""
        before = self.runs[own].pending if own in self.runs else ()
        return {name for name in before if (folder / name).exists()} - {r.output for r in self.recorded.values()}


def _find_earlier(output: OutputOptions, settings: Settings, cases: Cases, outputs: set[str]) -> _Earlier:
    """The earlier runs; with ``overwrite``, ``outputs`` are first removed from their records, and settings may differ."""
    folder = output.folder
    if output.overwrite:
        forget(folder, earlier_runs(folder), outputs, cases)
    runs = earlier_runs(folder)
    if output.overwrite:  # one record holds the predictions of one kind of settings
        own = file_name(output.part)
        _warn_of_others(folder, runs, settings)
        runs = {name: run for name, run in runs.items() if name == own and run.settings == settings}
    recorded = recorded_cases(folder, runs, settings)
    changed = _changed(recorded, cases)
    return _Earlier(runs, {case: record for case, record in recorded.items() if case not in changed}, changed)


def _warn_of_others(folder: Path, runs: Mapping[str, Predictions], settings: Settings) -> None:
    """Warn of segmentations that were made with other settings and that this run does not replace."""
    others = [run for run in runs.values() if run.settings != settings]
    names = sorted({r.output for run in others for r in run.cases.values() if (folder / r.output).is_file()})
    if names:
        LOG.warning(
            "warning: %s still holds %s made with other settings, such as %s, whose images are not among the inputs; "
            "move them to another folder",
            folder,
            counted(len(names), "segmentation"),
            names[0],
        )


def _removable(folder: Path, names: Mapping[str, Iterable[str]], ours: Collection[str]) -> dict[str, list[Path]]:
    """By case, those of its files that do not exist yet or that an earlier run wrote; not the files of others."""
    return {
        case: [folder / name for name in files if name in ours or not (folder / name).exists()]
        for case, files in names.items()
    }


def _changed(recorded: Mapping[str, CaseRecord], cases: Cases) -> dict[str, CaseRecord]:
    """Records of the cases whose image files have other bytes now."""
    found = {c: r for c, r in recorded.items() if c in cases and r.inputs != files_digest(c, cases[c])}
    if found:
        changed = counted_of(len(found), len(cases), "case", "has/have")
        LOG.info("%s other images than when predicted before, and will be predicted again", changed)
    return found


def settings_of(ensemble: Ensemble, output: OutputOptions) -> Settings:
    """What the prediction record says about the models and options."""
    members = tuple(member_of(m.model, m.folds, m.options.checkpoint, m.digest) for m in ensemble.members)
    first = ensemble.first
    classes = output.written_classes(first.model.plans.labels).names
    return Settings(
        dataset=first.model.plans.dataset,
        members=members,
        mirroring=first.options.mirroring,
        step=first.options.step,
        postprocessing=output.postprocessing,
        export_order=first.options.export_order or UNSET,
        classes=classes or UNSET,
        threshold=dict(first.options.threshold) if first.options.threshold else UNSET,
        temperatures=ensemble.temperatures if first.options.threshold else UNSET,
    )


def member_of(model: ModelFolder, folds: Sequence[str], checkpoint: Checkpoint, weights: str | None = None) -> Member:
    """What the prediction record says about one model. ``weights`` is its :meth:`ModelFolder.digest`, where that is known."""
    return Member(
        model=model.path.resolve().name,
        model_hash=weights or model.digest(folds, checkpoint),
        plans=model.plans.name,
        configuration=model.configuration_name,
        folds=tuple(folds),
        checkpoint=checkpoint,
    )


def refuse_repeated(cases: Iterable[str], output: OutputOptions, plans: Plans) -> None:
    """Compare the names of all results of a folder, those of other parts and of earlier runs included.

    Raises:
        UserError: two have one name, such as the entropy of ``a`` and the segmentation of ``a_entropy``.
    """
    case_of: dict[str, str] = {}
    outputs = [(case, f"{case}{plans.file_ending}") for case in cases]
    written = [(case, name) for case, first in outputs for name in (first, *output.maps(first, plans.labels))]
    recorded = (item for run in earlier_runs(output.folder).values() for item in run.cases.items())
    for case, name in [*written, *((case, name) for case, found in recorded for name in (found.output, *found.maps))]:
        if (other := case_of.setdefault(name, case)) != case:
            raise UserError(
                f"{name} would be written for {other} and for {case}; rename one of the two, or predict it into another folder"
            )


def _refuse_inputs(folder: Path, names: Iterable[str], cases: Cases) -> None:
    """
    Raises:
        UserError: a result would replace an input; no option allows that.
    """
    inputs = {path.resolve() for files in cases.values() for path in files}
    written = [folder / name for name in names]
    path = next((path for path in written if path.resolve() in inputs), None)
    if path is not None:
        raise UserError(f"{path} is one of the inputs and would be overwritten; choose another output folder")
    folders = dict.fromkeys([folder, *(path.parent for path in written)])
    series = next((place for place in folders if place.resolve() in inputs), None)
    if series is not None:
        raise UserError(f"{series} is one of the DICOM series to predict; choose another output folder for the results")
