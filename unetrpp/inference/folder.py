"""A stream of cases through an ensemble: reading, the network and writing overlap, in bounded memory."""

import logging
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TypeVar

from tqdm import tqdm

from unetrpp import __version__
from unetrpp.dataset import Case
from unetrpp.errors import UserError
from unetrpp.evaluation.postprocessing import NOTHING, PostProcessing
from unetrpp.files import write_json
from unetrpp.images import read_image
from unetrpp.inference.ensemble import Ensemble, Prepared
from unetrpp.inference.export import Exported
from unetrpp.inference.guards import check_input, check_sizes, class_voxels, volumes_ml
from unetrpp.inference.inputs import Cases
from unetrpp.inference.predictor import map_names, map_path
from unetrpp.inference.record import (
    CaseRecord,
    Member,
    Predictions,
    Settings,
    earlier_runs,
    file_name,
    forget,
    recorded_cases,
    refuse_foreign,
    remove_maps,
)
from unetrpp.preprocessing.case import CaseProperties
from unetrpp.verification import inputs_digest

LOG = logging.getLogger(__name__)
AHEAD = 2  # cases read before their turn, and written after it
RECORD_SECONDS = 5.0  # between two writes of predictions.json

T = TypeVar("T")


@dataclass(frozen=True)
class Request:
    """Where the results go and what they hold."""

    out: Path
    part: str | None = None
    overwrite: bool = False
    probabilities: bool = False
    uncertainty: bool = False
    postprocessing: PostProcessing = NOTHING

    def maps(self, output: str, classes: int) -> tuple[str, ...]:
        """Names of the maps that are asked for, beside the segmentation ``output``."""
        names = map_names(classes if self.probabilities else 0, self.uncertainty)
        return tuple(map_path(Path(output), name).name for name in names)


@dataclass
class Progress:
    """The record of the run, written while it grows."""

    path: Path
    settings: Settings
    device: str
    cases: dict[str, CaseRecord]
    pending: set[str]
    failed: dict[str, str] = field(default_factory=dict)
    written: float = -RECORD_SECONDS

    def save(self, at_once: bool = False) -> None:
        if at_once or time.monotonic() - self.written > RECORD_SECONDS:
            # Copies: the writer's thread may add a case meanwhile.
            record = Predictions(
                version=__version__,
                device=self.device,
                settings=self.settings,
                cases=dict(self.cases),
                failed=dict(self.failed),
                pending=tuple(sorted(self.pending)),
            )
            write_json(self.path, record)
            self.written = time.monotonic()


@dataclass(frozen=True)
class Loaded:
    prepared: Prepared
    warnings: list[str]
    digest: str  # of the files


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
        _stream(ensemble, left, request, progress)
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


def _changed(recorded: dict[str, CaseRecord], cases: Cases) -> dict[str, CaseRecord]:
    """Records of predictions whose image has other bytes now."""
    found = {c: r for c, r in recorded.items() if c in cases and r.inputs != _digest(c, cases[c])}
    if found:
        LOG.info("%d of %d images have changed since their prediction, which is made anew", len(found), len(cases))
    return found


def _digest(case: str, files: tuple[Path, ...]) -> str:
    return inputs_digest(Case(id=case, images=files, label=None))


def _has(out: Path, record: CaseRecord, maps: Iterable[str]) -> bool:
    return all(name in record.maps and (out / name).is_file() for name in maps)


def _stream(ensemble: Ensemble, cases: Cases, request: Request, progress: Progress) -> None:
    """Main thread: the network. One thread reads and preprocesses ahead, one lays out and writes behind."""
    writing: deque[tuple[str, Future[CaseRecord]]] = deque()
    bar = tqdm(total=len(cases), desc="predicting", unit="case", disable=None)
    with ThreadPoolExecutor(1) as reader, ThreadPoolExecutor(1) as writer, bar:
        for case, loading in ahead(reader, lambda item: _load(ensemble, *item), cases.items(), AHEAD):
            try:
                loaded = loading.result()
                start = time.monotonic()
                exported = ensemble.export(
                    loaded.prepared, probabilities=request.probabilities, uncertainty=request.uncertainty
                )
                seconds = time.monotonic() - start
                properties, found = loaded.prepared[0].properties, (loaded.digest, loaded.warnings)
                job = writer.submit(_write, ensemble, exported, properties, *found, request, seconds)
                writing.append((case[0], job))
            except Exception as error:
                _fail(progress, case[0], error)
            while len(writing) > AHEAD:
                _collect(progress, *writing.popleft())
            bar.update()
        for case_name, future in writing:
            _collect(progress, case_name, future)


def ahead(
    pool: ThreadPoolExecutor, function: Callable[[T], Loaded], items: Iterable[T], count: int
) -> Iterator[tuple[T, Future[Loaded]]]:
    """Each item with its future, ``count`` of them computed before their turn."""
    waiting: deque[tuple[T, Future[Loaded]]] = deque()
    for item in items:
        waiting.append((item, pool.submit(function, item)))
        if len(waiting) > count:
            yield waiting.popleft()
    yield from waiting


def _load(ensemble: Ensemble, case: str, files: tuple[Path, ...]) -> Loaded:
    digest = _digest(case, files)
    volume = read_image(files)
    model = ensemble.first.model
    prepared = ensemble.prepare(volume, case)
    return Loaded(prepared, check_input(volume, model.plans.channel_names, model.fingerprint), digest)


def _write(
    ensemble: Ensemble,
    exported: Exported,
    properties: CaseProperties,
    digest: str,
    warnings: list[str],
    request: Request,
    seconds: float,
) -> CaseRecord:
    model = ensemble.first.model
    laid_out = ensemble.lay_out(exported, properties)
    segmentation = replace(laid_out, array=request.postprocessing.apply(laid_out.array))
    output = f"{properties.case}{model.plans.file_ending}"
    segmentation.save(request.out / output)
    voxels, geometry = class_voxels(segmentation.array, model.plans.labels), segmentation.geometry
    return CaseRecord(
        output=output,
        inputs=digest,
        geometry=geometry,
        volumes_ml=volumes_ml(voxels, geometry),
        areas_pixels=voxels if geometry.dimensions == 2 else {},
        warnings=(*warnings, *check_sizes(voxels, geometry, model.fingerprint)),
        seconds=round(seconds, 3),
        maps=request.maps(output, model.plans.labels.outputs),
    )


def _collect(progress: Progress, case: str, future: Future[CaseRecord]) -> None:
    try:
        record = future.result()
    except Exception as error:
        _fail(progress, case, error)
        return
    progress.cases[case] = record
    progress.pending.discard(record.output)
    for warning in record.warnings:
        LOG.warning("%s: warning: %s", case, warning)
    progress.save()


def _fail(progress: Progress, case: str, error: Exception) -> None:
    LOG.debug("%s failed", case, exc_info=error)
    message = Exception.__str__(error) if isinstance(error, UserError) else f"{type(error).__name__}: {error}"
    progress.failed[case] = message
