"""The full validation of a fold: whole volumes through the sliding window, written and scored on their own grids."""

import logging
import shutil
from collections.abc import Sequence
from pathlib import Path

import torch
from tqdm import tqdm

from unetrpp import __version__
from unetrpp.core.errors import UserError
from unetrpp.core.files import write_json
from unetrpp.core.parallel import usable_cores
from unetrpp.core.text import format_score
from unetrpp.evaluation.cross_validation import pool_folds, write_cross_validation
from unetrpp.evaluation.evaluate import evaluate_pairs
from unetrpp.evaluation.summary import write_summary
from unetrpp.inference.ensemble import Ensemble
from unetrpp.inference.folder import settings_of
from unetrpp.inference.postprocessing import NOTHING
from unetrpp.inference.predictor import Predictor
from unetrpp.inference.record import FILE, Predictions, earlier_runs
from unetrpp.networks.cascade import append_first_stage
from unetrpp.plans.plans import Plans
from unetrpp.preprocessing.case import PreprocessedCase
from unetrpp.preprocessing.store import Store

LOG = logging.getLogger(__name__)
CASES_A_PROCESS = 16  # fewer are scored sooner than another process starts


def validate_fold(
    model: Path,
    plans: Plans,
    store: Store,
    references: Path,
    fold: int,
    cases: Sequence[str],
    device: torch.device,
    mirroring: bool,
) -> None:
    """Predict the fold's validation cases as unetrpp_predict would, score them and renew the cross-validation.

    ``references`` holds the labels as CASE.ending. Cases that are predicted already are not predicted again, unless it
    was with mirroring and is without now, or the reverse: one validation has one setting, its predictions.json says which.

    Raises:
        UserError: a case could not be scored.
    """
    folder = model / f"fold_{fold}" / "validation"
    same = [run.settings.mirroring for run in earlier_runs(folder).values()] == [mirroring]
    if folder.exists() and not same:
        LOG.info("fold %d is validated anew, now with%s mirroring", fold, "" if mirroring else "out")
        shutil.rmtree(folder)
    if (folder / "summary.json").exists():
        LOG.info("fold %d is finished: %s", fold, folder / "summary.json")
        return
    ending = plans.file_ending
    missing = [case for case in cases if not (folder / f"{case}{ending}").exists()]
    predictor = Predictor(model, folds=[fold], device=str(device), mirroring=mirroring)
    settings = settings_of(Ensemble([predictor]), NOTHING)
    record = Predictions(version=__version__, device=str(device), settings=settings, cases={}, failed={})
    write_json(folder / FILE, record)
    for case in tqdm(missing, desc=f"fold {fold} validation", unit="case", disable=None):
        stored = store.open(case)
        image, _ = stored.read((0, 0, 0), stored.shape)
        if predictor.first_stage is not None:  # by the fold of the first stage that held the case out, as in training
            image = append_first_stage(image, stored.read_first_stage((0, 0, 0), stored.shape))
        exported = predictor.export(PreprocessedCase(image, None, stored.properties))
        predictor.to_input_grid(exported, stored.properties).save(folder / f"{case}{ending}")
    pairs = {case: (folder / f"{case}{ending}", references / f"{case}{ending}") for case in cases}
    processes = min(usable_cores(), 1 + len(cases) // CASES_A_PROCESS)
    summary, errors = evaluate_pairs(pairs, plans.labels, processes=processes)
    if errors:
        raise UserError(f"validation could not score it: {errors[0].message}", case=errors[0].case)
    write_summary(folder, summary)
    dice = ", ".join(f"{summary.classes[k]} {format_score(s['Dice'])}" for k, s in summary.mean.items())
    LOG.info("fold %d: Dice %s", fold, dice)
    write_cross_validation(model, pool_folds(model, plans.labels))
