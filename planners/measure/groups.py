"""Groups of cases (of one patient or subject) that stay in one fold: ``--group-by``."""

import csv
import logging
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import msgspec

from unetrpp.core.errors import UserError, refuse
from unetrpp.core.text import counted, counted_of, listed
from unetrpp.dataset.case_names import nearest_case
from unetrpp.dataset.cases import RawDataset
from unetrpp.dataset.description import read_description

LOG = logging.getLogger(__name__)


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


def with_earlier_groups(raw: RawDataset, planned: Path) -> RawDataset:
    """The dataset with the groups that it was planned with before, where none are given now.

    Args:
        planned: the dataset.json of the earlier planning, which may not exist.

    Raises:
        UserError: a case is new, so nobody can tell its patient.
    """
    if raw.description.groups is not None or not planned.is_file():
        return raw
    earlier = read_description(planned, raw.description.name).groups
    if not earlier:
        return raw
    cases = [case.id for case in raw.cases]
    unknown = [case for case in cases if case not in earlier]
    if unknown:
        raise UserError(
            f"{raw.description.name} was planned with patients whose cases stay together, and nothing tells that of "
            f"{counted(len(unknown), 'new case')} ({listed(unknown)}); give --group-by again as then (or groups in dataset.json), or plan "
            "without patients with --overwrite"
        )
    LOG.info("the cases of a patient stay together as they were planned before")
    groups = {case: earlier[case] for case in cases}
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
        count = f"{len(unmatched)} of {counted(len(cases), 'case')}"
        raise UserError(f"--group-by {pattern!r} does not match {count}: {listed(unmatched)}; widen the pattern")
    groups = {case: match.group(1) for case, match in matches.items() if match is not None}
    empty = [case for case, group in groups.items() if not group]
    if empty:
        raise UserError(f"--group-by {pattern!r} gives {empty[0]} an empty group; correct the part in parentheses")
    return groups


def from_csv(path: Path, cases: Sequence[str]) -> dict[str, str]:
    """The groups of all lines, also of names that are no case, which verification reports.

    A first line that names no case is taken as the header.

    Raises:
        UserError: the file cannot be read, a line is not case,group, a case has two groups or none.
    """
    if not path.is_file():
        raise UserError(f"--group-by: {path} does not exist; give a CSV file with lines of case,group")
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()  # spreadsheets write a byte order mark
    except UnicodeDecodeError:
        raise UserError(f"{path} is not in UTF-8; save it again with this encoding") from None
    rows = [
        (number, [cell.strip() for cell in row]) for number, row in enumerate(csv.reader(lines), start=1) if any(row)
    ]
    if rows and rows[0][1][0] not in cases and nearest_case(rows[0][1][0], cases) is None:
        rows = rows[1:]
    groups: dict[str, str] = {}
    problems = []
    for number, row in rows:
        if len(row) < 2 or not all(row[:2]):
            problems.append(f"line {number} is {','.join(row)!r}, but must be case,group; correct it")
        elif groups.setdefault(row[0], row[1]) != row[1]:
            problems.append(
                f"line {number} gives case {row[0]} a different group than an earlier line; remove one of the two"
            )
    missing = [case for case in cases if case not in groups]
    if missing:
        problems.append(
            f"{counted_of(len(missing), len(cases), 'case', 'has/have')} no group: {listed(missing)}; add a line for each"
        )
    refuse(problems, path)
    return groups
