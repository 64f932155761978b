"""A stream of cases through an ensemble in bounded memory: reading and writing beside the network, on a CPU in turn."""

import logging
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

import torch
from tqdm import tqdm

from unetrpp import __version__
from unetrpp.core.errors import UserError
from unetrpp.core.files import write_json
from unetrpp.inference.ensemble import Ensemble, Prepared
from unetrpp.inference.export import Exported
from unetrpp.inference.guards import check_input, check_sizes, class_voxels, volumes_ml
from unetrpp.inference.inputs import Cases, files_digest
from unetrpp.inference.postprocessing import NOTHING, PostProcessing
from unetrpp.inference.predictor import map_names, map_path
from unetrpp.inference.record import CaseRecord, Predictions, Settings
from unetrpp.io.dicom_seg import write_dicom_seg
from unetrpp.io.formats import ending_of, strip_ending
from unetrpp.io.images import read_image, repair_shear
from unetrpp.preprocessing.case import CaseProperties

LOG = logging.getLogger(__name__)
AHEAD = 2  # cases read before their turn, and written after it, where threads do so
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
    dicom_seg: bool = False
    fix: bool = False  # straighten sheared images
    postprocessing: PostProcessing = NOTHING

    def maps(self, output: str, classes: int) -> tuple[str, ...]:
        """Names of the maps (and of the DICOM SEG) that are asked for, beside the segmentation ``output``."""
        names = map_names(classes if self.probabilities else 0, self.uncertainty)
        maps = tuple(map_path(Path(output), name).name for name in names)
        return (*maps, dicom_seg_name(output)) if self.dicom_seg else maps


def dicom_seg_name(output: str) -> str:
    """
    >>> dicom_seg_name("case.nii.gz")
    'case.dcm'
    """
    return f"{strip_ending(output)}.dcm"


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
            record = Predictions(
                version=__version__,
                device=self.device,
                settings=self.settings,
                cases=self.cases,
                failed=self.failed,
                pending=tuple(sorted(self.pending)),
            )
            write_json(self.path, record)
            self.written = time.monotonic()


@dataclass(frozen=True)
class Loaded:
    prepared: Prepared
    warnings: list[str]
    digest: str  # of the files


def predict_cases(ensemble: Ensemble, cases: Cases, request: Request, progress: Progress) -> None:
    """Main thread: the network. Beside it one reads and preprocesses ahead, and one lays out and writes behind.

    In turn every case is recorded before the next one is read.
    """
    device = ensemble.first.device
    writing: deque[tuple[str, Future[CaseRecord]]] = deque()
    bar = tqdm(total=len(cases), desc="predicting", unit="case", disable=None)
    with io_executor(device) as reader, io_executor(device) as writer, bar:
        count = 0 if isinstance(reader, SynchronousExecutor) else AHEAD
        for case, loading in prefetch(reader, lambda item: _load(ensemble, request, *item), cases.items(), count):
            try:
                loaded = loading.result()
                start = time.monotonic()
                exported = ensemble.export(
                    loaded.prepared, probabilities=request.probabilities, uncertainty=request.uncertainty
                )
                seconds = time.monotonic() - start
                properties, found = loaded.prepared[0].properties, (loaded.digest, loaded.warnings)
                job = writer.submit(_write, ensemble, exported, case[1], properties, *found, request, seconds)
                writing.append((case[0], job))
            except Exception as error:
                _fail(progress, case[0], error)
            while len(writing) > count:
                _collect(progress, *writing.popleft())
            bar.update()
        for case_name, future in writing:
            _collect(progress, case_name, future)


def io_executor(device: torch.device) -> Executor:
    """A thread where another device computes the network.

    On a CPU the network's threads fill every core and each operator waits for the last of them, so that a thread beside
    them delays them all: the same work in turn costs less (docs/prediction.md).
    """
    return SynchronousExecutor() if device.type == "cpu" else ThreadPoolExecutor(1)


class SynchronousExecutor(Executor):
    """Does what is submitted at once, in the thread that submits it."""

    def submit(self, function: Callable[..., Any], /, *arguments: Any, **options: Any) -> Future[Any]:
        future: Future[Any] = Future()
        try:
            future.set_result(function(*arguments, **options))
        except Exception as error:
            future.set_exception(error)
        return future


def prefetch(
    pool: Executor, function: Callable[[T], Loaded], items: Iterable[T], count: int
) -> Iterator[tuple[T, Future[Loaded]]]:
    """Each item with its future, ``count`` of them computed before their turn."""
    waiting: deque[tuple[T, Future[Loaded]]] = deque()
    for item in items:
        waiting.append((item, pool.submit(function, item)))
        if len(waiting) > count:
            yield waiting.popleft()
    yield from waiting


def _load(ensemble: Ensemble, request: Request, case: str, files: tuple[Path, ...]) -> Loaded:
    digest = files_digest(case, files)
    warnings: list[str] = []
    if request.fix:
        folder = request.out / "fixed"
        fixed = [repair_shear(path, folder / f"{case}_{i:04d}{ending_of(path)}") for i, path in enumerate(files)]
        files, warnings = tuple(path for path, _ in fixed), [what for _, what in fixed if what is not None]
    volume = read_image(files)
    model = ensemble.first.model
    prepared = ensemble.prepare(volume, case)
    warnings += check_input(volume, model.plans.channel_names, model.fingerprint)
    return Loaded(prepared, warnings, digest)


def _write(
    ensemble: Ensemble,
    exported: Exported,
    files: tuple[Path, ...],
    properties: CaseProperties,
    digest: str,
    warnings: list[str],
    request: Request,
    seconds: float,
) -> CaseRecord:
    model = ensemble.first.model
    laid_out = ensemble.to_input_grid(exported, properties)
    segmentation = replace(laid_out, array=request.postprocessing.apply(laid_out.array))
    output = f"{properties.case}{model.plans.file_ending}"
    segmentation.save(request.out / output)
    if request.dicom_seg:
        path, note = request.out / dicom_seg_name(output), f"unetrpp {model.plans.dataset}"
        write_dicom_seg(path, segmentation.array, model.plans.labels.segments(), series=files[0], note=note)
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
