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
from unetrpp.images import write_segmentation
from unetrpp.inference.export import segment
from unetrpp.inference.sliding_window import sliding_window_slabs
from unetrpp.inference.weights import load_network
from unetrpp.model_folder import ModelFolder
from unetrpp.parallel import usable_cores
from unetrpp.plans import Configuration, Plans
from unetrpp.store import Store

LOG = logging.getLogger(__name__)
CASES_A_PROCESS = 16  # fewer are scored sooner than another process starts


def validate_fold(
    model: Path,
    plans: Plans,
    configuration: Configuration,
    store: Store,
    references: Path,
    fold: int,
    cases: Sequence[str],
    device: torch.device,
    mirroring: bool,
) -> None:
    """Predict the fold's validation cases with its final checkpoint, score them and renew the cross-validation.

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
    network = load_network(ModelFolder.open(model), str(fold), "final", device)
    for case in tqdm(missing, desc=f"fold {fold} validation", unit="case", disable=None):
        stored = store.open(case)
        image = torch.from_numpy(stored.read((0, 0, 0), stored.shape)[0])
        mirrored = configuration.mirror_axes if mirroring else ()
        slabs = sliding_window_slabs([network], image, configuration.patch, mirrored)
        segmentation = segment(slabs, stored.properties, configuration.preprocessing)
        write_segmentation(folder / f"{case}{ending}", segmentation, stored.properties.geometry)
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
