"""Commands that run into limits of the system: disk, memory, sizes and numbers of files, permissions.

    python -m benchmarks.reliability.limits [--commands convert train ...] [--limits memory ...] [--levels 5]

Each command runs in a forked child of this process, which has everything imported, under one limit at several levels. It must end
with an exit code other than 0 and one sentence that says what to do, no traceback and no signal. All that was there before must
still be there, as it was or as the command leaves it, and every new file must be whole. Then the limit is lifted, and the same
command must end as if nothing had been. A limit that was not met counts as an undisturbed run. A full disk is a small tmpfs, which
only root can mount; permissions need no other user, because the child gives up root's right to pass over them.
"""

import argparse
import gzip
import json
import os
import select
import signal
import subprocess
import sys
import tempfile
import time
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import blosc2
import numpy as np
import torch
from PIL import Image

from benchmarks.reliability.bench import import_everything, without_workers
from benchmarks.reliability.commands import COMMANDS, MODEL, Command, write_sources
from benchmarks.reliability.trees import content, restore
from benchmarks.reliability.trials import COLUMNS, Trial, trials

SECONDS = 120  # after which a run hangs
DISK_BYTES = 64 << 20
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

    def report(self, problem: str) -> None:
        self.problems.append(problem)
        print(problem, file=sys.stderr, flush=True)

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

        os.chdir(self.place)
        without_workers()
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


def judge(bench: Bench, command: Command, trial: Trial, before: dict[str, str], after: dict[str, str]) -> list[str]:
    """The faults of a command under a limit and of the same command afterwards."""
    with trial.around():
        run = bench.run(command.arguments, trial.limit)
    found = content(bench.place)
    lost = [path for path in before if path not in found and path in after and "--overwrite" not in command.arguments]
    lost += [
        path
        for path, value in found.items()
        if value not in (before.get(path), after.get(path)) and not whole(bench.place / path)
    ]
    again = bench.run(command.arguments)
    differing = _differing(content(bench.place), after)
    counts = {
        "hangs": run.code is None,
        "ended by a signal": run.code is not None and run.code < 0,
        "exit code 0": run.code == 0 and found != after,
        "traceback": "Traceback" in run.said,
        "no sentence": (run.code or 0) > 0 and not any(words in run.said for words in REPAIRS),
        "lost or half a file": bool(lost),
        # What was done already may be refused the second time, such as an import.
        "differs afterwards": bool(differing) or (again.code != 0 and found != after),
    }
    faults = [name for name in FAULTS if counts[name]]
    if faults:
        said = [line for line in run.said.splitlines() if line.strip()][-3:]
        bench.report(
            f"{' '.join(command.arguments[:3])}, {trial.name}: {', '.join(faults)}; exit {run.code}, {said}; lost {lost[:3]}; "
            f"differing then {_differing(found, after)[:3] if run.code == 0 else '-'}; exit {again.code} afterwards, "
            f"differing {differing[:3]}"
        )
    return faults


def _differing(found: dict[str, str], wanted: dict[str, str]) -> list[str]:
    return sorted(path for path in {*found, *wanted} if found.get(path) != wanted.get(path))


def whole(path: Path) -> bool:
    """Whether a file can be read to its end as what its name says; hidden ones are temporary."""
    if path.name.startswith(".") or any(part.startswith(".") for part in path.parts) or path.is_dir():
        return True
    raw = path.read_bytes()
    try:
        if path.suffix == ".gz":
            gzip.decompress(raw)
        elif path.suffix == ".jsonl":  # a line an epoch, so none at first
            return all(json.loads(line) for line in raw.splitlines())
        elif path.suffix in (".json", ".csv", ".html", ".md"):
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
        (column, trial) for column in columns for trial in trials(column, bench.place, command, (before, after), levels)
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
    arguments, start = parser.parse_args(), time.monotonic()
    if hasattr(os, "sched_setaffinity"):  # one core, so that commands start no worker processes by themselves
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    import_everything()
    np.linalg.inv(np.eye(300))  # OpenBLAS ends the process by itself where it gets no memory at its first use
    counts, problems = campaign(arguments.commands, arguments.limits, arguments.levels)
    print(table(counts, arguments.limits))
    print(f"\n{time.monotonic() - start:.0f} s, {sum(os.times()[:4]):.0f} CPU seconds")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
