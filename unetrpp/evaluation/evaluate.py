"""Scoring whole folders: pairs of prediction and reference files, in parallel."""

from collections.abc import Mapping
from pathlib import Path

from unetrpp.core.errors import UserError
from unetrpp.core.parallel import CaseError, default_processes, run_cases
from unetrpp.dataset.labels import LabelScheme, present_values
from unetrpp.evaluation.metrics import Scores, score_case
from unetrpp.evaluation.protocol import Protocol, require_labels
from unetrpp.evaluation.summary import CaseScores, Summary, summarize
from unetrpp.inference.record import earlier_runs
from unetrpp.io.geometry import same_grid
from unetrpp.io.images import GRID_TOLERANCE_MM, most_voxels, read_label

BYTES_A_VOXEL, BYTES_WITH_DISTANCES = 12, 100  # of a case's peak memory while it is scored

Pairs = Mapping[str, tuple[Path, Path]]  # case -> prediction, reference


def evaluate_folder(
    predictions: Path,
    references: Path,
    scheme: LabelScheme,
    file_ending: str,
    *,
    predicted_only: bool = False,
    distances: bool = False,
    tolerance_mm: float = 1.0,
    processes: int | None = None,
    protocol: Protocol | None = None,
) -> tuple[Summary, list[CaseError]]:
    """Score every ``CASE<ending>`` of ``references`` against the file of the same name in ``predictions``.

    A reference without a prediction is an error of its case, unless ``predicted_only``. Maps of entropy and the like,
    which stand in predictions.json, are passed over. ``protocol`` chooses cases and classes, and adds the published
    way of counting.

    Raises:
        UserError: there is nothing to compare, a prediction or a case of the protocol has no reference, or the
            protocol is about other labels.
    """
    predicted = case_ids(predictions, file_ending) - recorded_maps(predictions, file_ending)
    true = case_ids(references, file_ending)
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
        raise UserError(f"nothing to score: no *{file_ending} of a reference's name in {predictions}")
    pairs = {c: (predictions / f"{c}{file_ending}", references / f"{c}{file_ending}") for c in sorted(predicted)}
    summary, errors = evaluate_pairs(
        pairs,
        scheme,
        distances=distances,
        tolerance_mm=tolerance_mm,
        processes=processes,
        published=protocol is not None,
    )
    if not predicted_only:
        mend = f"no prediction in {predictions}; predict the case, or leave such ones out with --predicted-only"
        errors += [CaseError(case, "evaluating", mend) for case in true - predicted]
    return summary, sorted(errors, key=lambda error: error.case)


def recorded_maps(folder: Path, file_ending: str) -> set[str]:
    """Names, without ending, of what ``unetrpp_predict`` wrote beside the segmentations."""
    records = (record for run in earlier_runs(folder).values() for record in run.cases.values())
    return {name.removesuffix(file_ending) for record in records for name in record.maps}


def case_ids(folder: Path, file_ending: str) -> set[str]:
    """Ids of the files CASE<ending> in ``folder``; hidden (half-written) ones are skipped.

    Raises:
        UserError: there is no such folder.
    """
    if not folder.is_dir():
        raise UserError(f"{folder} is no folder; check the path")
    return {p.name.removesuffix(file_ending) for p in folder.glob(f"*{file_ending}") if not p.name.startswith(".")}


def evaluate_pairs(
    pairs: Pairs,
    scheme: LabelScheme,
    *,
    distances: bool = False,
    tolerance_mm: float = 1.0,
    processes: int | None = None,
    published: bool = False,
) -> tuple[Summary, list[CaseError]]:
    """Score pairs of files in parallel processes; also the cases that could not be scored."""
    jobs = {case: (case, *files, scheme, distances, tolerance_mm, published) for case, files in pairs.items()}
    scored: list[CaseScores] = []
    errors: list[CaseError] = []
    voxels = most_voxels(reference for _, reference in pairs.values())
    processes = processes or default_processes(voxels * (BYTES_WITH_DISTANCES if distances else BYTES_A_VOXEL))
    for outcome in run_cases(score_files, jobs, "evaluating", processes):
        if outcome.value is not None:
            scored.append(outcome.value)
        if outcome.error is not None:
            errors.append(outcome.error)
    return summarize(scored, scheme), sorted(errors, key=lambda error: error.case)


def score_files(
    case: str,
    prediction: Path,
    reference: Path,
    scheme: LabelScheme,
    distances: bool,
    tolerance_mm: float,
    published: bool = False,
) -> CaseScores:
    """Read and score one case.

    Raises:
        UserError: a file is missing or unreadable, holds unknown values, or the grids differ.
    """
    predicted, true = read_label(prediction), read_label(reference)
    differences = same_grid(predicted.geometry, true.geometry, GRID_TOLERANCE_MM)
    if differences:
        raise UserError(
            f"prediction and reference lie on different grids: {differences[0]}; predict on the reference's image",
            case=case,
        )
    for file, volume in ((prediction, predicted), (reference, true)):
        unknown = sorted(set(present_values(volume.array)) - set(scheme.known_values))
        if unknown:
            raise UserError(f"{file} holds label {unknown[0]}, which is not in dataset.json; remap the file", case=case)
    scores: dict[str, Scores] = score_case(
        predicted.array[0], true.array[0], true.geometry, scheme, distances, tolerance_mm, published
    )
    return CaseScores(case=case, prediction_file=str(prediction), reference_file=str(reference), metrics=scores)
