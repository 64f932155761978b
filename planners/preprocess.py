"""Preprocessing every case of a dataset into the store of one configuration; what is current is left alone."""

import logging
from collections.abc import Mapping, Sequence
from concurrent.futures import Executor
from pathlib import Path

from unetrpp.core.parallel import CaseError, run_cases
from unetrpp.dataset.cases import Case, RawDataset
from unetrpp.io.formats import copy_image, ending_of
from unetrpp.io.images import read_image, read_label, write_segmentation
from unetrpp.plans.plans import Configuration, Preprocessing
from unetrpp.preprocessing.case import preprocess
from unetrpp.preprocessing.store import Store

LOG = logging.getLogger(__name__)


def preprocess_dataset(
    dataset: RawDataset,
    configuration: Configuration,
    folder: Path,
    digests: Mapping[str, str],
    stage: str,
    executor: Executor,
) -> list[CaseError]:
    """Store what is missing, unfinished or was made otherwise; cases that left the dataset are removed.

    What another plan or configuration of the dataset has preprocessed alike is shared, not made again.

    Args:
        digests: of every case's files (verification.inputs_digest).

    Returns:
        The cases that failed; all others are done.
    """
    plan, store = configuration.preprocessing, Store(folder)
    store.sweep()
    for name in set(store.cases()) - set(digests):
        store.remove(name)
    todo = [case for case in dataset.cases if not store.is_current(case.id, plan.digest(), digests[case.id])]
    todo = _adopt(todo, store, plan.digest(), digests)
    ending = dataset.description.file_ending
    jobs = {case.id: (case, plan, folder, digests[case.id], ending) for case in todo}
    outcomes = run_cases(store_case, jobs, stage, len(jobs), executor=executor) if jobs else ()
    return [outcome.error for outcome in outcomes if outcome.error is not None]


def _adopt(cases: Sequence[Case], store: Store, digest: str, digests: Mapping[str, str]) -> list[Case]:
    """Share what the stores beside this one have; returns the cases that none has."""
    others = [Store(path) for path in sorted(store.folder.parent.glob("*/")) if path != store.folder]

    def found(case: str) -> bool:
        return any(other.is_current(case, digest, digests[case]) and store.adopt(case, other) for other in others)

    left = [case for case in cases if not found(case.id)]
    if len(left) < len(cases):
        LOG.info("%d cases of %s are shared with another store", len(cases) - len(left), store.folder.name)
    return left


def store_case(case: Case, plan: Preprocessing, folder: Path, inputs_digest: str, ending: str) -> None:
    """Preprocess one training case into the store (runs in a worker)."""
    if case.label is None:
        raise ValueError(f"{case.id} has no label; only training cases are stored")
    prepared = preprocess(read_image(case.images, verified=True), read_label(case.label, verified=True), plan, case.id)
    # Folds are validated on original grids, maybe where the raw data is not; predictions have the dataset's ending.
    reference = folder.parent / "labels" / f"{case.id}{ending}"
    if ending_of(case.label) == ending:
        copy_image(case.label, reference)
    else:
        label = read_label(case.label, verified=True)
        write_segmentation(reference, label.array[0], label.geometry)
    Store(folder).write(
        prepared, plan.digest(), inputs_digest, plan.chunk, ignore_index=plan.labels.ignore_index, dtype=plan.dtype
    )
