"""What C code prints, for libraries that say only so that a file is broken."""

import ctypes
import os
import re
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from typing import IO

_ONE_AT_A_TIME = threading.Lock()


@contextmanager
def native_output(pattern: re.Pattern[bytes]) -> Iterator[list[str]]:
    """Collects the lines of this pattern that are printed meanwhile to stdout or stderr, filled at the end.

    All others, such as those of another thread, are passed on then.
    """
    found: list[str] = []
    with _ONE_AT_A_TIME, ExitStack() as stack:
        for descriptor in (1, 2):
            stack.enter_context(_redirected(descriptor, pattern, found))
        yield found


@contextmanager
def _redirected(descriptor: int, pattern: re.Pattern[bytes], found: list[str]) -> Iterator[None]:
    with tempfile.TemporaryFile() as file:
        _flush()
        try:
            kept = os.dup(descriptor)
        except OSError:  # closed, as a service may have it
            yield
            return
        os.dup2(file.fileno(), descriptor)
        try:
            yield
        finally:
            _flush()
            os.dup2(kept, descriptor)
            os.close(kept)
            _sort(file, descriptor, pattern, found)


def _sort(file: IO[bytes], descriptor: int, pattern: re.Pattern[bytes], found: list[str]) -> None:
    file.seek(0)
    printed = file.read()
    found += [match[0].decode(errors="replace").strip() for match in pattern.finditer(printed)]
    if others := pattern.sub(b"", printed):
        os.write(descriptor, others)


def _flush() -> None:
    """Python's buffers and C's."""
    for stream in (sys.stdout, sys.stderr):
        if stream is not None:
            with suppress(OSError, ValueError):  # a closed one
                stream.flush()
    ctypes.CDLL("ucrtbase" if sys.platform == "win32" else None).fflush(None)
