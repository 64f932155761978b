"""Many cases through an ensemble in bounded memory: cases are read and written while the networks run."""

import logging
import time
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeAlias

from msgspec import UNSET

from unetrpp.core.errors import UserError, in_words, limit_of
from unetrpp.core.progress import progress_bar
from unetrpp.inference.class_files import write_class_files
from unetrpp.inference.ensemble import Ensemble, Prepared
from unetrpp.inference.executors import SynchronousExecutor, io_executor, prefetch
from unetrpp.inference.export import Exported
from unetrpp.inference.guards import check_input, check_sizes, require_nnunets_spacing, volumes_ml
from unetrpp.inference.inputs import NamedFiles, files_digest
from unetrpp.inference.intensities import intensities_of
from unetrpp.inference.notices import CaseNotices, Notice
from unetrpp.inference.options import OutputOptions
from unetrpp.inference.record import CaseRecord, Progress, readable
from unetrpp.inference.segmentation import Segmentation, dicom_seg_name, rtstruct_name
from unetrpp.io.dicom_seg import write_dicom_seg
from unetrpp.io.formats import ending_of, holds_volumes
from unetrpp.io.images import Volume, read_compact_image, repair_shear

LOG = logging.getLogger(__name__)
PREFETCHED = 2  # cases read ahead, and cases waiting to be written, where threads do so


@dataclass(frozen=True)
class LoadedCase:
    """A case read and preprocessed."""

    case: str
    files: tuple[Path, ...]  # as given, not the straightened copies
    prepared: Prepared
    notices: tuple[Notice, ...]
    digest: str  # of the files
    volume: Volume | None  # as it was read, where its intensities are asked for


@dataclass(frozen=True)
class PredictedCase:
    """A case after the networks."""

    loaded: LoadedCase
    exported: Exported
    seconds: float  # network and export


@dataclass(frozen=True)
class Failure:
    """Why a case has no segmentation."""

    message: str
    refused: bool = False  # its input cannot be read or used
    limit: int | None = None  # errno of what the system lacked or refused


Written: TypeAlias = tuple[CaseRecord, Sequence[Notice]]
Finished: TypeAlias = tuple[str, Written | Failure]  # a case and what became of it


def record_cases(finished: Iterable[Finished], count: int, progress: Progress, notices: CaseNotices | None) -> None:
    """Record each of ``count`` cases in ``progress`` as it is finished, with a progress bar; log its ``notices``."""
    with progress_bar("predicting", count) as bar:
        for case, found in finished:
            _record(progress, notices, case, found)
            bar.update()
    if notices is not None:
        notices.summarise()


def predicted_cases(ensemble: Ensemble, output: OutputOptions, cases: Iterable[NamedFiles]) -> Iterator[Finished]:
    """Predict and write every case; those that are finished, in their order.

    The main thread runs the networks. Meanwhile one thread reads and preprocesses the next cases, and one writes the
    last ones. On a CPU all is done in the main thread, and every case is finished before the next one is read.
    """
    device = ensemble.first.device
    writing: deque[tuple[str, Future[Written]]] = deque()
    with io_executor(device) as reader, io_executor(device) as writer:
        count = 0 if isinstance(reader, SynchronousExecutor) else PREFETCHED
        for (case, _), loading in prefetch(reader, lambda item: _load(ensemble, output, *item), cases, count):
            try:
                predicted = _predict(ensemble, output, loading.result())
                writing.append((case, writer.submit(_write, ensemble, output, predicted)))
            except Exception as error:
                yield case, _failure(case, error)
            while len(writing) > count:
                yield _written(*writing.popleft())
        while writing:
            yield _written(*writing.popleft())


def _load(ensemble: Ensemble, output: OutputOptions, case: str, files: tuple[Path, ...]) -> LoadedCase:
    digest = files_digest(case, files)
    straight, changes = _repair(files, output.folder / "fixed", case) if output.fix else (files, [])
    volume = read_compact_image(straight)
    model = ensemble.first.model
    if model.configuration.preprocessing.rules == "nnunet" and model.plans.file_ending in (".tif", ".tiff"):
        require_nnunets_spacing(straight, volume, case)
    _require_slices(volume, model.plans.file_ending, case)
    prepared = ensemble.prepare(volume, case)
    channels = model.plans.channel_names if model.description.check_modality else ()
    notices = [Notice("straightened", change) for change in changes]
    notices += check_input(volume, channels, model.fingerprint, model.configuration.preprocessing.orientation)
    return LoadedCase(case, files, prepared, tuple(notices), digest, volume if output.intensities else None)


