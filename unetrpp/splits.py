"""splits.json: which cases each fold trains on and validates on. The user may edit it."""

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec
import numpy as np

from unetrpp.errors import UserError
from unetrpp.files import Record, read_json, write_json

FOLDS = 5
SEED = 12345  # nnU-Net's, so that folds compare


class Fold(Record, frozen=True, kw_only=True):
    train: tuple[str, ...]
    validation: tuple[str, ...]

    def digest(self) -> str:
        """Hash of the cases, so that an edited splits.json is noticed."""
        return hashlib.sha256(msgspec.json.encode(self)).hexdigest()[:16]


class Splits(Record, frozen=True, kw_only=True):
    format: int = 1
    folds: tuple[Fold, ...]

    def cases(self) -> set[str]:
        return {case for fold in self.folds for case in (*fold.train, *fold.validation)}


def make_splits(cases: Sequence[str], groups: Mapping[str, str] | None = None) -> Splits:
    """KFold(5, shuffle, seed 12345) over sorted ids; with groups, over sorted groups, so that none is torn apart.

    Below five units every fold validates one of them (leave-one-out).

    Raises:
        UserError: fewer than two units: nothing would be left to validate on.
    """
    unit = {case: (groups or {}).get(case, case) for case in sorted(cases)}
    units = np.array(sorted(set(unit.values())))
    if len(units) < 2:
        raise UserError(
            f"cross-validation needs two cases (or groups), found {len(units)}; add cases or train the fold 'all'"
        )
    # What scikit-learn's KFold does, without its second of import.
    shuffled = np.arange(len(units))
    np.random.RandomState(SEED).shuffle(shuffled)
    held_out = [set(units[part]) for part in np.array_split(shuffled, min(FOLDS, len(units)))]
    return Splits(
        folds=tuple(
            Fold(
                train=tuple(c for c in unit if unit[c] not in held),
                validation=tuple(c for c in unit if unit[c] in held),
            )
            for held in held_out
        )
    )


def read_or_make_splits(path: Path, cases: Sequence[str], groups: Mapping[str, str] | None = None) -> Splits:
    """The splits on disk, checked against the cases; written first where there are none.

    Raises:
        UserError: the file names a case that does not exist, or validates on a training case.
    """
    if not path.exists():
        write_json(path, make_splits(cases, groups))
    splits = read_json(path, Splits, mend="delete it to have it made anew")
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
    return splits
