"""What a fold was trained on: digests of its cases, so that a fold whose files have changed since is noticed."""

import logging
from collections.abc import Mapping
from pathlib import Path

from unetrpp.core.digest import digest
from unetrpp.core.errors import UserError
from unetrpp.core.files import Record, read_json
from unetrpp.dataset.splits import Fold
from unetrpp.plans.plans import Configuration
from unetrpp.preprocessing.store import Store

LOG = logging.getLogger(__name__)
FILE = "trained_on.json"  # in the folder of a fold
SHOWN = 5  # cases named in a message


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


def changed_cases(before: Mapping[str, str], now: Mapping[str, str]) -> list[str]:
    """Cases of both whose digests differ."""
    return sorted(case for case in before.keys() & now.keys() if before[case] != now[case])


def listed(cases: list[str]) -> str:
    """
    >>> listed(["a", "b"]), listed(list("abcdefg"))
    ('a, b', 'a, b, c, d, e and 2 more')
    """
    more = f" and {len(cases) - SHOWN} more" if len(cases) > SHOWN else ""
    return ", ".join(cases[:SHOWN]) + more
