"""What a fold was trained on: digests of its cases, so that a fold whose files have changed since is noticed."""

import logging
from collections.abc import Collection
from pathlib import Path

from unetrpp.core.digest import digest
from unetrpp.core.errors import UserError
from unetrpp.core.files import Record, read_json
from unetrpp.core.text import counted, counted_of, listed
from unetrpp.dataset.splits import Fold
from unetrpp.plans.fingerprint import Fingerprint
from unetrpp.plans.plans import Configuration, Preprocessing
from unetrpp.preprocessing.store import Store

LOG = logging.getLogger(__name__)
FILE = "trained_on.json"  # in the folder of a fold


class TrainedOn(Record, frozen=True, kw_only=True):
    """By case, the digest of its image, label and preprocessing when the training of the fold started."""

    format: int = 1
    training: dict[str, str]


def training_inputs(fold: Fold, store: Store, configuration: Configuration) -> TrainedOn:
    """The training cases of ``fold`` as they are now."""
    return TrainedOn(training={case: _case_digest(store, case, configuration) for case in fold.train})


def _case_digest(store: Store, case: str, configuration: Configuration) -> str:
    parts = [store.open(case).digest]
    return digest(*parts) if configuration.first_stage is None else digest(*parts, store.first_stage_digest(case))


def read_trained_on(folder: Path) -> TrainedOn | None:
    """The record of a fold; None where there is none, as in folds that release 0.1.0 started."""
    try:
        return read_json(folder / FILE, TrainedOn)
    except UserError:
        return None


def same_training_cases(folder: Path, fold: Fold) -> bool:
    """Whether a started fold has the same training cases now, so that only its validation cases may be others."""
    record = read_trained_on(folder)
    return record is not None and set(record.training) == set(fold.train)


def warn_of_changes(folder: Path, now: TrainedOn, command: str) -> None:
    """Warn where a started fold was trained on other files; ``command`` trains it again."""
    record = read_trained_on(folder)
    before = {} if record is None else record.training
    changed = sorted(case for case in before.keys() & now.training.keys() if before[case] != now.training[case])
    if changed:
        finished = (folder / "checkpoint_final.pt").exists()
        LOG.warning(
            "warning: since fold %s was %s, the files or the preprocessing of %s have changed (%s); "
            "train it again with %s",
            folder.name.removeprefix("fold_"),
            "trained" if finished else "started",
            f"{len(changed)} of {counted(len(now.training), 'case')}",
            listed(changed),
            command,
        )


def require_current(store: Store, cases: Collection[str], preprocessing: Preprocessing, fingerprint: Path) -> None:
    """
    Args:
        fingerprint: of the dataset as it was measured last.

    Raises:
        UserError: cases were preprocessed differently from the plans, or from other files than were measured.
    """
    planned, measured = preprocessing.digest(), _measured_files(fingerprint)
    stored = {case: store.open(case) for case in cases}
    otherwise = sorted(c for c, s in stored.items() if s.preprocessing_digest != planned)
    changed = sorted(c for c, s in stored.items() if measured.get(c, s.inputs_digest) != s.inputs_digest)
    for found, what in ((otherwise, "differently from these plans"), (changed, "from files that have changed since")):
        if found:
            raise UserError(
                f"{counted_of(len(found), len(cases), 'case', 'was/were')} preprocessed {what} ({listed(found)}); "
                "run unetrpp_plan_and_preprocess again for these plans"
            )


def _measured_files(fingerprint: Path) -> dict[str, str]:
    """Digests of the files of every case; none where another release measured them."""
    try:
        return {case.case: case.inputs_digest for case in read_json(fingerprint, Fingerprint).cases}
    except UserError:
        return {}
