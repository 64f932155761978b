"""splits.json: which cases each fold trains on and validates on. The user may edit it."""

import logging
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path

import msgspec
import numpy as np

from unetrpp.core.digest import digest
from unetrpp.core.errors import UserError
from unetrpp.core.files import Record, read_json, write_json

LOG = logging.getLogger(__name__)

FOLDS = 5
SEED = 12345  # nnU-Net's, so that folds compare
MEND = "delete it to have it made anew"
MOST_SEEDS = 1000  # that are tried for classes that few cases have


class Fold(Record, frozen=True, kw_only=True):
    train: tuple[str, ...]
    validation: tuple[str, ...]

    def digest(self) -> str:
        """Hash of the cases, so that an edited splits.json is noticed."""
        return digest(self)


class Splits(Record, frozen=True, kw_only=True):
    """Without folds there is nothing to validate on, and only the fold "all" can be trained."""

    format: int = 1
    folds: tuple[Fold, ...]
    why: str = ""  # how they were drawn

    def cases(self) -> set[str]:
        return {case for fold in self.folds for case in (*fold.train, *fold.validation)}


class NnunetFold(msgspec.Struct, frozen=True):
    """Of nnU-Net's splits_final.json, a list of these."""

    train: tuple[str, ...]
    val: tuple[str, ...]


def make_splits(
    cases: Sequence[str], groups: Mapping[str, str] | None = None, classes: Mapping[str, Collection[str]] | None = None
) -> Splits:
    """KFold(5, shuffle, seed 12345) over sorted ids; with groups, over sorted groups, so that none is torn apart.

    Below five units every fold validates one of them (leave-one-out). ``classes`` names those of each case: where a
    fold would hold out all units of a class that several have, and so never learn it, the next seeds are tried.
    """
    unit = {case: (groups or {}).get(case, case) for case in sorted(cases)}
    units = sorted(set(unit.values()))
    what = "groups" if groups else "cases"
    if len(units) < 2:
        return Splits(folds=(), why=f"{len(units)} of the {what} that cross-validation needs two of")
    having: dict[str, set[str]] = defaultdict(set)
    for case, names in (classes or {}).items():
        for name in names:
            having[name].add(unit[case])
    several = {name: those for name, those in having.items() if len(those) > 1}
    seed = _choose_seed(units, several)
    why = f"{len(units)} {what} shuffled with seed {seed}"
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
    """The first with which every fold learns every class, else the one with the fewest exceptions."""
    best, fewest = SEED, len(units) * len(having) + 1
    for seed in range(SEED, SEED + MOST_SEEDS):
        exceptions = len(_unlearned(_held_out(units, seed), having))
        if exceptions < fewest:
            best, fewest = seed, exceptions
        if not fewest:
            break
    return best


def _held_out(units: Sequence[str], seed: int) -> list[set[str]]:
    """What scikit-learn's KFold does, without its second of import."""
    shuffled = np.arange(len(units))
    np.random.RandomState(seed).shuffle(shuffled)
    return [{units[i] for i in part} for part in np.array_split(shuffled, min(FOLDS, len(units)))]


def _unlearned(folds: Sequence[set[str]], having: Mapping[str, set[str]]) -> list[tuple[int, str]]:
    """Each fold with each class all of whose units it holds out."""
    return [(k, name) for k, held in enumerate(folds) for name, units in having.items() if units <= held]


def read_or_make_splits(
    path: Path,
    cases: Sequence[str],
    groups: Mapping[str, str] | None = None,
    classes: Mapping[str, Collection[str]] | None = None,
) -> Splits:
    """The splits on disk, checked against the cases; written first where there are none.

    Cases in no fold and groups that a fold tears apart are warned about. nnU-Net's form is rewritten as ours.

    Raises:
        UserError: the file names a case that does not exist, or validates on a training case.
    """
    _rewrite_nnunets(path)
    if not path.exists() or not read_json(path, Splits, MEND).folds:  # none: of a dataset that had a single case
        write_json(path, make_splits(cases, groups, classes))
    splits = read_json(path, Splits, MEND)
    for number, fold in enumerate(splits.folds):
        unknown = sorted({*fold.train, *fold.validation} - set(cases))
        if unknown:
            raise UserError(
                f"{path}: fold {number} names {unknown[0]!r}, which is no case of the dataset; correct or delete the file"
            )
        both = sorted(set(fold.train) & set(fold.validation))
        if both:
            raise UserError(
                f"{path}: fold {number} trains and validates on {both[0]!r}; a case may be in one of the two only"
            )
    for what in _oddities(splits, cases, groups or {}):
        LOG.warning("warning: %s: %s; %s", path, what, MEND)
    return splits


def _rewrite_nnunets(path: Path) -> None:
    """splits_final.json, put here under our name."""
    if path.exists() and path.read_bytes().lstrip().startswith(b"["):
        found = read_json(path, tuple[NnunetFold, ...], MEND)
        folds = tuple(Fold(train=fold.train, validation=fold.val) for fold in found)
        write_json(path, Splits(folds=folds, why="nnU-Net's splits_final.json"))


def _oddities(splits: Splits, cases: Sequence[str], groups: Mapping[str, str]) -> Iterator[str]:
    """What an edited file may mean, and an older one does not."""
    torn = [
        group
        for fold in splits.folds
        for group in sorted({groups[c] for c in fold.train if c in groups} & {groups.get(c) for c in fold.validation})
    ]
    if torn:
        yield f"folds train and validate on cases of one group, such as {torn[0]}"
    left = sorted(set(cases) - splits.cases())
    if splits.folds and left:
        yield f"{len(left)} of {len(cases)} cases are in no fold, such as {left[0]}"
