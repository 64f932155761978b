"""The cross-validation of two models' average: the cases of each fold, predicted by both models of that fold."""

import logging
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TypeAlias

from unetrpp.core.errors import UserError
from unetrpp.core.files import remove_folder
from unetrpp.core.text import counted
from unetrpp.dataset.cases import Case, RawDataset
from unetrpp.evaluation.candidates import ENSEMBLES, Validated, validation_folder
from unetrpp.evaluation.cross_validation import CrossValidation, update_cross_validation
from unetrpp.evaluation.current_scores import current_scores
from unetrpp.evaluation.evaluate import Pairs
from unetrpp.inference.ensemble import Ensemble
from unetrpp.inference.folder import lock_of, run_folder
from unetrpp.inference.inputs import files_digest
from unetrpp.inference.options import OutputOptions
from unetrpp.inference.predictor import Predictor
from unetrpp.inference.record import Predictions, earlier_runs, file_name

LOG = logging.getLogger(__name__)

Pair: TypeAlias = tuple[Validated, Validated]


def validate_pair(results: Path, pair: Pair, dataset: RawDataset, *, device: str) -> tuple[CrossValidation, Path]:
    """Predict and score the validation cases of every fold; returns the scores, and the folder, which looks like a model's.

    Resumes. A fold that other checkpoints or the other mirroring predicted is predicted again.

    Raises:
        UserError: the models were trained on different splits or cannot be averaged, or a case cannot be predicted or scored.
    """
    first, second = pair
    _require_same_splits(first, second)
    folder = results / ENSEMBLES / f"{first.name}+{second.name}"
    by_id, ending = {case.id: case for case in dataset.cases}, first.model.plans.file_ending
    by_fold: dict[str, list[Case]] = {}
    for case, held_out_by in first.fold_of.items():
        by_fold.setdefault(str(held_out_by), []).append(by_id[case])
    for path in folder.glob("fold_*"):
        if path.name.removeprefix("fold_") not in by_fold:  # of earlier splits
            remove_folder(path)
    for fold, cases in by_fold.items():
        out = validation_folder(folder, fold)
        _predict_fold(pair, fold, cases, out, device=device)
        current_scores(out, reference_pairs(out, cases, ending), first.labels)
    pooled = update_cross_validation(folder, first.labels)
    assert pooled is not None  # as it has folds
    return pooled, folder


def _require_same_splits(first: Validated, second: Validated) -> None:
    ours, theirs = first.fold_of, second.fold_of
    case = next((case for case in ours if ours[case] != theirs[case]), None)
    if case is not None:
        raise UserError(
            f"fold {ours[case]} of {first.name} and fold {theirs[case]} of {second.name} held this case out, so their average "
            "includes a network that was trained on it; train both with the same splits.json",
            case=case,
        )


def _predict_fold(pair: Pair, fold: str, cases: Sequence[Case], out: Path, *, device: str) -> None:
    """Predict what is not predicted yet or whose image has changed, after removing what other checkpoints or the other mirroring
    predicted."""
    mirroring = pair[0].mirroring
    run = _current_run(out, [member.model.digest([fold]) for member in pair], mirroring)
    was_killed = lock_of(out / file_name(None)).exists()  # perhaps before it wrote its table
    if run is None:
        remove_folder(out)
    elif not was_killed and all(_is_current(run, case, out) for case in cases):
        return
    LOG.info("%s + %s, fold %s: %s", pair[0].name, pair[1].name, fold, counted(len(cases), "case"))
    ensemble = Ensemble([Predictor(m.model.path, folds=fold, device=device, mirroring=mirroring) for m in pair])
    images = {case.id: case.images for case in cases}  # of the training cases, which need no comparison with themselves
    # What had to be repaired was: preprocessing has stored these cases.
    progress = run_folder(ensemble, images, OutputOptions(out, fix=True, log_warnings=False))
    for case, number in progress.limits.items():
        raise OSError(number, os.strerror(number), f"{pair[0].name} + {pair[1].name}, {case}")
    for case, message in progress.failed.items():
        raise UserError(message, case=case)


def _is_current(run: Predictions, case: Case, out: Path) -> bool:
    """Whether the prediction of a case is there, and of its present image."""
    found = run.cases.get(case.id)
    return found is not None and (out / found.output).is_file() and found.inputs == files_digest(case.id, case.images)


def _current_run(folder: Path, digests: Sequence[str], mirroring: bool) -> Predictions | None:
    """The record of the predictions in ``folder`` if these checkpoints made them with this mirroring."""
    try:
        (run,) = earlier_runs(folder).values()
    except (UserError, ValueError):  # unreadable, or not exactly one
        return None
    members = [member.model_hash for member in run.settings.members]
    return run if (members, run.settings.mirroring) == (list(digests), mirroring) else None


def reference_pairs(folder: Path, cases: Sequence[Case], ending: str) -> Pairs:
    """By case: its prediction in ``folder`` and its reference."""
    return {case.id: (folder / f"{case.id}{ending}", case.label) for case in cases if case.label is not None}
