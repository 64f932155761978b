"""Commands that run into limits of the system: disk, memory, sizes and numbers of files, permissions.

    python -m benchmarks.reliability.limits [--commands convert train ...] [--limits memory ...] [--levels 5]

Each command runs in a forked child of this process, which has everything imported, under one limit at several levels. It must end
with an exit code other than 0 and one sentence that says what to do, no traceback and no signal. All that was there before must
still be there, as it was or as the command leaves it, and every new file must be whole. Then the limit is lifted, and the same
command must end as if nothing had been. A limit that was not met counts as an undisturbed run. A full disk is a small tmpfs, which
only root can mount; permissions need no other user, because the child gives up root's right to pass over them.
"""

import argparse
import ctypes
import gzip
import importlib
import json
import os
import pkgutil
import resource
import select
import signal
import subprocess
import sys
import tempfile
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TypeVar

import blosc2
import numpy as np
import torch
from PIL import Image

import unetrpp
from benchmarks.reliability.commands import COMMANDS, MODEL, Command, write_sources
from benchmarks.reliability.trees import content, restore

SECONDS = 120  # after which a run hangs
DISK_BYTES = 64 << 20
CAPABILITIES = (1, 2, 3)  # CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH, CAP_FOWNER of linux/capability.h
FAULTS = (
    "ended by a signal",
    "hangs",
    "traceback",
    "no sentence",
    "exit code 0",
    "lost or half a file",
    "differs afterwards",
)
REPAIRS = ("ulimit -", "free some space", "ask for the permission", "free space", "check its permissions")
REPORT = Command("report", ("report", MODEL, "-o", "report.html"))
ROWS = (*dict.fromkeys(command.row for command in COMMANDS if command.row), REPORT.row)


def import_everything() -> None:
    for module in pkgutil.walk_packages(unetrpp.__path__, "unetrpp."):
        try:
            importlib.import_module(module.name)
        except ImportError:  # of an extra that is not installed
            continue
    import torch

    torch.set_num_threads(1)
    np.linalg.inv(np.eye(300))  # OpenBLAS ends the process by itself where it gets no memory at its first use


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


@dataclass
class Run:
    """How a command ended: exit code (negative: a signal, None: it hung) and what it printed."""

    code: int | None
    said: str


@dataclass
class Bench:
    """Where the commands run: always in the same folder, because some files hold its path."""

    root: Path
    problems: list[str] = field(default_factory=list)

    @property
    def place(self) -> Path:
        return self.root / "disk" / "place"

    def run(self, arguments: Sequence[str], limit: Callable[[], None] = lambda: None) -> Run:
        """Run a command in a child that calls ``limit`` first. A pipe takes what it prints, for which no limit holds."""
        sys.stdout.flush()
        sys.stderr.flush()
        reader, writer = os.pipe()
        child = os.fork()
        if not child:
            code = 70
            try:
                os.dup2(writer, 1)
                os.dup2(writer, 2)
                os.closerange(3, max(reader, writer) + 1)
                sys.stdout, sys.stderr = os.fdopen(1, "w", closefd=False), os.fdopen(2, "w", closefd=False)
                code = self._in_child(arguments, limit)
            except BaseException as error:
                print("Traceback:", repr(error))
                sys.stdout.flush()
            finally:
                os._exit(code)
        os.close(writer)
        said, hung = b"", False
        while not hung and (piece := os.read(reader, 1 << 16) if _answers(reader) else None) != b"":
            hung = piece is None
            said += piece or b""
        if hung:
            os.kill(child, signal.SIGKILL)
        os.close(reader)
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        return Run(None if hung else code, said.decode(errors="replace"))

    def _in_child(self, arguments: Sequence[str], limit: Callable[[], None]) -> int:
        from unetrpp.__main__ import main
        from unetrpp.inference.executors import SynchronousExecutor
        from unetrpp.planners import pipeline

        os.chdir(self.place)
        in_this_process = {"new_pool": lambda *_: SynchronousExecutor(), "start_method": lambda: "spawn"}
        vars(pipeline).update(in_this_process)  # for which the limit holds
        limit()
        try:
            code = main(list(arguments))
        except SystemExit as end:
            code = int(end.code or 0)
        sys.stdout.flush()
        sys.stderr.flush()
        return code


