"""The full validation of a fold: whole volumes through the sliding window, written and scored on their own grids."""

import logging
from collections.abc import Sequence
from pathlib import Path

import torch
from tqdm import tqdm

from unetrpp.errors import UserError
from unetrpp.evaluation.cross_validation import cross_validate, write_cross_validation
from unetrpp.evaluation.folders import evaluate_pairs
from unetrpp.evaluation.summary import write_summary
from unetrpp.inference.predictor import Predictor
from unetrpp.parallel import usable_cores
from unetrpp.plans import Plans
from unetrpp.preprocessing.case import PreprocessedCase
from unetrpp.store import Store

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

    ``references`` holds the labels as CASE.ending. Cases that are predicted already are not predicted again.

    Raises:
        UserError: a case could not be scored.
    """
    folder = model / f"fold_{fold}" / "validation"
    if (folder / "summary.json").exists():
        LOG.info("fold %d is finished: %s", fold, folder / "summary.json")
        return
    ending = plans.file_ending
    missing = [case for case in cases if not (folder / f"{case}{ending}").exists()]
    predictor = Predictor(model, [fold], str(device), mirroring)
    for case in tqdm(missing, desc=f"fold {fold} validation", unit="case", disable=None):
        stored = store.open(case)
        image, _ = stored.read((0, 0, 0), stored.shape)
        exported = predictor.export(PreprocessedCase(image, None, stored.properties))
        predictor.lay_out(exported, stored.properties).save(folder / f"{case}{ending}")
    pairs = {case: (folder / f"{case}{ending}", references / f"{case}{ending}") for case in cases}
    processes = min(usable_cores(), 1 + len(cases) // CASES_A_PROCESS)
    summary, errors = evaluate_pairs(pairs, plans.labels, processes=processes)
    if errors:
        raise UserError(f"validation could not score it: {errors[0].message}", case=errors[0].case)
    write_summary(folder, summary)
    dice = ", ".join(f"{summary.classes[k]} {_shown(s['Dice'])}" for k, s in summary.mean.items())
    LOG.info("fold %d: Dice %s", fold, dice)
    write_cross_validation(model, cross_validate(model, plans.labels))


def _shown(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"
