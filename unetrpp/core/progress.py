"""Progress bars on terminals of every kind, and log messages that do not tear them."""

import logging
import os
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from types import TracebackType
from typing import TYPE_CHECKING, Protocol, TextIO

if TYPE_CHECKING:  # tqdm is imported with the first bar, as --help imports this module
    from tqdm import tqdm

COLUMNS = 79  # where the terminal does not say how many it has
SENT_EVERY = 0.2  # seconds between two messages of a bar that another process shows


class Bar(Protocol):
    """What is used of a progress bar, tqdm's or one that another process shows."""

    disable: bool

    def __enter__(self) -> "Bar": ...
    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None: ...
    def update(self, n: int = 1) -> object: ...
    def set_postfix(self, shown: Mapping[str, str]) -> None: ...
    def close(self) -> None: ...


@dataclass(frozen=True)
class BarState:
    """A bar as another process shows it; ``total`` is 0 once it is closed."""

    title: str = ""
    total: int = 0
    unit: str = "case"
    done: int = 0
    shown: Mapping[str, str] = field(default_factory=dict)


_show_elsewhere: Callable[[BarState], object] | None = None


def show_bars_elsewhere(send: Callable[[BarState], object]) -> None:
    """From now on this process shows no bars; ``send`` gets them, for a process that calls :class:`ReceivedBar`."""
    global _show_elsewhere
    _show_elsewhere = send


def progress_bar(title: str, total: int, *, unit: str = "case", done: int = 0) -> Bar:
    """A bar on standard error that is as wide as the terminal, or one that another process shows.

    There is none, and ``disable`` of the bar is true, where standard error is no terminal, or a "dumb" one, which cannot
    overwrite a line.
    """
    state = BarState(title, total, unit, done)
    return SentBar(_show_elsewhere, state) if _show_elsewhere and _bars_are_shown() else _bar(state)


def _bars_are_shown() -> bool:
    return os.environ.get("TERM") != "dumb" and sys.stderr is not None and sys.stderr.isatty()


def _bar(state: BarState, position: int | None = None) -> "tqdm[None]":
    from tqdm import tqdm

    tqdm.monitor_interval = 0  # no thread of its own: if memory ends while a thread starts, Python waits for it forever
    columns = None if reported_columns() else COLUMNS  # tqdm writes empty lines where the terminal reports 0
    return tqdm(
        total=state.total,
        initial=state.done,
        desc=state.title,
        unit=state.unit,
        position=position,
        leave=position is None,  # where several bars share the terminal, a closed one makes room
        disable=not _bars_are_shown(),
        ncols=columns,
        nrows=None if columns is None else 24,
        dynamic_ncols=columns is None,
    )


class SentBar:
    """A bar that sends its state, a few times a second."""

    disable = False

    def __init__(self, send: Callable[[BarState], object], state: BarState):
        self.send, self.state, self.sent = send, state, -SENT_EVERY
        self._send()

    def __enter__(self) -> "SentBar":
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def update(self, n: int = 1) -> None:
        self.state = replace(self.state, done=self.state.done + n)
        if time.monotonic() - self.sent > SENT_EVERY or self.state.done >= self.state.total:
            self._send()

    def set_postfix(self, shown: Mapping[str, str]) -> None:
        self.state = replace(self.state, shown=shown)

    def close(self) -> None:
        self.state = BarState()
        self._send()

    def _send(self) -> None:
        self.send(self.state)
        self.sent = time.monotonic()


class ReceivedBar:
    """Shows the bars of another process, one after the other, in line ``position`` of the bars at the end of the terminal."""

    def __init__(self, position: int):
        self.position = position
        self.bar: tqdm[None] | None = None
        self.state = BarState()

    def show(self, state: BarState) -> None:
        """Show the bar as it is now; ``BarState()`` closes it."""
        before, self.state = self.state, state
        if self.bar is not None and (state.title, state.total) != (before.title, before.total):
            self.bar.close()
            self.bar = None
        if state.total == 0:
            return
        if self.bar is None:
            self.bar = _bar(state, self.position)
        self.bar.set_postfix(state.shown, refresh=False)
        self.bar.update(state.done - self.bar.n)


def reported_columns() -> int:
    """The columns of the terminal behind standard error; 0 where there is none, or where it does not say."""
    try:
        return os.get_terminal_size(sys.stderr.fileno()).columns
    except (OSError, ValueError, AttributeError):  # no terminal, or an object in place of the file
        return 0


class BesideBars(logging.StreamHandler[TextIO]):
    """Log messages on standard error, above the bars that are shown at the time; without what a bar shows itself."""

    def filter(self, record: logging.LogRecord) -> bool:
        return not getattr(record, "on_a_bar", False) and bool(super().filter(record))

    def emit(self, record: logging.LogRecord) -> None:
        bars = sys.modules.get("tqdm")
        if bars is None:
            super().emit(record)
            return
        with bars.tqdm.external_write_mode(file=self.stream):
            super().emit(record)