def _answers(pipe: int) -> bool:
    return bool(select.select([pipe], [], [], SECONDS)[0])


@dataclass(frozen=True)
class Trial:
    """One limit at one level: what the child does first, and what is changed around it and undone afterwards."""

    name: str
    limit: Callable[[], None] = lambda: None
    around: Callable[[], AbstractContextManager[None]] = nullcontext


def trials(
    kind: str, bench: Bench, command: Command, states: tuple[dict[str, str], dict[str, str]], levels: int
) -> Iterator[Trial]:
    """The trials of one column, for a command that makes the second of two ``states`` of the first."""
    before, after = states
    written = sorted(path for path, value in after.items() if before.get(path) != value and value != "folder")
    sizes = sorted((bench.place / path).stat().st_size for path in written)
    total = sum(-(-size // 4096) * 4096 for size in sizes)
    if kind == "disk full":
        for left in _spread([total * n // 8 for n in range(7)], levels):
            yield Trial(f"{left} bytes left", around=partial(_filled, bench.place, left))
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
            yield Trial(f"{sorted(chosen)[:3]}", obey_permissions, partial(_mode, bench.place, chosen, 0o555))
    elif kind == "permission denied":
        for chosen in _spread(_named(command, before), levels):
            yield Trial(chosen, obey_permissions, partial(_mode, bench.place, {chosen}, 0))


COLUMNS = ("disk full", "size of a file", "memory", "open files", "read-only folders", "permission denied")
T = TypeVar("T")


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


def judge(bench: Bench, command: Command, trial: Trial, before: dict[str, str], after: dict[str, str]) -> list[str]:
    """The faults of a command under a limit and of the same command afterwards."""
    with trial.around():
        run = bench.run(command.arguments, trial.limit)
    found = content(bench.place)
    faults = []
    if run.code is None:
        faults.append("hangs")
    elif run.code < 0:
        faults.append("ended by a signal")
    elif found != after and not run.code:
        faults.append("exit code 0")
    if "Traceback" in run.said:
        faults.append("traceback")
    if run.code and run.code > 0 and not any(words in run.said for words in REPAIRS):
        faults.append("no sentence")
    gone = [path for path in before if path not in found and path in after and "--overwrite" not in command.arguments]
    halves = [
        path
        for path, value in found.items()
        if value not in (before.get(path), after.get(path)) and not whole(bench.place / path)
    ]
    if gone or halves:
        faults.append("lost or half a file")
    again = bench.run(command.arguments)
    final = content(bench.place)
    differing = sorted(path for path in {*final, *after} if final.get(path) != after.get(path))
    if again.code or differing:
        faults.append("differs afterwards")
    if faults:
        said = [line for line in run.said.splitlines() if line.strip()][-3:]
        then = (
            sorted(path for path in {*found, *after} if found.get(path) != after.get(path))[:3] if not run.code else []
        )
        bench.problems.append(
            f"{' '.join(command.arguments[:3])}, {trial.name}: {', '.join(faults)}; exit {run.code}, {said}; "
            f"gone {gone[:3]}, half {halves[:3]}, differing then {then}, later {differing[:3]}; later exit {again.code}"
        )
        print(bench.problems[-1], file=sys.stderr, flush=True)
    return faults


def whole(path: Path) -> bool:
    """Whether a file can be read to its end as what its name says; hidden ones are temporary."""
    if path.name.startswith(".") or any(part.startswith(".") for part in path.parts) or path.is_dir():
        return True
    raw = path.read_bytes()
    try:
        if path.suffix == ".gz":
            gzip.decompress(raw)
        elif path.suffix in (".json", ".csv", ".html", ".md", ".jsonl"):
            return bool(raw) and (path.suffix != ".json" or bool(json.loads(raw)))
        elif path.suffix == ".png":
            Image.open(path).load()
        elif path.suffix == ".zip":
            return zipfile.ZipFile(path).testzip() is None
        elif path.suffix == ".pt":
            torch.load(path, weights_only=True)
        elif path.suffix == ".b2nd":
            blosc2.open(str(path), mode="r")[:]
    except Exception:
        return False
    return True


def try_limits(bench: Bench, command: Command, columns: Sequence[str], levels: int) -> Counter[tuple[str, str]]:
    """The counts of one command, which has been made to run to its end in ``bench.place`` afterwards."""
    state = bench.root / "state"
    restore(bench.place, state)
    before = content(bench.place)
    run = bench.run(command.arguments)
    if run.code:
        raise RuntimeError(f"{command.arguments} failed:\n{run.said}")
    after, counts = content(bench.place), Counter[tuple[str, str]]()
    everything = [
        (column, trial) for column in columns for trial in trials(column, bench, command, (before, after), levels)
    ]
    for column, trial in everything:
        restore(state, bench.place)
        faults = judge(bench, command, trial, before, after)
        counts += Counter({(column, "trials"): 1, (column, "faults"): len(faults)})
    restore(state, bench.place)
    bench.run(command.arguments)
    return counts


@contextmanager
def small_disk(folder: Path) -> Iterator[bool]:
    """A tmpfs at ``folder``; False where it cannot be mounted."""
    folder.mkdir()
    size = f"size={DISK_BYTES}"
    mounted = (
        subprocess.run(["mount", "-t", "tmpfs", "-o", size, "tmpfs", str(folder)], capture_output=True).returncode == 0
    )
    try:
        yield mounted
    finally:
        if mounted:
            subprocess.run(["umount", "-l", str(folder)], check=True)


def campaign(
    rows: Sequence[str], columns: Sequence[str], levels: int
) -> tuple[dict[str, Counter[tuple[str, str]]], list[str]]:
    """The counts of every row, and what went wrong."""
    counts: dict[str, Counter[tuple[str, str]]] = {}
    with tempfile.TemporaryDirectory() as folder, small_disk(Path(folder) / "disk") as mounted:
        bench = Bench(Path(folder))
        bench.place.mkdir()
        write_sources(bench.place)
        possible = [column for column in columns if mounted or column != "disk full"]
        commands = [*COMMANDS, REPORT]
        last = max(number for number, command in enumerate(commands) if command.row in rows)
        for command in commands[: last + 1]:
            if command.row in rows:
                counts.setdefault(command.row, Counter()).update(try_limits(bench, command, possible, levels))
            elif (run := bench.run(command.arguments)).code:
                raise RuntimeError(f"{command.arguments} failed:\n{run.said}")
    return counts, bench.problems


def table(counts: dict[str, Counter[tuple[str, str]]], columns: Sequence[str]) -> str:
    """Markdown: a row a command and their sum; each cell has the faults of so many trials."""
    rows = [("command", *columns), ("---",) + ("---:",) * len(columns)]
    for name, count in {**counts, "all": sum(counts.values(), Counter())}.items():
        cells = (f"{count[c, 'faults']} of {count[c, 'trials']}" if count[c, "trials"] else "-" for c in columns)
        rows.append((name, *cells))
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--commands", nargs="+", choices=ROWS, default=ROWS, metavar="NAME", help=", ".join(ROWS))
    parser.add_argument(
        "--limits", nargs="+", choices=COLUMNS, default=COLUMNS, metavar="NAME", help=", ".join(COLUMNS)
    )
    parser.add_argument("--levels", type=int, default=5, help="of each limit, for each command line")
    arguments = parser.parse_args()
    if hasattr(os, "sched_setaffinity"):  # one core, so that commands start no worker processes by themselves
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    import_everything()
    counts, problems = campaign(arguments.commands, arguments.limits, arguments.levels)
    print(table(counts, arguments.limits))
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
