"""Preprocessing every case of a dataset into the store of one configuration; what is current is left alone."""

from collections.abc import Mapping
from concurrent.futures import Executor
from pathlib import Path

from unetrpp.companions import copy_image, strip_ending
from unetrpp.dataset import Case, RawDataset
from unetrpp.images import read_image, read_label
from unetrpp.parallel import CaseError, run_cases
from unetrpp.plans import Configuration, Preprocessing
from unetrpp.preprocessing.case import preprocess
from unetrpp.store import Store


def preprocess_dataset(
    dataset: RawDataset,
    configuration: Configuration,
    folder: Path,
    digests: Mapping[str, str],
    stage: str,
    executor: Executor,
) -> list[CaseError]:
    """Store what is missing, unfinished or was made otherwise; cases that left the dataset are removed.

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
    jobs = {case.id: (case, plan, folder, digests[case.id]) for case in todo}
    outcomes = run_cases(store_case, jobs, stage, len(jobs), executor) if jobs else ()
    return [outcome.error for outcome in outcomes if outcome.error is not None]


def store_case(case: Case, plan: Preprocessing, folder: Path, inputs_digest: str) -> None:
    """Preprocess one training case into the store (runs in a worker)."""
    if case.label is None:
        raise ValueError(f"{case.id} has no label; only training cases are stored")
    prepared = preprocess(read_image(case.images, verified=True), read_label(case.label, verified=True), plan, case.id)
    # Folds are validated on original grids, maybe where the raw data is not.
    ending = case.label.name.removeprefix(strip_ending(case.label.name))
    copy_image(case.label, folder.parent / "labels" / f"{case.id}{ending}")
    Store(folder).write(prepared, plan.digest(), inputs_digest, plan.chunk, plan.labels.ignore_index, plan.dtype)
