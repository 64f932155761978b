"""splits.json on disk, which the user may edit or take from nnU-Net: reading it, and all that is wrong with it at once."""

import logging
from codecs import BOM_UTF8
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path

import msgspec

from unetrpp.core.errors import refuse
from unetrpp.core.files import read_edited_json, write_json
from unetrpp.core.text import counted_of, listed
from unetrpp.dataset.case_names import named_unknown
from unetrpp.dataset.splits import Fold, Splits, make_splits

LOG = logging.getLogger(__name__)

HINT = "delete the file to have it made again"
NNUNETS_NAME = "splits_final.json"
NNUNET = f"nnU-Net's {NNUNETS_NAME}"


class NnunetFold(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """An element of the list in nnU-Net's splits_final.json."""

    train: tuple[str, ...]
    val: tuple[str, ...]


def read_or_make_splits(
    path: Path,
    cases: Sequence[str],
    groups: Mapping[str, str] | None = None,
    classes: Mapping[str, Collection[str]] | None = None,
) -> Splits:
    """The splits on disk, checked against the cases, with a warning for what is unusual; without a file they are made.

    A file in nnU-Net's form is rewritten in this package's form; beside it, one of nnU-Net's name is not read, with a warning.
    One without folds is made again: the dataset had one case.

    Args:
        groups: case -> patient.
        classes: case -> names of the classes in it.

    Raises:
        UserError: as :func:`read_splits`.
    """
    splits = read_splits(path, groups, cases) if path.exists() else None
    if splits is None or not splits.folds:
        splits = make_splits(cases, groups, classes)
        write_json(path, splits)
    elif _is_nnunets(path):
        write_json(path, splits)
    theirs = path.with_name(NNUNETS_NAME)
    if theirs.exists() and splits.why != NNUNET:
        LOG.warning("warning: %s is not read; rename it to %s to train on its folds", theirs, path.name)
    for warning in _warnings(splits, cases, classes or {}):
        LOG.warning("warning: %s: %s", path, warning)
    return splits


def read_splits(path: Path, groups: Mapping[str, str] | None = None, cases: Collection[str] | None = None) -> Splits:
    """The splits on disk, in this package's form or nnU-Net's; planning and training read them here.

    Args:
        groups: case -> patient.
        cases: of the dataset; None does not compare with them.

    Raises:
        UserError: the file is missing, or its folds cannot be trained and validated; the message names all reasons.
    """
    hint = HINT if path.exists() else "run unetrpp_plan_and_preprocess"
    if _is_nnunets(path):
        found = read_edited_json(path, tuple[NnunetFold, ...], hint)
        splits = Splits(folds=tuple(Fold(train=fold.train, validation=fold.val) for fold in found), why=NNUNET)
    else:
        splits = read_edited_json(path, Splits, hint)
    refuse([*_problems(splits, cases, groups or {})], path)
    return splits


def _is_nnunets(path: Path) -> bool:
    """Whether the file is a list, as nnU-Net writes it."""
    return path.exists() and path.read_bytes().removeprefix(BOM_UTF8).lstrip().startswith(b"[")


def _problems(splits: Splits, cases: Collection[str] | None, groups: Mapping[str, str]) -> Iterator[str]:
    if not splits.folds and splits.why in ("", NNUNET):  # it says why where planning wrote it
        yield f"it lists no fold; add folds, or {HINT}"
    for number, fold in enumerate(splits.folds):
        yield from (f"fold {number} {problem}" for problem in _fold_problems(fold))
    unknown = sorted(splits.cases() - set(cases)) if cases is not None else []
    if unknown:
        verb = "is not a case" if len(unknown) == 1 else "are not cases"
        yield f"the folds name {named_unknown(unknown, cases or ())}, which {verb} of the dataset; correct the file, or {HINT}"
    split = {
        groups[case]
        for fold in splits.folds
        for case in fold.validation
        if case in groups and groups[case] in {groups.get(other) for other in fold.train}
    }
    if split:
        yield (
            f"folds train and validate on cases of one group, such as {listed(sorted(split))}, so their scores would be too "
            f"good; {HINT}, or remove the groups"
        )


def _fold_problems(fold: Fold) -> Iterator[str]:
    if not fold.train:
        yield f"has no training case; add some, or {HINT}"
    if not fold.validation:
        yield "has no validation case; add some, or remove the fold and train the fold all, which is not validated"
    for part in (fold.train, fold.validation):
        repeated = sorted(case for case, times in Counter(part).items() if times > 1)
        if repeated:
            yield f"lists {listed([*map(repr, repeated)])} more than once; remove the repetition"
    both = sorted(set(fold.train) & set(fold.validation))
    if both:
        yield f"trains and validates on {listed([*map(repr, both)])}; a case may be in only one of the two"


def _warnings(splits: Splits, cases: Sequence[str], classes: Mapping[str, Collection[str]]) -> Iterator[str]:
    """What is allowed in a splits.json, but may not be meant."""
    held_out = Counter(case for fold in splits.folds for case in fold.validation)
    several = sorted(case for case, folds in held_out.items() if folds > 1)
    if several:
        verb = "is" if len(several) == 1 else "are"
        yield f"{listed(several)} {verb} held out by more than one fold; only the score of the first of these folds counts"
    missing = sorted(set(cases) - splits.cases())
    if splits.folds and missing:
        yield f"{counted_of(len(missing), len(cases), 'case', 'is/are')} in no fold, such as {missing[0]}; {HINT}"
    common = {name for name, count in Counter(c for names in classes.values() for c in names).items() if count > 1}
    for number, fold in enumerate(splits.folds):
        unlearned = sorted(common - {name for case in fold.train for name in classes.get(case, ())})
        if unlearned:
            yield f"fold {number} has no training case of {listed(unlearned)}, so it cannot learn to segment it; {HINT}"
