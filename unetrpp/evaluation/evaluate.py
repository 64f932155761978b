"""Scoring predictions against references in parallel processes: two folders, or any pairs of files."""

import logging
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TypeAlias

from unetrpp.core.errors import UserError
from unetrpp.core.machine import default_processes
from unetrpp.core.parallel import CaseError, run_cases
from unetrpp.core.text import composed, counted_of, escaped, is_utf8, listed, recordable
from unetrpp.dataset.labels import LabelScheme, listed_values, present_values
from unetrpp.evaluation.known_labels import find_labels
from unetrpp.evaluation.metrics import OVERLAP_ONLY, MetricOptions, score_case, unit_of
from unetrpp.evaluation.protocol import Protocol, read_protocol, require_labels
from unetrpp.evaluation.summary import (
    CaseScores,
    Distances,
    Summary,
    keep_foreign,
    remove_outlived,
    remove_summary,
    summarize,
    write_summary,
)
from unetrpp.inference.left_out import written_by_predictions
from unetrpp.inference.record import earlier_runs
from unetrpp.io.formats import ending_of
from unetrpp.io.geometry import GRID_LIMIT_VOXELS, same_grid
from unetrpp.io.images import most_voxels, read_geometry, read_label
from unetrpp.io.listing import is_image

LOG = logging.getLogger(__name__)

BYTES_A_VOXEL, BYTES_WITH_DISTANCES = 12, 100  # of a case's peak memory while it is scored

Pairs: TypeAlias = Mapping[str, tuple[Path, Path]]  # by case: prediction and reference


def evaluate(
    predictions: Path | str,
    references: Path | str,
    *,
    dataset_json: Path | str | None = None,
    distances: bool = False,
    tolerance: float | None = None,
    protocol: str | None = None,
    predicted_only: bool = False,
    foreground_from_instances: bool = False,
    processes: int | None = None,
) -> tuple[Summary, list[CaseError]]:
    """Score a folder of predictions and write summary.json and summary.csv into it, as `unetrpp_evaluate` does.

    Where no case could be scored nothing is written, and earlier scores are removed. So are earlier scores of predictions
    that are all gone.

    Args:
        predictions: folder of CASE.ending.
        references: folder of CASE.ending.
        dataset_json: names and values of the labels, or a model folder that has them; by default dataset.json beside
            ``references``, else what predictions.json says.
        distances: also HD95, normalised surface distance, volumes and lesions.
        tolerance: of the normalised surface distance, in mm (pixels of photographs); None: one voxel of each reference.
        protocol: name or JSON file of a published protocol: score its test cases and classes, and add its metrics.
        predicted_only: leave out references without a prediction; otherwise each is an error of its case.
        foreground_from_instances: references number the objects; every value above 0 counts as the one class.
        processes: by default as many as cores and memory allow.

    Returns:
        The scores, and the cases that could not be scored.

    Raises:
        UserError: a file of labels or a protocol cannot be read, and as :func:`evaluate_folder`.
    """
    predictions, references = Path(predictions), Path(references)
    scheme, file_ending = find_labels(predictions, references, None if dataset_json is None else Path(dataset_json))
    known = None if protocol is None else read_protocol(protocol)
    options = MetricOptions(
        distances=distances or (known is not None and "HD95" in known.metrics),
        tolerance=tolerance,
        published=known is not None,
        instances=foreground_from_instances,
    )
    try:
        summary, errors = evaluate_folder(
            predictions,
            references,
            scheme,
            file_ending,
            options=options,
            protocol=known,
            predicted_only=predicted_only,
            processes=processes,
        )
    except UserError:
        remove_outlived(predictions)
        raise
    keep_foreign(predictions)
    if summary.metric_per_case:
        write_summary(predictions, summary)
    else:
        remove_summary(predictions)
    return summary, errors


