"""Checkpoints written by a thread while training goes on."""

from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Any

from unetrpp.core.devices import HostCopy
from unetrpp.model import checkpoint

MOST_WAITING = 2  # an epoch may end with `best` and `latest`; each waiting one takes the memory of its tensors


class Saver:
    """Writes checkpoints one after the other, in the order in which they were given; leaving it waits for all of them.

    What is written are the values of the moment when :meth:`save` was called, whatever the training does to the tensors
    afterwards. After a write that failed nothing more is written, so no checkpoint is newer than one that is missing.
    """

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="checkpoints")
        self._waiting: deque[Future[None]] = deque()
        self._failed = False

    def save(self, path: Path, content: dict[str, Any]) -> None:
        """Copy ``content`` and return; it waits only where ``MOST_WAITING`` checkpoints are not written yet.

        Raises:
            OSError: an earlier checkpoint could not be written.
        """
        self.check()
        while len(self._waiting) >= MOST_WAITING:
            self._waiting.popleft().result()
        self._waiting.append(self._thread.submit(self._write, path, HostCopy(content)))

    def check(self) -> None:
        """
        Raises:
            OSError: a checkpoint could not be written.
        """
        while self._waiting and self._waiting[0].done():
            self._waiting.popleft().result()

    def wait(self) -> None:
        """Return when everything is on disk.

        Raises:
            OSError: a checkpoint could not be written.
        """
        while self._waiting:
            self._waiting.popleft().result()

    def __enter__(self) -> "Saver":
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._thread.shutdown()
        self.wait()

    def _write(self, path: Path, copied: HostCopy) -> None:
        if self._failed:
            return
        try:
            checkpoint.save(path, copied.get())
        except BaseException:
            self._failed = True
            raise
