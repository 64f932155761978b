"""Validation of a fold on whole volumes, predicted by the sliding window and scored on their own grids."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from tqdm import tqdm

from unetrpp import __version__
from unetrpp.core.errors import UserError
from unetrpp.core.files import remove_folder, write_json
from unetrpp.core.parallel import usable_cores
from unetrpp.core.text import format_score
from unetrpp.dataset.labels import LabelScheme
from unetrpp.evaluation.cross_validation import pool_folds, write_cross_validation
from unetrpp.evaluation.evaluate import evaluate_pairs
from unetrpp.evaluation.summary import write_summary
from unetrpp.inference.ensemble import Ensemble
from unetrpp.inference.folder import settings_of
from unetrpp.inference.postprocessing import NOTHING
from unetrpp.inference.predictor import Predictor
from unetrpp.inference.record import FILE, Predictions, earlier_runs
from unetrpp.networks.cascade import append_first_stage
from unetrpp.plans.plans import read_plans
from unetrpp.preprocessing.case import PreprocessedCase
from unetrpp.preprocessing.store import Store

LOG = logging.getLogger(__name__)
CASES_A_PROCESS = 16  # scoring this many cases takes less time than starting another process


@dataclass(frozen=True)
class ValidationCases:
    """The cases of a fold that are predicted and scored."""

    cases: Sequence[str]
    store: Store  # their preprocessed images
    references: Path  # folder of their labels, as CASE.ending


def validate_fold(model: Path, fold: int, cases: ValidationCases, *, device: torch.device, mirroring: bool) -> None:
    """Predict the fold's validation cases as unetrpp_predict would, score them, and update the cross-validation.

    Cases that are predicted already are not predicted again, unless they were predicted with another mirroring: all
    cases of a validation must have the same, which predictions.json records.

    Args:
        model: the model folder.

    Raises:
        UserError: a case could not be scored.
    """
    plans, folder = read_plans(model / "plans.json"), model / f"fold_{fold}" / "validation"
    same = [run.settings.mirroring for run in earlier_runs(folder).values()] == [mirroring]
    if folder.exists() and not same:
        LOG.info("fold %d is validated again, now with%s mirroring", fold, "" if mirroring else "out")
        remove_folder(folder)
    if (folder / "summary.json").exists():
        LOG.info("fold %d is finished: %s", fold, folder / "summary.json")
        return
    files = {case: folder / f"{case}{plans.file_ending}" for case in cases.cases}
    missing = {case: path for case, path in files.items() if not path.exists()}
    predictor = Predictor(model, folds=[fold], device=str(device), mirroring=mirroring)
    settings = settings_of(Ensemble([predictor]), NOTHING)
    record = Predictions(version=__version__, device=str(device), settings=settings, cases={}, failed={})
    write_json(folder / FILE, record)
    predict_cases(predictor, cases.store, missing, f"fold {fold} validation")
    pairs = {case: (path, cases.references / path.name) for case, path in files.items()}
    means = score_cases(folder, pairs, plans.labels)
    LOG.info("fold %d: Dice %s", fold, ", ".join(f"{name} {format_score(dice)}" for name, dice in means.items()))
    write_cross_validation(model, pool_folds(model, plans.labels))


def predict_cases(predictor: Predictor, store: Store, files: dict[str, Path], title: str) -> None:
    """Write the segmentation of every stored case of ``files`` on the grid of its image."""
    for case, path in tqdm(files.items(), desc=title, unit="case", disable=None):
        stored = store.open(case)
        image, _ = stored.read((0, 0, 0), stored.shape)
        if predictor.first_stage is not None:  # by the fold of the first stage that held the case out, as in training
            image = append_first_stage(image, stored.read_first_stage((0, 0, 0), stored.shape))
        exported = predictor.export(PreprocessedCase(image, None, stored.properties))
        predictor.to_input_grid(exported, stored.properties).save(path)


def score_cases(folder: Path, pairs: dict[str, tuple[Path, Path]], labels: LabelScheme) -> dict[str, float | None]:
    """Write summary.json of prediction and reference of every case; returns the mean Dice of each class or region.

    Raises:
        UserError: a case could not be scored.
    """
    processes = min(usable_cores(), 1 + len(pairs) // CASES_A_PROCESS)
    summary, errors = evaluate_pairs(pairs, labels, processes=processes)
    if errors:
        raise UserError(f"validation could not score it: {errors[0].message}", case=errors[0].case)
    write_summary(folder, summary)
    return {summary.classes[key]: scores["Dice"] for key, scores in summary.mean.items()}
