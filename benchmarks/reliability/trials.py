"""The trials of the campaign of limits: what limits a command, at how many levels, and what is undone afterwards."""

import ctypes
import os
import resource
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TypeVar

from benchmarks.reliability.commands import Command

COLUMNS = ("disk full", "size of a file", "memory", "open files", "read-only folders", "permission denied")
CAPABILITIES = (1, 2, 3)  # CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH, CAP_FOWNER of linux/capability.h
T = TypeVar("T")


def obey_permissions() -> None:
    """Give up root's right to read and write what permissions forbid."""
    if os.geteuid():
        return
    libc = ctypes.CDLL(None, use_errno=True)
    header, data = (ctypes.c_uint32 * 2)(0x20080522, 0), (ctypes.c_uint32 * 6)()
    if libc.capget(header, data):
        raise OSError(ctypes.get_errno(), "capget")
    for capability in CAPABILITIES:
        for word in range(3):
            data[word] &= ~(1 << capability)
    if libc.capset(header, data):
        raise OSError(ctypes.get_errno(), "capset")


@dataclass(frozen=True)
class Trial:
    """One limit at one level: what the child does first, and what is changed around it and undone afterwards."""

    name: str
    limit: Callable[[], None] = lambda: None
    around: Callable[[], AbstractContextManager[None]] = nullcontext


def trials(
    kind: str, place: Path, command: Command, states: tuple[dict[str, str], dict[str, str]], levels: int
) -> Iterator[Trial]:
    """The trials of one column, for a command that makes the second of two ``states`` of the first."""
    before, after = states
    written = sorted(path for path, value in after.items() if before.get(path) != value and value != "folder")
    sizes = sorted((place / path).stat().st_size for path in written)
    total = sum(-(-size // 4096) * 4096 for size in sizes)
    if kind == "disk full":
        for left in _spread([total * n // 8 for n in range(7)], levels):
            yield Trial(f"{left} bytes left", around=partial(_filled, place, left))
    elif kind == "size of a file":
        for most in _spread([0, *(size - 1 for size in sizes if size)], levels):
            yield Trial(f"{most} bytes", partial(_limit, resource.RLIMIT_FSIZE, most))
    elif kind == "memory":
        for more in _spread([1 << n for n in range(20, 27)], levels):
            yield Trial(f"{more} bytes more", partial(_limit_memory, more))
    elif kind == "open files":
        for more in _spread([1, 2, 3, 4, 6, 9, 12], levels):
            yield Trial(f"{more} more", partial(_limit, resource.RLIMIT_NOFILE, 3 + more))
    elif kind == "read-only folders":
        folders = {_existing(before, Path(path).parent) for path in written}
        for chosen in _spread([*({name} for name in sorted(folders)), set(_folders(before))], levels):
            yield Trial(f"{sorted(chosen)[:3]}", obey_permissions, partial(_mode, place, chosen, 0o555))
    elif kind == "permission denied":
        for chosen in _spread(_named(command, before), levels):
            yield Trial(chosen, obey_permissions, partial(_mode, place, {chosen}, 0))


def _spread(values: Sequence[T], count: int) -> list[T]:
    """At most ``count`` of ``values``, evenly spread, with the first and the last."""
    last = len(values) - 1
    chosen = sorted({round(i * last / max(count - 1, 1)) for i in range(count)}) if values else []
    return [values[i] for i in chosen]


def _named(command: Command, before: dict[str, str]) -> list[str]:
    """Files and folders that the arguments name, and those in them."""
    names = {argument.rpartition("=")[2] for argument in command.arguments}
    return sorted(path for path in before if names & {path, *map(str, Path(path).parents)})


def _existing(before: dict[str, str], folder: Path) -> str:
    while str(folder) != "." and str(folder) not in before:
        folder = folder.parent
    return str(folder)


def _folders(before: dict[str, str]) -> list[str]:
    return [".", *(path for path, value in before.items() if value == "folder")]


def _limit(kind: int, value: int) -> None:
    resource.setrlimit(kind, (value, value))


def _limit_memory(more: int) -> None:
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    _limit(resource.RLIMIT_AS, pages * resource.getpagesize() + more)


@contextmanager
def _filled(place: Path, left: int) -> Iterator[None]:
    filler = place.parent / "filler"
    usage = os.statvfs(place)
    filler.write_bytes(bytes(max(usage.f_bavail * usage.f_frsize - left, 0)))
    try:
        yield
    finally:
        filler.unlink()


@contextmanager
def _mode(place: Path, names: set[str], mode: int) -> Iterator[None]:
    paths = [place / name for name in sorted(names, reverse=True)]
    modes = {path: path.stat().st_mode for path in paths}
    for path in paths:
        path.chmod(mode)
    try:
        yield
    finally:
        for path in reversed(paths):
            if path.exists():  # the command may have replaced it
                path.chmod(modes[path])