def evaluate_folder(
    predictions: Path,
    references: Path,
    scheme: LabelScheme,
    file_ending: str,
    *,
    options: MetricOptions = OVERLAP_ONLY,
    protocol: Protocol | None = None,
    predicted_only: bool = False,
    processes: int | None = None,
) -> tuple[Summary, list[CaseError]]:
    """Score every ``CASE<ending>`` of ``references`` against the file of the same name in ``predictions``.

    A reference without a prediction is an error of its case, unless ``predicted_only``. Probability and uncertainty
    maps, which predictions.json lists, are skipped. ``protocol`` selects cases and classes.

    Raises:
        UserError: there is nothing to compare, a prediction or a test case of the protocol has no reference, or the
            protocol has other labels, or instances are to become one of several classes.
    """
    if options.instances and len(scheme.values) != 2:
        raise UserError(
            f"--foreground-from-instances is for one class, but there are {len(scheme.values) - 1} "
            f"({listed(scheme.names[1:])}); leave it out"
        )
    predicted_names = case_ids(predictions, file_ending) - recorded_maps(predictions, file_ending)
    file_of = _by_composed_name(predictions, predicted_names)
    true_of = _by_composed_name(references, case_ids(references, file_ending))
    predicted, true = set(file_of), set(true_of)
    unknown = sorted(predicted - true)
    if unknown:
        raise UserError(
            f"{unknown[0]}{file_ending} of {predictions} has no reference in {references}; add one or remove it"
        )
    if protocol is not None:
        require_labels(protocol, scheme)
        scheme = protocol.scheme(scheme.ignore_value)
        true = protocol.test_cases(true, references)
        predicted &= true
    if not predicted:
        raise UserError(
            f"nothing to score: {predictions} holds no *{file_ending} with the name of a reference; check the folders"
        )
    pairs = {
        case: (predictions / f"{file_of[case]}{file_ending}", references / f"{true_of[case]}{file_ending}")
        for case in sorted(predicted)
        if is_utf8(case)
    }
    summary, errors = evaluate_pairs(
        pairs,
        scheme,
        options=options,
        processes=processes,
    )
    unnamed = "the file name is not UTF-8; rename the prediction and the reference"
    errors += [CaseError(case, "evaluating", unnamed) for case in predicted if not is_utf8(case)]
    if not predicted_only:
        missing = f"no prediction in {predictions}; predict the case, or leave such cases out with --predicted-only"
        errors += [CaseError(case, "evaluating", missing) for case in true - predicted]
        errors += _unscored(references, file_ending)
    errors += _unscored(predictions, file_ending)
    return summary, sorted(errors, key=lambda error: error.case)


def _unscored(folder: Path, file_ending: str) -> list[CaseError]:
    """The images in ``folder`` that are not compared, because they do not end in ``file_ending``."""
    files = sorted(path for path in folder.iterdir() if not path.name.endswith(file_ending))
    written = written_by_predictions(folder)
    message = f"does not end in {file_ending} as the labels in dataset.json's 'file_ending' do; convert it or move it elsewhere"
    return [
        CaseError(escaped(path.name), "evaluating", message)
        for path in files
        if is_image(path) and path.name not in written
    ]


def _by_composed_name(folder: Path, names: Iterable[str]) -> dict[str, str]:
    """Names by their composed form, in which they are compared: macOS may have written one folder's names decomposed.

    Raises:
        UserError: two names differ only in their form.
    """
    found: dict[str, str] = {}
    for name in names:
        if found.setdefault(composed(name), name) != name:
            raise UserError(
                f"{folder} holds two files {composed(name)}, whose names differ only in the Unicode form of their letters; rename one"
            )
    return found


def recorded_maps(folder: Path, file_ending: str) -> set[str]:
    """Names, without ending, of the maps that ``unetrpp_predict`` wrote beside the segmentations."""
    records = (record for run in earlier_runs(folder).values() for record in run.cases.values())
    return {name.removesuffix(file_ending) for record in records for name in record.maps}


