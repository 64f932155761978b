"""A folder of cases: what is finished and stays, what is left and is predicted, and what must not be touched."""

import logging
from collections.abc import Iterable
from pathlib import Path

from unetrpp.core.errors import UserError
from unetrpp.inference.ensemble import Ensemble
from unetrpp.inference.inputs import Cases, files_digest
from unetrpp.inference.postprocessing import PostProcessing
from unetrpp.inference.record import (
    CaseRecord,
    Member,
    Settings,
    earlier_runs,
    file_name,
    forget,
    recorded_cases,
    refuse_foreign,
    remove_maps,
)
from unetrpp.inference.stream import Progress, Request, predict_cases

LOG = logging.getLogger(__name__)


def predict_folder(ensemble: Ensemble, cases: Cases, request: Request) -> dict[str, str]:
    """Predict every case that is not finished; returns the failed ones with their messages.

    Raises:
        UserError: the output folder holds something that these predictions must not mix with.
    """
    settings = settings_of(ensemble, request.postprocessing)
    plans = ensemble.first.model.plans
    outputs = {case: f"{case}{plans.file_ending}" for case in cases}
    maps = {case: request.maps(output, plans.labels.outputs) for case, output in outputs.items()}
    _refuse_inputs(request.out, [*outputs.values(), *(name for names in maps.values() for name in names)], cases)
    own = file_name(request.part)
    if request.overwrite:
        forget(request.out, earlier_runs(request.out), set(outputs.values()))
    earlier = earlier_runs(request.out)
    if request.overwrite:  # of the other cases; one file holds one kind of settings
        earlier = {name: run for name, run in earlier.items() if name == own and run.settings == settings}
    recorded = recorded_cases(request.out, earlier, settings)
    changed = _changed(recorded, cases)
    recorded = {case: record for case, record in recorded.items() if case not in changed}
    finished = {case for case in cases if case in recorded and _has(request.out, recorded[case], maps[case])}
    left = {case: files for case, files in cases.items() if case not in finished}
    if not request.overwrite:
        refuse_foreign(request.out, [outputs[case] for case in left], earlier)
    if finished:
        LOG.info("%d of %d cases are finished already", len(finished), len(cases))
    before = earlier.get(own)
    kept = {case: r for case, r in recorded.items() if case in cases or (before is not None and case in before.cases)}
    pending = {output for output in (before.pending if before else ()) if (request.out / output).exists()}
    pending = (pending - {record.output for record in recorded.values()}) | {outputs[case] for case in left}
    progress = Progress(request.out / own, settings, str(ensemble.first.device), kept, pending)
    progress.save(at_once=True)
    remove_maps(request.out, changed.values())
    others = {name: run for name, run in earlier.items() if name != own}
    forget(request.out, others, {record.output for record in changed.values()})
    try:
        predict_cases(ensemble, left, request, progress)
    finally:
        progress.save(at_once=True)
    return progress.failed


def settings_of(ensemble: Ensemble, postprocessing: PostProcessing) -> Settings:
    members = tuple(
        Member(
            model=member.model.path.resolve().name,
            model_hash=member.model.digest(member.folds, member.checkpoint),
            plans=member.model.plans.name,
            configuration=member.model.configuration_name,
            folds=tuple(member.folds),
            checkpoint=member.checkpoint,
        )
        for member in ensemble.members
    )
    first = ensemble.first
    return Settings(
        dataset=first.model.plans.dataset,
        members=members,
        mirroring=first.mirroring,
        step=first.step,
        postprocessing=postprocessing,
    )


def _refuse_inputs(out: Path, names: Iterable[str], cases: Cases) -> None:
    """No option makes a prediction replace an image that is being read."""
    inputs = {path.resolve() for files in cases.values() for path in files}
    name = next((name for name in names if (out / name).resolve() in inputs), None)
    if name is not None:
        raise UserError(f"{out / name} is one of the inputs and would be overwritten; choose another output folder")
    if out.resolve() in inputs:
        raise UserError(
            f"{out} is a DICOM series that is read, and results would mix with it; choose another output folder"
        )


def _changed(recorded: dict[str, CaseRecord], cases: Cases) -> dict[str, CaseRecord]:
    """Records of predictions whose image has other bytes now."""
    found = {c: r for c, r in recorded.items() if c in cases and r.inputs != files_digest(c, cases[c])}
    if found:
        LOG.info("%d of %d images have changed since their prediction, which is made anew", len(found), len(cases))
    return found


def _has(out: Path, record: CaseRecord, maps: Iterable[str]) -> bool:
    return all(name in record.maps and (out / name).is_file() for name in maps)
