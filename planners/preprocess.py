"""Preprocess every case of a dataset into the store of one configuration; current cases are kept."""

import filecmp
import logging
from collections.abc import Collection, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from pathlib import Path

from unetrpp.core.leftovers import remove_leftovers
from unetrpp.core.parallel import CaseError, run_cases
from unetrpp.core.text import counted_of, listed
from unetrpp.core.workspace import NO_PLANS
from unetrpp.dataset.cases import Case, RawDataset
from unetrpp.io.formats import copy_image, ending_of, files_of_image
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

    def reference(self, case: Case) -> Path:
        """The copy of a case's label, which validation compares with."""
        return self.folder.parent / "labels" / f"{case.id}{self.file_ending}"


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
    store.remove_others(digests)
    todo = [case for case in dataset.cases if not store.is_current(case.id, plan.digest(), digests[case.id])]
    todo = _share(todo, store, plan.digest(), digests)
    job = StoreJob(plan, folder, dataset.description.file_ending)
    jobs = {case.id: (case, job, digests[case.id]) for case in todo}
    for case in dataset.cases:
        if case.id not in jobs and case.label is not None and not _has_reference(case, case.label, job):
            write_reference(case, case.label, job)
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
        shared = counted_of(len(cases) - len(left), len(cases), "case", "is/are")
        LOG.info("%s: %s shared with another store", store.folder.name, shared)
    return left


def store_case(case: Case, job: StoreJob, inputs_digest: str) -> None:
    """Preprocess one training case into the store (runs in a worker)."""
    if case.label is None:
        raise ValueError(f"{case.id} has no label; only training cases are stored")
    plan = job.plan
    prepared = preprocess(read_image(case.images), read_label(case.label), plan, case.id)
    write_reference(case, case.label, job)
    Store(job.folder).write(
        prepared, plan.digest(), inputs_digest, plan.chunk, ignore_index=plan.labels.ignore_index, dtype=plan.dtype
    )


def write_reference(case: Case, label: Path, job: StoreJob) -> None:
    """Copy the label into ``labels/`` beside the store.

    Folds are validated on original grids, also where the raw data is not; predictions have the dataset's ending.
    """
    if ending_of(label) == job.file_ending:
        copy_image(label, job.reference(case))
    else:
        found = read_label(label)
        write_segmentation(job.reference(case), found.array[0], found.geometry)


def _has_reference(case: Case, label: Path, job: StoreJob) -> bool:
    """Whether ``labels/`` holds a copy of the label. All stores share these copies, so that of a current case may be missing
    or of another version of the file; one that was converted is not compared."""
    copy = job.reference(case)
    if ending_of(label) != job.file_ending or files_of_image(label) != [label]:
        return copy.is_file()
    return copy.is_file() and files_of_image(copy) == [copy] and filecmp.cmp(label, copy, shallow=False)


def remove_old_cases(folder: Path, cases: Collection[str], file_ending: str) -> None:
    """Remove the labels and the stored cases of all plans that are not among the ``cases`` of the dataset any more."""
    names = [path.stem for path in folder.glob("[!.]*.json") if path.stem not in NO_PLANS]
    stores = [Store(path) for path in sorted(folder.glob("*/")) if path.name.startswith(tuple(f"{n}_" for n in names))]
    removed = {case for store in stores for case in store.remove_others(cases)}
    labels = folder / "labels"
    kept = {file for case in cases for file in files_of_image(labels / f"{case}{file_ending}")}
    for path in sorted(labels.glob("[!.]*")):
        if path.is_file() and path not in kept:
            path.unlink()
            removed.add(path.name.removesuffix(file_ending))
    if removed:
        LOG.info(
            "removed the preprocessed files of cases that are no longer in the dataset: %s", listed(sorted(removed))
        )
