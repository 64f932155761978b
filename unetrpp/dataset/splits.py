"""Cross-validation folds: the training and validation cases of each fold, and how they are drawn."""

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence

import numpy as np

from unetrpp.core.digest import digest
from unetrpp.core.files import Record
from unetrpp.core.text import counted

FOLDS = 5
SEED = 12345  # nnU-Net's, so that the folds are the same
MOST_SEEDS = 1000  # seeds tried where a fold would not train on some class


class Fold(Record, frozen=True, kw_only=True):
    """The case ids of one fold."""

    train: tuple[str, ...]
    validation: tuple[str, ...]

    def digest(self) -> str:
        """Hash of the cases, so that an edited splits.json is noticed."""
        return digest(self)


class Splits(Record, frozen=True, kw_only=True):
    """The folds of a dataset; none where it has too few cases, so that only the fold "all" can be trained."""

    format: int = 1
    folds: tuple[Fold, ...]
    why: str = ""  # how they were drawn

    def cases(self) -> set[str]:
        return {case for fold in self.folds for case in (*fold.train, *fold.validation)}


def make_splits(
    cases: Sequence[str], groups: Mapping[str, str] | None = None, classes: Mapping[str, Collection[str]] | None = None
) -> Splits:
    """nnU-Net's folds: scikit-learn's KFold(5, shuffle=True, random_state=12345) over the sorted ids.

    With fewer than five cases each is validated in a fold of its own (leave-one-out).

    Args:
        groups: case -> patient; whole groups are distributed instead of cases, so that no group is in both parts of a fold.
        classes: case -> names of the classes in it. Where a fold would have no training case of a class, although
            several cases or groups have it, the next seeds are tried.
    """
    unit = {case: (groups or {}).get(case, case) for case in sorted(cases)}
    units = sorted(set(unit.values()))
    what = "group" if groups else "case"
    if len(units) < 2:
        return Splits(folds=(), why=f"{counted(len(units), what)}, but cross-validation needs two")
    having: dict[str, set[str]] = defaultdict(set)
    for case, names in (classes or {}).items():
        for name in names:
            having[name].add(unit[case])
    several = {name: those for name, those in having.items() if len(those) > 1}
    seed = _choose_seed(units, several)
    why = f"{counted(len(units), what)} shuffled with seed {seed}"
    if seed != SEED:
        unlearned = sorted({name for _, name in _unlearned(_held_out(units, SEED), several)})
        why += f"; with {SEED} a fold would hold out every case of {', '.join(unlearned)}"
    folds = (
        Fold(
            train=tuple(case for case in unit if unit[case] not in held),
            validation=tuple(case for case in unit if unit[case] in held),
        )
        for held in _held_out(units, seed)
    )
    return Splits(folds=tuple(folds), why=why)


def _choose_seed(units: Sequence[str], having: Mapping[str, set[str]]) -> int:
    """The first seed with which every fold trains on every class, else the one with the fewest exceptions."""
    best, fewest = SEED, len(units) * len(having) + 1
    for seed in range(SEED, SEED + MOST_SEEDS):
        exceptions = len(_unlearned(_held_out(units, seed), having))
        if exceptions < fewest:
            best, fewest = seed, exceptions
        if not fewest:
            break
    return best


def _held_out(units: Sequence[str], seed: int) -> list[set[str]]:
    """The validation units of each fold as scikit-learn's KFold gives them; importing it would take a second."""
    shuffled = np.arange(len(units))
    np.random.RandomState(seed).shuffle(shuffled)
    return [{units[i] for i in part} for part in np.array_split(shuffled, min(FOLDS, len(units)))]


def _unlearned(folds: Sequence[set[str]], having: Mapping[str, set[str]]) -> list[tuple[int, str]]:
    """Pairs of a fold and a class that it has no training unit of."""
    return [(k, name) for k, held in enumerate(folds) for name, units in having.items() if units <= held]
