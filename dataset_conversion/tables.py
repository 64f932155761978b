"""Tables of a download that say what its cases are."""

import csv
from collections.abc import Sequence
from pathlib import Path

from unetrpp.core.errors import UserError


def read_table(path: Path, columns: Sequence[str]) -> list[dict[str, str]]:
    """The rows of a .csv with commas or semicolons: column -> content without blanks around it, empty where a row ends before.

    Args:
        columns: that it must have.

    Raises:
        UserError: it cannot be read, or lacks a column.
    """
    try:
        text = path.read_text("utf-8-sig")
        first, *_ = [*text.splitlines(), ""]
        rows = csv.DictReader(text.splitlines(keepends=True), delimiter=";" if ";" in first else ",", restval="")
        found = [{key: str(value).strip() for key, value in row.items() if key is not None} for row in rows]
    except (UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{path} is no table in UTF-8 ({error}); download it again") from None
    if lacking := [name for name in columns if name not in (rows.fieldnames or ())]:
        raise UserError(f"{path} has no column {lacking[0]!r}; download it again")
    return found
