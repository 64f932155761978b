"""Test cases that are held out of a dataset: listed in a file, or drawn, whole groups together."""

import hashlib
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

from unetrpp.core.errors import UserError
from unetrpp.core.text import composed, counted
from unetrpp.dataset.case_names import named_unknown
from unetrpp.io.formats import strip_ending

SEED = "unetrpp"  # the same cases of one dataset are drawn everywhere


def held_out(
    wanted: int | Path,
    cases: Sequence[str],
    *,
    groups: Mapping[str, str] | None = None,
    earlier: Collection[str] = (),
) -> tuple[str, ...]:
    """The ids of the test cases among ``cases``, sorted.

    Args:
        wanted: how many are drawn, or a text file that lists them, one a line.
        groups: case -> patient; a group is held out as a whole.
        earlier: the test cases of an earlier conversion. If ``wanted`` is their number, they are taken again: a case that was
            added to the source must not turn a test case into a training case.

    Raises:
        UserError: an id that is no case (all are named), no case left for training, or groups that do not add up.
    """
    if isinstance(wanted, int):
        chosen = _drawn(wanted, cases, groups or {}, earlier)
    else:
        chosen = _listed(wanted, cases)
        _require_whole_groups(chosen, cases, groups or {})
    if len(chosen) >= len(cases):
        raise UserError(
            f"--hold-out takes {len(chosen)} of {counted(len(cases), 'case')}, so none is left for training; hold out fewer"
        )
    return tuple(sorted(chosen))


def _listed(path: Path, cases: Sequence[str]) -> set[str]:
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except FileNotFoundError:
        raise UserError(f"--hold-out {path} is neither a number nor a file; give one of the two") from None
    except UnicodeDecodeError:
        raise UserError(f"{path} is not a text in UTF-8; save it again with this encoding") from None
    named = [composed(line.strip()) for line in lines if line.strip()]
    found = {name: name if name in cases else strip_ending(name) for name in named}
    unknown = [name for name, case in found.items() if case not in cases]
    if unknown:
        what = "is no case" if len(unknown) == 1 else "are no cases"
        raise UserError(f"{path}: {named_unknown(unknown, cases)} {what} of the folder; correct the file")
    if not named:
        raise UserError(f"{path} lists no case; write one id a line")
    return set(found.values())


def _drawn(count: int, cases: Sequence[str], groups: Mapping[str, str], earlier: Collection[str]) -> set[str]:
    if count == 0:
        raise UserError("--hold-out 0 holds out nothing; leave the option out, or give a number of cases")
    if len(earlier) == count and set(earlier) <= set(cases):
        _require_whole_groups(earlier, cases, groups, "list the test cases in a file, or draw anew with --overwrite")
        return set(earlier)
    members: dict[str, list[str]] = defaultdict(list)
    for case in cases:
        members[groups.get(case, case)].append(case)
    chosen: set[str] = set()
    for group in sorted(
        members, key=lambda group: hashlib.sha256(f"{SEED} {group}".encode("utf-8", "surrogateescape")).digest()
    ):
        if len(chosen) + len(members[group]) <= count:
            chosen |= set(members[group])
    if len(chosen) < min(count, len(cases)):
        raise UserError(
            f"no whole groups add up to {counted(count, 'case')}; hold out {len(chosen)}, or list the cases in a file"
        )
    return chosen


def _require_whole_groups(
    chosen: Collection[str], cases: Sequence[str], groups: Mapping[str, str], repair: str = "list both or neither"
) -> None:
    """
    Raises:
        UserError: a group is in training and test.
    """
    tests = {groups[case] for case in chosen if case in groups}
    torn = [case for case in cases if case not in chosen and groups.get(case) in tests]
    if torn:
        raise UserError(f"{torn[0]} is in the same group ({groups[torn[0]]}) as a case of --hold-out; {repair}")
