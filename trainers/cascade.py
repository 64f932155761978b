"""The input of a cascade's second stage in training: the first stage's segmentations of its held-out cases.

So every training case has a segmentation by a model that was not trained on it, like new images later. The
segmentations are resampled to the second stage's grid once and kept in its store.
"""

import filecmp
import logging
import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

from unetrpp.core.digest import digest
from unetrpp.core.errors import UserError
from unetrpp.core.files import link_or_copy, read_json, remove_folder
from unetrpp.core.machine import default_processes
from unetrpp.core.parallel import run_cases
from unetrpp.core.text import counted, listed, quoted
from unetrpp.core.workspace import Workspace
from unetrpp.dataset.splits import Splits
from unetrpp.inference.record import earlier_runs
from unetrpp.io.images import read_label
from unetrpp.model.folder import ARCHITECTURE, FIRST_STAGE
from unetrpp.plans.plans import Plans, Preprocessing
from unetrpp.preprocessing.grid import CaseGrid
from unetrpp.preprocessing.store import Store, StoredCase
from unetrpp.report.next_step import again_command
from unetrpp.trainers.config import TrainingConfig

LOG = logging.getLogger(__name__)
BYTES_A_VOXEL = 24  # of a segmentation while it is resampled
CASES_A_PROCESS = 16  # resampling this many cases takes less time than starting another process


@dataclass(frozen=True)
class SecondStage:
    """Model folder, store, plans and configuration name of the second stage."""

    model: Path
    store: Store
    plans: Plans
    name: str

    @property
    def dataset(self) -> str:
        """The name of the dataset's folder, by which commands find it."""
        return self.model.parent.name

    @property
    def preprocessing(self) -> Preprocessing:
        return self.plans.configuration(self.name).preprocessing


def prepare_second_stage(
    second: SecondStage, first: Path, splits: Splits, cases: Collection[str], *, started: bool
) -> None:
    """Store the first stage's segmentations on the second's grid, and copy its networks into the second's model folder.

    Args:
        first: the model folder of the first stage.
        cases: those that the second stage is going to use.
        started: folds of the second stage were already trained with the copy in its model folder.

    Raises:
        UserError: the first stage is unfinished, was trained on other folds, or differs from the one of ``started`` folds.
    """
    if not splits.folds:  # a dataset of one case
        raise UserError(
            f"{second.name} is trained on segmentations of held-out cases, which one case has none of; train 3d_fullres"
        )
    segmentations = held_out_segmentations(second, first, splits)
    missing = sorted(set(cases) - set(segmentations))
    if missing:
        raise UserError(
            f"no fold of splits.json holds this case out, so {first.name} has no segmentation by a model that never saw it; "
            "add it to the validation cases of a fold and train that fold, or train 3d_fullres",
            case=missing[0],
        )
    copy_first_stage(first, second.model, len(splits.folds), started=started)
    resample_segmentations({case: segmentations[case] for case in sorted(cases)}, second.store, second.preprocessing)


def held_out_segmentations(second: SecondStage, first: Path, splits: Splits) -> dict[str, Path]:
    """Case -> its segmentation by the fold of the first stage that held it out (the first of several).

    Raises:
        UserError: a fold of the first stage is unfinished, was trained on other cases, or segmented earlier images.
    """
    plans, stage, home = second.plans, second.plans.configuration(second.name).first_stage, Workspace.of_model(first)
    assert stage is not None  # as it is a second stage
    unfinished = [str(k) for k in range(len(splits.folds)) if not (_validation(first, k) / "summary.json").is_file()]
    if unfinished:
        folds = f"fold{'s' if len(unfinished) > 1 else ''} {', '.join(unfinished)}"
        raise UserError(
            f"{second.name} is trained on {stage}'s segmentations of held-out cases, and {folds} of {stage} "
            f"{'are' if len(unfinished) > 1 else 'is'} not finished; "
            f"run unetrpp_train {quoted(second.dataset)} {stage} -p {quoted(plans.name)}{home.option}"
        )
    found: dict[str, Path] = {}
    for k, fold in enumerate(splits.folds):
        if read_json(first / f"fold_{k}" / "training.json", TrainingConfig).cases != fold.digest():
            raise UserError(
                f"fold {k} of {first} was trained on other cases than splits.json has; restore them, "
                f"or run {again_command(home, second.dataset, plans=plans.name, configuration=stage, fold=k)}"
            )
        held_out = sorted(set(fold.validation) - set(fold.train))
        if old := _of_earlier_images(second, _validation(first, k), held_out):
            raise UserError(
                f"the images of {counted(len(old), 'case')} ({listed(old)}) have changed since {stage} segmented them; "
                f"run unetrpp_train {quoted(second.dataset)} {stage} {k} -p {quoted(plans.name)}{home.option} again"
            )
        for case in held_out:
            found.setdefault(case, _validation(first, k) / f"{case}{plans.file_ending}")
    return found