def _require_slices(volume: Volume, ending: str, case: str) -> None:
    """
    Raises:
        UserError: a volume, for a model of photographs, whose segmentations have one slice.
    """
    slices = volume.geometry.shape_zyx[0]
    if slices > 1 and not holds_volumes(ending):
        raise UserError(
            f"the image has {slices} slices, but segmentations of this model are {ending} files, which hold a single one; "
            "give each slice as an image of its own",
            case=case,
        )


def _repair(files: tuple[Path, ...], folder: Path, case: str) -> tuple[tuple[Path, ...], list[str]]:
    """The files, or straightened copies in ``folder`` of those that are sheared, and what was done to them."""
    repaired = [repair_shear(path, folder / f"{case}_{i:04d}{ending_of(path)}") for i, path in enumerate(files)]
    return tuple(path for path, _ in repaired), [change for _, change in repaired if change is not None]


def _predict(ensemble: Ensemble, output: OutputOptions, loaded: LoadedCase) -> PredictedCase:
    start = time.monotonic()
    channels = output.written_classes(ensemble.first.model.plans.labels).channels
    exported = ensemble.export(
        loaded.prepared, probabilities=output.probabilities and channels, uncertainty=output.uncertainty
    )
    return PredictedCase(loaded, exported, time.monotonic() - start)


def _write(ensemble: Ensemble, output: OutputOptions, predicted: PredictedCase) -> Written:
    loaded, model = predicted.loaded, ensemble.first.model
    labels, written = model.plans.labels, output.written_classes(model.plans.labels)
    name = f"{loaded.case}{model.plans.file_ending}"
    segmentation = ensemble.to_input_grid(predicted.exported, loaded.prepared[0].properties)
    segmentation = replace(segmentation, array=written.apply(output.postprocessing.apply(segmentation.array)))
    segmentation.save(output.folder / name)
    segments = written.labels.segments()
    write_class_files(
        output.folder / loaded.case, segmentation, segments, output.class_endings(model.plans.file_ending)
    )
    _write_dicom(output, name, segmentation, segments, series=loaded.files[0], note=f"unetrpp {model.plans.dataset}")
    voxels, geometry = written.voxels(segmentation.array), segmentation.geometry
    notices = (*loaded.notices, *check_sizes(voxels, geometry, labels, model.fingerprint))
    record = CaseRecord(
        output=name,
        inputs=loaded.digest,
        geometry=geometry,
        volumes_ml=volumes_ml(voxels, geometry),
        areas_pixels=voxels if geometry.dimensions == 2 else {},
        warnings=tuple(notice.text for notice in notices),
        seconds=round(predicted.seconds, 3),
        maps=output.maps(name, labels),
        temperatures=ensemble.temperatures if output.shows_probability or ensemble.first.thresholds else (),
        expected_dice={key: each for key, each in (segmentation.expected_dice or {}).items() if key in segments},
        expected_by=ensemble.expected_by,
        intensities=UNSET
        if loaded.volume is None
        else intensities_of(loaded.volume.array, segmentation.array, segments, model.plans.channel_names),
    )
    return readable(record), notices


def _write_dicom(
    output: OutputOptions,
    name: str,
    segmentation: Segmentation,
    segments: Mapping[str, tuple[int, ...]],
    *,
    series: Path,
    note: str,
) -> None:
    """The DICOM SEG and the RT Structure Set beside the segmentation ``name``, where they are asked for."""
    array, geometry = segmentation.array, segmentation.geometry
    if output.dicom_seg:
        write_dicom_seg(output.folder / dicom_seg_name(name), array, segments, series=series, note=note)
    if output.rtstruct:
        from unetrpp.io.rtstruct import write_rtstruct  # here, for pydicom takes a tenth of a second

        write_rtstruct(output.folder / rtstruct_name(name), array, geometry, segments, series=series, note=note)


def _written(case: str, written: Future[Written]) -> Finished:
    try:
        return case, written.result()
    except Exception as error:
        return case, _failure(case, error)


def _failure(case: str, error: Exception) -> Failure:
    LOG.debug("%s failed", case, exc_info=error)
    if isinstance(error, UserError):
        return Failure(str(error.args[0]), refused=True)
    return Failure(in_words(error), limit=limit_of(error))


def _record(progress: Progress, notices: CaseNotices | None, case: str, found: Written | Failure) -> None:
    if isinstance(found, Failure):
        progress.fail(case, found.message)
        if found.refused:
            progress.refused.add(case)
        elif found.limit is not None:
            progress.limits[case] = found.limit
        return
    record, about = found
    if notices is not None:
        notices.add(case, about)
    progress.finish(case, record)
