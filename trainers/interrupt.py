"""Ctrl-C and SIGTERM during training: recorded when they arrive, handled between two steps."""

import signal
import threading
import time
from collections.abc import Callable
from types import FrameType, TracebackType

SAME_SECONDS = 1.0
Handler = Callable[[int, FrameType | None], object] | int | None


class StopRequest:
    """While entered, the first SIGINT or SIGTERM sets ``requested``; one that comes later than ``SAME_SECONDS`` stops at once.

    A batch system may signal every process of a group, and a process its children: that is one request.

    Python delivers signals to the main thread only; in another thread ``requested`` stays False. A signal that the process
    ignores stays ignored.
    """

    def __init__(self) -> None:
        self.requested = False
        self._first = 0.0
        self._before: dict[signal.Signals, Handler] = {}

    def __enter__(self) -> "StopRequest":
        if threading.current_thread() is threading.main_thread():
            heeded = [n for n in (signal.SIGINT, signal.SIGTERM) if signal.getsignal(n) != signal.SIG_IGN]
            self._before = {number: signal.signal(number, self._note) for number in heeded}
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _note(self, number: int, frame: FrameType | None) -> None:
        if not self.requested:
            self.requested, self._first = True, time.monotonic()
        elif time.monotonic() - self._first > SAME_SECONDS:
            raise KeyboardInterrupt
