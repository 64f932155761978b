"""Progress bars on terminals of every kind, and log messages that do not tear them."""

import logging
import os
import sys
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:  # tqdm is imported with the first bar, as --help imports this module
    from tqdm import tqdm

COLUMNS = 79  # where the terminal does not say how many it has


def progress_bar(title: str, total: int, *, unit: str = "case", done: int = 0) -> "tqdm[None]":
    """A bar on standard error that is as wide as the terminal.

    There is none, and ``disable`` of the bar is true, where standard error is no terminal, or a "dumb" one, which cannot
    overwrite a line.
    """
    from tqdm import tqdm

    tqdm.monitor_interval = 0  # no thread of its own: if memory ends while a thread starts, Python waits for it forever
    columns = None if reported_columns() else COLUMNS  # tqdm writes empty lines where the terminal reports 0
    return tqdm(
        total=total,
        initial=done,
        desc=title,
        unit=unit,
        disable=True if os.environ.get("TERM") == "dumb" else None,
        ncols=columns,
        nrows=None if columns is None else 24,
        dynamic_ncols=columns is None,
    )


def reported_columns() -> int:
    """The columns of the terminal behind standard error; 0 where there is none, or where it does not say."""
    try:
        return os.get_terminal_size(sys.stderr.fileno()).columns
    except (OSError, ValueError, AttributeError):  # no terminal, or an object in place of the file
        return 0


class BesideBars(logging.StreamHandler[TextIO]):
    """Log messages on standard error, above the bars that are shown at the time."""

    def emit(self, record: logging.LogRecord) -> None:
        bars = sys.modules.get("tqdm")
        if bars is None:
            super().emit(record)
            return
        with bars.tqdm.external_write_mode(file=self.stream):
            super().emit(record)