def case_ids(folder: Path, file_ending: str) -> set[str]:
    """Ids of the files CASE<ending> in ``folder``; hidden (half-written) ones are skipped.

    Raises:
        UserError: there is no such folder.
    """
    if not folder.is_dir():
        raise UserError(f"{folder} is not a folder; check the path")
    names = (
        path.name for path in folder.iterdir() if not path.name.startswith(".")
    )  # glob passes over a closed folder
    return {name.removesuffix(file_ending) for name in names if name.endswith(file_ending)}


def evaluate_pairs(
    pairs: Pairs,
    scheme: LabelScheme,
    *,
    options: MetricOptions = OVERLAP_ONLY,
    processes: int | None = None,
) -> tuple[Summary, list[CaseError]]:
    """Score pairs of files; returns the scores, and the cases that could not be scored, sorted by id."""
    jobs = {case: (case, files, scheme, options) for case, files in pairs.items()}
    processes = processes or scoring_processes(pairs, options)
    scored: list[CaseScores] = []
    errors: list[CaseError] = []
    for outcome in run_cases(score_files, jobs, "evaluating", processes):
        if outcome.value is not None:
            scored.append(outcome.value)
        if outcome.error is not None:
            errors.append(outcome.error)
    measured = _distances_of([pairs[case.case][1] for case in scored], options)
    return summarize(scored, scheme, measured), sorted(errors, key=lambda error: error.case)


def scoring_processes(pairs: Pairs, options: MetricOptions) -> int:
    """As many as cores and memory allow."""
    voxels = most_voxels(reference for _, reference in pairs.values())
    return default_processes(voxels * (BYTES_WITH_DISTANCES if options.distances else BYTES_A_VOXEL))


def _distances_of(references: Sequence[Path], options: MetricOptions) -> Distances | None:
    """How distances were measured; None where none were."""
    if not options.distances or not references:
        return None
    units = {path: unit_of(read_geometry(path), ending_of(path)) for path in references}
    if len(set(units.values())) == 1:
        return Distances(unit=units[references[0]], tolerance=options.tolerance)
    others = [escaped(path.name) for path in references if units[path] != "mm"]
    LOG.warning(
        "warning: %s no spacing in mm (%s), so means of distances mix voxels with mm; score such cases in a folder of their own",
        counted_of(len(others), len(references), "reference", "has/have"),
        listed(others),
    )
    return Distances(unit="mm", tolerance=options.tolerance)


def score_files(
    case: str, files: tuple[Path, Path], scheme: LabelScheme, options: MetricOptions = OVERLAP_ONLY
) -> CaseScores:
    """Read and score one case: ``files`` are its prediction and its reference.

    Raises:
        UserError: a file is missing or unreadable, holds unknown values, or the grids differ.
    """
    predicted, true = (read_label(file) for file in files)
    differences = same_grid(predicted.geometry, true.geometry, GRID_LIMIT_VOXELS)
    if differences:
        raise UserError(
            f"prediction and reference lie on different grids: {differences[0]}; predict on the reference's image",
            case=case,
        )
    arrays = predicted.array[0], scheme.one_class(true.array[0]) if options.instances else true.array[0]
    for file, array in zip(files, arrays, strict=True):
        if unknown := sorted(set(present_values(array)) - set(scheme.known_values)):
            raise UserError(_unknown(file, unknown, scheme, reference=file == files[1]), case=case)
    metrics = score_case(*arrays, true.geometry, scheme, options=options, file_ending=ending_of(files[1]))
    prediction, reference = (recordable(str(file)) for file in files)
    return CaseScores(case=case, prediction_file=prediction, reference_file=reference, metrics=metrics)


def _unknown(file: Path, unknown: Sequence[int], scheme: LabelScheme, *, reference: bool) -> str:
    what = f"label {unknown[0]}, which is" if len(unknown) == 1 else f"labels {listed_values(unknown)}, which are"
    advice = "remap the file"
    if reference and len(scheme.values) == 2 and unknown[0] > 0:
        advice += ", or give --foreground-from-instances if the values number objects"
    return f"{file} holds {what} not in dataset.json ({listed_values(scheme.known_values)}); {advice}"
