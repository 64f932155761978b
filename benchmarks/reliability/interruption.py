"""Ending a process with SIGKILL at a chosen file-system event: before it, in the middle of a write, or after it.

Everything happens in the process that calls :func:`install`, by wrapping the functions of Python that change files. Libraries
that write by themselves (PyTorch, SimpleITK) are covered by the calls that start them, and by cutting what they wrote in half
where it is flushed to disk.
"""

import builtins
import io
import os
import shutil
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

BEFORE, HALF, AFTER = "before", "half", "after"
WITH_PATH = ("rename", "replace", "remove", "unlink", "mkdir", "rmdir", "link", "symlink", "utime", "truncate")
AUDITED = ("os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.link", "os.symlink", "os.utime", "os.truncate")


def kill() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


class Watch:
    """Counts the events below ``root``, and ends the process at event number ``at`` (from 1) on its ``side``."""

    def __init__(self, root: Path, at: int = 0, side: str = BEFORE):
        self.root, self.at, self.side = root.resolve(), at, side
        self.events: list[str] = []
        self.missed: list[str] = []  # changes that Python announces but no wrapper has seen
        self.lock, self.local = threading.Lock(), threading.local()

    def inside(self, path: object) -> bool:
        if isinstance(path, int):
            path = Path(f"/proc/self/fd/{path}").readlink()
        if not isinstance(path, str | bytes | os.PathLike):
            return False
        place = Path(os.fsdecode(path)).absolute()
        # A lock ends with its process, whatever its file holds.
        return self.root in place.parents and place.suffix != ".lock"

    @contextmanager
    def event(
        self, kind: str, path: object, half: Callable[[], object] | None = None, *, changes: bool = True
    ) -> Iterator[None]:
        """One event, if it ``changes`` something; events within it, such as a library's own writing, are not counted again.

        ``half`` does half of it.
        """
        if getattr(self.local, "busy", False) or not self.inside(path):
            yield
            return
        with self.lock:
            self.events += [kind] * changes
            now = self.side if changes and len(self.events) == self.at else ""
        if now == BEFORE:
            kill()
        if now == HALF and half is not None:
            half()
            kill()
        self.local.busy = True
        try:
            yield
        finally:
            self.local.busy = False
            if now:
                kill()

    def audit(self, name: str, arguments: tuple[Any, ...]) -> None:
        """Note a change that comes past the wrappers."""
        writes = name == "open" and isinstance(arguments[2], int) and arguments[2] & (os.O_WRONLY | os.O_RDWR)
        if not (writes or name in AUDITED) or getattr(self.local, "busy", False):
            return
        directory = arguments[-1] if name in ("os.remove", "os.rmdir") else -1
        if directory == -1 and self.inside(arguments[0]):
            self.missed.append(f"{name} {arguments[0]!r}")


class WatchedFile:
    """A file that is open for writing; each write is an event."""

    def __init__(self, file: Any, watch: Watch, path: object):
        self.__dict__.update(file=file, watch=watch, path=path)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.file, name)

    def __setattr__(self, name: str, value: object) -> None:
        setattr(self.file, name, value)

    def __enter__(self) -> "WatchedFile":
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def __iter__(self) -> Iterator[Any]:
        return iter(self.file)

    def write(self, content: Any) -> Any:
        def half() -> None:
            self.file.write(content[: len(content) // 2])
            self.file.flush()

        with self.watch.event("write", self.path, half):
            written = self.file.write(content)
            self.file.flush()
        return written

    def close(self) -> None:
        self.file.close()  # changes nothing, because every write is flushed


def install(watch: Watch) -> None:
    """Watch this process from now on."""
    for name in WITH_PATH:
        setattr(os, name, _with_path(watch, name, getattr(os, name)))
    os.fsync = _fsync(watch, os.fsync)
    shutil.rmtree = _whole(watch, "rmtree", shutil.rmtree, 0, nested=True)
    io.open = builtins.open = _open(watch, io.open)
    import SimpleITK as sitk
    import torch

    torch.save = _whole(watch, "torch.save", torch.save, 1)
    sitk.WriteImage = _whole(watch, "WriteImage", sitk.WriteImage, 1)
    sys.addaudithook(watch.audit)


def _with_path(watch: Watch, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
    def watched(path: Any, *others: Any, **options: Any) -> Any:
        directory = options.get("dir_fd")
        place = path if directory is None else Path(f"/proc/self/fd/{directory}").readlink() / path
        # Making what exists, or removing what does not, changes nothing.
        with watch.event(name, place, changes=(name == "mkdir") != os.path.lexists(place)):
            return function(path, *others, **options)

    return watched


def _fsync(watch: Watch, function: Callable[[int], None]) -> Callable[[int], None]:
    truncate = os.ftruncate

    def watched(file: int) -> None:
        with watch.event("fsync", file, lambda: truncate(file, os.fstat(file).st_size // 2)):
            function(file)

    return watched


def _whole(
    watch: Watch, kind: str, function: Callable[..., Any], place: int, *, nested: bool = False
) -> Callable[..., Any]:
    """A function that writes the file ``arguments[place]``, as one event; or with ``nested``, as many."""

    def watched(*arguments: Any, **options: Any) -> Any:
        target = arguments[place]
        with watch.event(kind, getattr(target, "path", target)):
            watch.local.busy = not nested and getattr(watch.local, "busy", False)
            return function(*arguments, **options)

    return watched


def _open(watch: Watch, function: Callable[..., Any]) -> Callable[..., Any]:
    def watched(file: Any, mode: str = "r", *others: Any, **options: Any) -> Any:
        if not set(mode) & set("wax+") or not watch.inside(file):
            return function(file, mode, *others, **options)
        with watch.event("open", file):
            opened = function(file, mode, *others, **options)
        return WatchedFile(opened, watch, file)

    return watched
