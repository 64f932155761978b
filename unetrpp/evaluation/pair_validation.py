"""The cross-validation of two models' average: the cases of each fold, predicted by both models of that fold."""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import TypeAlias

from unetrpp.core.errors import UserError
from unetrpp.dataset.cases import Case, RawDataset
from unetrpp.dataset.labels import LabelScheme
from unetrpp.evaluation.cross_validation import pool_folds, write_cross_validation
from unetrpp.evaluation.evaluate import evaluate_pairs
from unetrpp.evaluation.summary import write_summary
from unetrpp.inference.ensemble import Ensemble
from unetrpp.inference.folder import predict_folder
from unetrpp.inference.options import OutputOptions
from unetrpp.inference.predictor import Predictor
from unetrpp.inference.record import earlier_runs
from unetrpp.model.folder import ModelFolder

LOG = logging.getLogger(__name__)
FOLDER = "ensembles"  # of the pairs' validation predictions, beside the model folders

Pair: TypeAlias = tuple[ModelFolder, ModelFolder]


def validate_pair(results: Path, pair: Pair, dataset: RawDataset, *, device: str, mirroring: bool) -> Path:
    """Predict and score the validation cases of every fold; returns the folder, which looks like a model folder's.

    Resumes. A fold that other checkpoints or the other mirroring predicted is predicted again.

    Raises:
        UserError: a case cannot be predicted or scored.
    """
    first, second = pair
    folder = results / FOLDER / f"{first.path.name}+{second.path.name}"
    by_id = {case.id: case for case in dataset.cases}
    validated = pool_folds(first.path, first.plans.labels).summary.metric_per_case
    for fold in (fold for fold in first.folds() if fold != "all"):
        out = folder / f"fold_{fold}" / "validation"
        current = _is_current(out, [model.digest([fold]) for model in pair], mirroring)
        if current and (out / "summary.json").is_file():
            continue
        (out / "summary.json").unlink(missing_ok=True)
        cases = [by_id[case.case] for case in validated if str(case.fold) == fold]
        LOG.info("%s + %s, fold %s: %d cases", first.path.name, second.path.name, fold, len(cases))
        ensemble = Ensemble([Predictor(model.path, folds=[fold], device=device, mirroring=mirroring) for model in pair])
        _predict(ensemble, cases, out, overwrite=not current)
        _score(out, reference_pairs(out, cases, first.plans.file_ending), first.plans.labels)
    write_cross_validation(folder, pool_folds(folder, first.plans.labels))
    return folder


def _is_current(folder: Path, digests: Sequence[str], mirroring: bool) -> bool:
    """Whether the predictions in ``folder``, if any, were made by these checkpoints with this mirroring."""
    found = (run.settings for run in earlier_runs(folder).values())
    return all(s.mirroring == mirroring and [m.model_hash for m in s.members] == digests for s in found)


def _predict(ensemble: Ensemble, cases: Sequence[Case], out: Path, *, overwrite: bool) -> None:
    failed = predict_folder(ensemble, {case.id: case.images for case in cases}, OutputOptions(out, overwrite=overwrite))
    if failed:
        case, message = next(iter(failed.items()))
        raise UserError(message, case=case)


def _score(out: Path, pairs: dict[str, tuple[Path, Path]], labels: LabelScheme) -> None:
    summary, errors = evaluate_pairs(pairs, labels)
    if errors:
        raise UserError(errors[0].message, case=errors[0].case)
    write_summary(out, summary)


def reference_pairs(folder: Path, cases: Sequence[Case], ending: str) -> dict[str, tuple[Path, Path]]:
    """By case: its prediction in ``folder`` and its reference."""
    return {case.id: (folder / f"{case.id}{ending}", case.label) for case in cases if case.label is not None}
