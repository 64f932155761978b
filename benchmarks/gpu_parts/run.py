"""Runs the parts: on a GPU each in a process of its own, so that none can break the next, on a CPU in this one.

A part's process reads its task from standard input and writes its rows to standard output, one JSON object a line. Where
it dies, what is left of the part goes on in a new one.
"""

import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import IO

import msgspec
import psutil

from benchmarks.gpu_parts.cells import Part, Row, Setting, run_cells, without_folders

ROOT = Path(__file__).resolve().parent.parent.parent
SPARE_S = 60.0  # beyond its share of the time, before a part is stopped: a compiler cannot be interrupted
Runner = Callable[[Part, Sequence[str], Setting, float], Iterator[Row]]


class Task(msgspec.Struct):
    """What a part's process is given."""

    part: str
    cells: list[str]
    seconds: float
    setting: Setting


def run_parts(parts: Sequence[Part], setting: Setting, seconds: float, runner: Runner) -> Iterator[Row]:
    """All parts; each gets its share of the time that is left, and every cell a row."""
    end = time.monotonic() + seconds
    for i, part in enumerate(parts):
        weight = part.weight / sum(other.weight for other in parts[i:])
        yield from run_part(part, setting, (end - time.monotonic()) * weight, runner)


def run_part(part: Part, setting: Setting, seconds: float, runner: Runner) -> Iterator[Row]:
    end = time.monotonic() + seconds
    left = [cell.what for cell in part.cells(setting)]
    while left and time.monotonic() < end:
        try:
            for row in runner(part, tuple(left), setting, end - time.monotonic()):
                left.remove(row.what)
                yield row
        except PartStopped as stopped:
            yield Row(part.name, left.pop(0), {}, "failed", str(stopped))  # the cell that was being measured
    for what in left:
        yield Row(part.name, what, {}, "skipped", "no time left")


class PartStopped(Exception):
    """The process of a part died, or was stopped because it took too long."""


def here(part: Part, names: Sequence[str], setting: Setting, seconds: float) -> Iterator[Row]:
    """The cells of these names in this process."""
    return run_cells(part.name, [cell for cell in part.cells(setting) if cell.what in names], seconds)


def in_process(part: Part, names: Sequence[str], setting: Setting, seconds: float) -> Iterator[Row]:
    """The cells of these names in a new process, which is stopped where it takes much longer than ``seconds``.

    Raises:
        PartStopped: it ended early.
    """
    task = msgspec.json.encode(Task(part.name, list(names), seconds, setting), enc_hook=str)
    call = [sys.executable, "-m", "benchmarks.gpu_parts.run"]
    with tempfile.TemporaryFile() as errors:
        child = subprocess.Popen(call, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, cwd=ROOT)
        timer = threading.Timer(seconds + SPARE_S, stop, [child])
        end = time.monotonic() + seconds + SPARE_S
        timer.start()
        try:
            given, rows = _pipes(child)
            with rows:
                with given:
                    given.write(task)
                for line in rows:
                    yield msgspec.json.decode(line, type=Row)
            child.wait()
        finally:
            timer.cancel()
            stop(child)
        if child.returncode and time.monotonic() >= end:
            raise PartStopped(f"stopped after {seconds + SPARE_S:.0f} s")
        if child.returncode:
            raise PartStopped(f"its process ended with {child.returncode}: {last_line(errors)}")


def _pipes(child: subprocess.Popen[bytes]) -> tuple[IO[bytes], IO[bytes]]:
    assert child.stdin is not None
    assert child.stdout is not None
    return child.stdin, child.stdout


def stop(child: subprocess.Popen[bytes]) -> None:
    """End a part's process and those that it started: workers of preprocessing, compilers."""
    try:
        family = psutil.Process(child.pid)
        processes = [*family.children(recursive=True), family]
    except psutil.NoSuchProcess:
        return
    for process in processes:
        if process.is_running():
            process.kill()
    child.wait()


def last_line(errors: IO[bytes]) -> str:
    errors.seek(0)
    lines = [line for line in errors.read().decode("utf8", "replace").splitlines() if line.strip()]
    return without_folders(lines[-1])[:120] if lines else "no message"


def serve() -> None:
    """The part's process."""
    from benchmarks.gpu_parts.parts import BY_NAME

    rows = os.fdopen(os.dup(1), "wb", buffering=0)
    os.dup2(2, 1)  # what the measured code prints is no row
    task = msgspec.json.decode(sys.stdin.buffer.read(), type=Task, dec_hook=lambda kind, value: kind(value))  # paths
    for row in here(BY_NAME[task.part], task.cells, task.setting, task.seconds):
        rows.write(msgspec.json.encode(row) + b"\n")


if __name__ == "__main__":
    serve()
