"""Groups of cases (of one patient or subject) that stay in one fold: ``--group-by``."""

import csv
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import msgspec

from unetrpp.core.errors import UserError
from unetrpp.dataset.cases import RawDataset


def with_groups(raw: RawDataset, group_by: str | None) -> RawDataset:
    """The dataset with the groups of ``group_by``; without it, with those of dataset.json.

    Args:
        group_by: a regular expression whose first group is the name, or a CSV file of case,group lines.

    Raises:
        UserError: a case gets no group, or the pattern is malformed.
    """
    if group_by is None:
        return raw
    cases = [case.id for case in raw.cases]
    groups = from_csv(Path(group_by), cases) if group_by.endswith(".csv") else from_pattern(group_by, cases)
    return replace(raw, description=msgspec.structs.replace(raw.description, groups=groups))


def from_pattern(pattern: str, cases: Sequence[str]) -> dict[str, str]:
    """
    >>> from_pattern(r"(p\\d+)_", ["p1_early", "p1_late", "p2_early"])
    {'p1_early': 'p1', 'p1_late': 'p1', 'p2_early': 'p2'}
    """
    try:
        expression = re.compile(pattern)
    except re.error as error:
        raise UserError(f"--group-by {pattern!r} is not a regular expression ({error}); correct it") from None
    if expression.groups < 1:
        raise UserError(
            f"--group-by {pattern!r} has no group in parentheses; put them around the part that names the patient"
        )
    matches = {case: expression.search(case) for case in cases}
    unmatched = [case for case, match in matches.items() if match is None or match.group(1) is None]
    if unmatched:
        raise UserError(f"--group-by {pattern!r} does not match it; widen the pattern", case=unmatched[0])
    return {case: match.group(1) for case, match in matches.items() if match is not None}


def from_csv(path: Path, cases: Sequence[str]) -> dict[str, str]:
    if not path.is_file():
        raise UserError(f"--group-by: {path} does not exist; give a CSV file with lines of case,group")
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()  # spreadsheets write a byte order mark
    except UnicodeDecodeError:
        raise UserError(f"{path} is not in UTF-8; save it again with this encoding") from None
    groups = {row[0].strip(): row[1].strip() for row in csv.reader(lines) if len(row) > 1}
    missing = [case for case in cases if case not in groups]
    if missing:
        raise UserError(f"{path} names no group for it; add a line", case=missing[0])
    return {case: groups[case] for case in cases}
