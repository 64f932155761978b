"""The names of folds: "0", "1", ... of a cross-validation, and "all", the folder fold_all, which was trained on every case."""

import re
from collections.abc import Sequence
from typing import TypeAlias

from unetrpp.core.errors import UserError

Folds: TypeAlias = str | int | Sequence[str | int]  # one, a range such as "0-4", or several of them; "all" is fold_all

FOLD_OR_RANGE = re.compile(r"(?:fold_)?(?:(?P<first>\d{1,4})(?:-(?P<last>\d{1,4}))?|all)")


def fold_names(folds: Folds) -> list[str]:
    """The names of ``folds``, each once, in the order given.

    Raises:
        UserError: one is neither a fold nor a range of folds.

    >>> fold_names(3), fold_names("0-2"), fold_names(["0-1", 4, "1"]), fold_names("fold_all")
    (['3'], ['0', '1', '2'], ['0', '1', '4'], ['all'])
    """
    given = [folds] if isinstance(folds, str | int) else folds
    return list(dict.fromkeys(name for text in given for name in _expanded(str(text))))


def _expanded(text: str) -> list[str]:
    match = FOLD_OR_RANGE.fullmatch(text)
    if match is not None and match["first"] is None:
        return ["all"]
    numbers = range(0) if match is None else range(int(match["first"]), int(match["last"] or match["first"]) + 1)
    if not numbers:
        raise UserError(f"fold {text!r} does not exist; give numbers, ranges such as 0-4, or fold_all")
    return [str(number) for number in numbers]


def spell_folds(names: Sequence[str]) -> str:
    """Names of folds as one would type them, in order.

    >>> spell_folds(["0", "1", "2", "4", "all"])
    '0-2 4 fold_all'
    """
    numbers = sorted(int(name) for name in names if name != "all")
    starts = [number for number in numbers if number - 1 not in numbers]
    ends = [number for number in numbers if number + 1 not in numbers]
    ranges = [str(start) if start == end else f"{start}-{end}" for start, end in zip(starts, ends, strict=True)]
    return " ".join([*ranges, *(["fold_all"] if "all" in names else [])])
