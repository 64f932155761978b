"""Preprocess every case of a dataset into the store of one configuration; current cases are kept."""

import logging
from collections.abc import Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from pathlib import Path

from unetrpp.core.leftovers import remove_leftovers
from unetrpp.core.parallel import CaseError, run_cases
from unetrpp.dataset.cases import Case, RawDataset
from unetrpp.io.formats import copy_image, ending_of
from unetrpp.io.images import read_image, read_label, write_segmentation
from unetrpp.plans.plans import Preprocessing
from unetrpp.preprocessing.case import preprocess
from unetrpp.preprocessing.store import Store, first_stage_path

LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class StoreJob:
    """How cases are preprocessed, and into which folder; sent to the workers."""

    plan: Preprocessing
    folder: Path
    file_ending: str  # of the dataset, and so of predictions and their references


def preprocess_dataset(
    dataset: RawDataset,
    plan: Preprocessing,
    folder: Path,
    *,
    digests: Mapping[str, str],
    stage: str,
    executor: Executor,
) -> list[CaseError]:
    """Store cases that are missing, unfinished or were preprocessed otherwise; remove those that are no longer in it.

    Cases that another store of the dataset has already preprocessed alike are shared with it.

    Args:
        folder: of the store.
        digests: of every case's files (:func:`unetrpp.dataset.verification.inputs_digest`).
        stage: for the progress bar and for errors.

    Returns:
        The cases that failed; all others are done.
    """
    store = Store(folder)
    for part in (folder, first_stage_path(folder, "").parent):
        remove_leftovers(part)
    for name in set(store.cases()) - set(digests):
        store.remove(name)
    todo = [case for case in dataset.cases if not store.is_current(case.id, plan.digest(), digests[case.id])]
    todo = _share(todo, store, plan.digest(), digests)
    job = StoreJob(plan, folder, dataset.description.file_ending)
    jobs = {case.id: (case, job, digests[case.id]) for case in todo}
    outcomes = run_cases(store_case, jobs, stage, len(jobs), executor=executor) if jobs else ()
    return [outcome.error for outcome in outcomes if outcome.error is not None]


def _share(cases: Sequence[Case], store: Store, digest: str, digests: Mapping[str, str]) -> list[Case]:
    """Link the cases that other stores of the dataset have; returns those that none has."""
    others = [
        Store(path)
        for path in sorted(store.folder.parent.glob("*/"))
        if path != store.folder and not path.name.startswith(".")
    ]

    def found(case: str) -> bool:
        return any(other.is_current(case, digest, digests[case]) and store.adopt(case, other) for other in others)

    left = [case for case in cases if not found(case.id)]
    if len(left) < len(cases):
        LOG.info("%d cases of %s are shared with another store", len(cases) - len(left), store.folder.name)
    return left


def store_case(case: Case, job: StoreJob, inputs_digest: str) -> None:
    """Preprocess one training case into the store (runs in a worker)."""
    if case.label is None:
        raise ValueError(f"{case.id} has no label; only training cases are stored")
    plan = job.plan
    prepared = preprocess(read_image(case.images), read_label(case.label), plan, case.id)
    # Folds are validated on original grids, also where the raw data is not; predictions have the dataset's ending.
    reference = job.folder.parent / "labels" / f"{case.id}{job.file_ending}"
    if ending_of(case.label) == job.file_ending:
        copy_image(case.label, reference)
    else:
        label = read_label(case.label)
        write_segmentation(reference, label.array[0], label.geometry)
    Store(job.folder).write(
        prepared, plan.digest(), inputs_digest, plan.chunk, ignore_index=plan.labels.ignore_index, dtype=plan.dtype
    )