def _of_earlier_images(second: SecondStage, validation: Path, cases: Collection[str]) -> list[str]:
    """Cases whose segmentation in ``validation`` is of another image than the first stage's store holds now."""
    stage = second.plans.configuration(second.name).first_stage
    store = Store(second.store.folder.with_name(f"{second.plans.name}_{stage}"))
    predicted = {case: record.inputs for run in earlier_runs(validation).values() for case, record in run.cases.items()}
    known = sorted(set(cases) & predicted.keys() & set(store.cases()))
    return [case for case in known if predicted[case] != store.image_digest(case)]


def _validation(first: Path, fold: int) -> Path:
    return first / f"fold_{fold}" / "validation"


def copy_first_stage(first: Path, model: Path, folds: int, *, started: bool) -> None:
    """Copy the first stage's plans and final weights into ``model``, so that this folder alone can predict.

    Where the file system allows they are hard links: these take no space, and keep their content when the first stage is
    trained again.

    Raises:
        UserError: ``started`` folds were trained with another first stage.
    """
    names = ["plans.json", "dataset.json", "fingerprint.json"]
    for k in range(folds):
        own = [f"fold_{k}/checkpoint_final.pt", f"fold_{k}/{ARCHITECTURE}"]
        names += [name for name in own if (first / name).is_file()]
    copy = model / FIRST_STAGE
    if all((copy / name).is_file() and filecmp.cmp(first / name, copy / name) for name in names):
        return
    if started:
        raise UserError(
            f"the folds of {model.name} were trained with another first stage than {first} is now; "
            "train all of them again with --overwrite"
        )
    remove_folder(copy)
    for name in names:
        link_or_copy(first / name, copy / name)


@dataclass(frozen=True)
class ResamplingJob:
    """A segmentation to be stored on its case's grid."""

    folder: Path  # of the store
    case: str
    segmentation: Path
    digest: str  # of the segmentation and the grid
    plan: Preprocessing


def resample_segmentations(segmentations: Mapping[str, Path], store: Store, plan: Preprocessing) -> None:
    """Store every segmentation on the grid of its stored case, unless it is there already and up to date.

    Raises:
        UserError: a segmentation cannot be read, or has another number of voxels than its case's image.
    """
    jobs, largest = {}, 0
    for case, path in segmentations.items():
        stored = store.open(case)
        current = _digest(stored, path, plan)
        if not store.has_first_stage(case, current):
            jobs[case] = (ResamplingJob(store.folder, case, path, current, plan),)
            largest = max(largest, math.prod(stored.shape), math.prod(stored.properties.geometry.shape_zyx))
    if not jobs:
        return
    processes = min(default_processes(largest * BYTES_A_VOXEL), 1 + len(jobs) // CASES_A_PROCESS)
    for outcome in list(run_cases(resample_case, jobs, "first stage's segmentations", processes)):
        if outcome.error is not None:
            raise UserError(outcome.error.message, case=outcome.case)


def _digest(stored: StoredCase, path: Path, plan: Preprocessing) -> str:
    """Digest of the segmentation and of the grid it is resampled to."""
    return digest(path.read_bytes(), stored.properties, plan.digest().encode())


def resample_case(job: ResamplingJob) -> None:
    """Resample and store one segmentation; it may run in a worker process."""
    store = Store(job.folder)
    properties = store.open(job.case).properties
    segmentation = read_label(job.segmentation)
    if segmentation.geometry.shape_zyx != properties.geometry.shape_zyx:
        raise UserError(
            f"{job.segmentation} has {segmentation.geometry.shape_zyx} voxels, the image {properties.geometry.shape_zyx}; "
            "validate the first stage again (delete its validation folder and repeat its training command)"
        )
    on_grid = CaseGrid(properties, job.plan).to_network(segmentation.array[0])
    store.write_first_stage(job.case, on_grid, job.digest, job.plan.chunk)
