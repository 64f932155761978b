"""What a cascade's second stage learns from: the first stage's segmentations of the cases that each fold held out.

So no case is seen through a model that was trained on it. They are brought to the second stage's grid once.
"""

import filecmp
import logging
import math
import shutil
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

from unetrpp.core.digest import digest
from unetrpp.core.errors import UserError
from unetrpp.core.files import link_or_copy, read_json
from unetrpp.core.parallel import default_processes, run_cases
from unetrpp.dataset.splits import Splits
from unetrpp.io.images import read_label
from unetrpp.model.folder import ARCHITECTURE, FIRST_STAGE
from unetrpp.plans.plans import Plans, Preprocessing
from unetrpp.preprocessing.grid import CaseGrid
from unetrpp.preprocessing.store import Store, StoredCase
from unetrpp.trainers.config import TrainingConfig

LOG = logging.getLogger(__name__)
BYTES_A_VOXEL = 24  # of a segmentation while it is resampled
CASES_A_PROCESS = 16  # fewer are done sooner than another process starts


@dataclass(frozen=True)
class SecondStage:
    """Where it is trained: its model folder, its store and its plans."""

    model: Path
    store: Store
    plans: Plans
    name: str

    @property
    def preprocessing(self) -> Preprocessing:
        return self.plans.configuration(self.name).preprocessing


def prepare_second_stage(
    second: SecondStage, first: Path, splits: Splits, cases: Collection[str], started: bool
) -> None:
    """Bring the first stage's segmentations to the second's grid, and its networks into the second's model folder.

    Args:
        first: the model folder of the first stage.
        cases: those that the second stage is about to use.
        started: there are folds that learned from the first stage as it lies in the second's folder.

    Raises:
        UserError: the first stage is not finished, was trained on other folds, or is another than ``started`` ones had.
    """
    segmentations = held_out_segmentations(second, first, splits)
    missing = sorted(set(cases) - set(segmentations))
    if missing:
        raise UserError(
            f"no fold of splits.json holds it out, so {first.name} has no segmentation by a model that never saw it; "
            "put it into a fold's validation cases and train that fold, or train 3d_fullres",
            case=missing[0],
        )
    copy_first_stage(first, second.model, len(splits.folds), started)
    project({case: segmentations[case] for case in sorted(cases)}, second.store, second.preprocessing)


def held_out_segmentations(second: SecondStage, first: Path, splits: Splits) -> dict[str, Path]:
    """Case -> its segmentation by the first stage's fold that held it out (the first of several)."""
    plans, stage = second.plans, second.plans.configuration(second.name).first_stage
    unfinished = [str(k) for k in range(len(splits.folds)) if not (_validation(first, k) / "summary.json").is_file()]
    if unfinished:
        folds = f"fold{'s' if len(unfinished) > 1 else ''} {', '.join(unfinished)}"
        raise UserError(
            f"{second.name} learns from {stage}'s segmentations of held-out cases, and {folds} of {stage} "
            f"{'are' if len(unfinished) > 1 else 'is'} not finished; run unetrpp_train {plans.dataset} {stage} -p {plans.name}"
        )
    found: dict[str, Path] = {}
    for k, fold in enumerate(splits.folds):
        if read_json(first / f"fold_{k}" / "training.json", TrainingConfig).cases != fold.digest():
            raise UserError(
                f"fold {k} of {first} was trained on other cases than splits.json has; restore them, "
                f"or run unetrpp_train {plans.dataset} {stage} {k} -p {plans.name} --overwrite"
            )
        for case in set(fold.validation) - set(fold.train):
            found.setdefault(case, _validation(first, k) / f"{case}{plans.file_ending}")
    return found


def _validation(first: Path, fold: int) -> Path:
    return first / f"fold_{fold}" / "validation"


def copy_first_stage(first: Path, model: Path, folds: int, started: bool) -> None:
    """The first stage's plans and final weights as ``model``/first_stage, so that ``model`` is complete in itself.

    Where the file system allows they are links, which take no room and keep the file when the first stage is trained anew.

    Raises:
        UserError: ``started`` folds learned from another first stage.
    """
    names = ["plans.json", "dataset.json", "fingerprint.json"]
    for k in range(folds):
        own = [f"fold_{k}/checkpoint_final.pt", f"fold_{k}/{ARCHITECTURE}"]
        names += [name for name in own if (first / name).is_file()]
    there = model / FIRST_STAGE
    if all((there / name).is_file() and filecmp.cmp(first / name, there / name) for name in names):
        return
    if started:
        raise UserError(
            f"{first} is not the first stage that the folds of {model.name} learned from; train all of them anew with --overwrite"
        )
    shutil.rmtree(there, ignore_errors=True)
    for name in names:
        link_or_copy(first / name, there / name)


def project(segmentations: Mapping[str, Path], store: Store, plan: Preprocessing) -> None:
    """Store every segmentation on the grid of its stored case; what is there and current is left alone.

    Raises:
        UserError: a segmentation cannot be read, or does not lie on its case's grid.
    """
    jobs, largest = {}, 0
    for case, path in segmentations.items():
        stored = store.open(case)
        current = _digest(stored, path, plan)
        if not store.has_first_stage(case, current):
            jobs[case] = (store.folder, case, path, current, plan)
            largest = max(largest, math.prod(stored.shape), math.prod(stored.properties.geometry.shape_zyx))
    if jobs:
        processes = min(default_processes(largest * BYTES_A_VOXEL), 1 + len(jobs) // CASES_A_PROCESS)
        outcomes = list(run_cases(project_case, jobs, "first stage's segmentations", processes))
        for outcome in outcomes:
            if outcome.error is not None:
                raise UserError(outcome.error.message, case=outcome.case)


def _digest(stored: StoredCase, path: Path, plan: Preprocessing) -> str:
    """Of the segmentation and of the grid it is brought to."""
    return digest(path.read_bytes(), stored.properties, plan.digest().encode())


def project_case(folder: Path, case: str, path: Path, digest: str, plan: Preprocessing) -> None:
    """One case, maybe in a worker."""
    store = Store(folder)
    properties = store.open(case).properties
    segmentation = read_label(path)
    if segmentation.geometry.shape_zyx != properties.geometry.shape_zyx:
        raise UserError(
            f"{path} has {segmentation.geometry.shape_zyx} voxels, the image {properties.geometry.shape_zyx}; "
            "validate the first stage again (delete its validation folder and repeat its training command)"
        )
    store.write_first_stage(case, CaseGrid(properties, plan).to_network(segmentation.array[0]), digest, plan.chunk)
