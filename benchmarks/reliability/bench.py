"""Running commands in forked children of a process that has everything imported, always in the same folder."""

import importlib
import json
import os
import pkgutil
import signal
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch

import unetrpp
from benchmarks.reliability.interruption import Watch, install

LATE = ("torch._dynamo", "acvl_utils.morphology.morphology_helper")  # imported at their first use, which takes seconds
STARTED = b"."
FAILED = 70  # exit status of a child that could not run the command


def import_everything() -> None:
    """Import all that a command may import, so that a forked child starts at once."""
    for module in pkgutil.walk_packages(unetrpp.__path__, "unetrpp."):
        try:
            importlib.import_module(module.name)
        except ImportError:  # of an extra that is not installed
            continue
    for name in LATE:
        importlib.import_module(name)
    torch.set_num_threads(1)


def without_workers() -> None:
    """Measure and preprocess cases in this process, for whose files and limits the campaigns look."""
    from unetrpp.inference.executors import SynchronousExecutor
    from unetrpp.planners import pipeline, workers

    for module in (workers, pipeline):  # otherwise the command starts a process that imports all for its workers
        setattr(module, "start_method", lambda: "spawn")  # noqa: B010
    setattr(pipeline, "new_pool", lambda *_: SynchronousExecutor())  # noqa: B010


@dataclass
class Bench:
    """Commands run in ``root / place``, because some files hold its path. ``problems`` are what went wrong."""

    root: Path
    problems: list[str] = field(default_factory=list)

    @property
    def place(self) -> Path:
        return self.root / "place"

    @property
    def said(self) -> str:
        """What the last command printed."""
        return (self.root / "log").read_text()

    def report(self, problem: str) -> None:
        self.problems.append(problem)
        print(problem, file=sys.stderr, flush=True)

    def start(self, arguments: Sequence[str], watch: Watch | None = None, *, workers: bool = False) -> tuple[int, int]:
        """Id of a child that runs the command, and a pipe from it: a byte when it starts, then its events.

        Without ``workers`` the cases of a dataset are measured and preprocessed in the child itself, whose events are watched.
        """
        sys.stdout.flush()
        sys.stderr.flush()
        ours, theirs = os.pipe()
        child = os.fork()
        if child:
            os.close(theirs)
            return child, ours
        code = FAILED
        try:
            os.close(ours)
            code = self._in_child(arguments, watch, theirs, workers)
        finally:
            os._exit(code)

    def _in_child(self, arguments: Sequence[str], watch: Watch | None, pipe: int, workers: bool) -> int:
        from unetrpp.__main__ import main
        from unetrpp.inference import record
        from unetrpp.trainers import trainer

        log = os.open(self.root / "log", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(log, 1)
        os.dup2(log, 2)
        os.chdir(self.place)
        signal.signal(signal.SIGINT, signal.default_int_handler)  # shells let their background jobs ignore it
        record.RECORD_SECONDS = trainer.SAVE_SECONDS = 0.0  # save after every case and step, not every few seconds
        if not workers:
            without_workers()
        if watch:
            install(watch)
        os.write(pipe, STARTED)
        try:
            code = main(arguments)
        except SystemExit as end:
            code = int(end.code or 0)
        for number in (signal.SIGINT, signal.SIGTERM):  # the command is done
            signal.signal(number, signal.SIG_IGN)
        sys.stdout.flush()
        sys.stderr.flush()
        if watch:
            os.write(pipe, json.dumps([watch.events, watch.missed]).encode())
        return code

    def run(self, arguments: Sequence[str], watch: Watch | None = None) -> int:
        """Exit status of a command that runs to its end; negative where a signal ended it."""
        child, pipe = self.start(arguments, watch)
        code = ended(child)
        os.close(pipe)
        return code

    def stop(self, arguments: Sequence[str], number: signal.Signals, seconds: float) -> int:
        """The same for a command that gets a signal ``seconds`` after it started."""
        child, pipe = self.start(arguments)
        os.read(pipe, 1)
        time.sleep(seconds)
        os.kill(child, number)
        code = ended(child)
        os.close(pipe)
        return code

    def count(self, arguments: Sequence[str]) -> tuple[list[str], float]:
        """The events of an undisturbed run, and its seconds without their count.

        Raises:
            RuntimeError: the command fails, or changes files past the watch.
        """
        child, pipe = self.start(arguments, Watch(self.place))
        start = time.monotonic()
        with os.fdopen(pipe, "rb") as file:
            reported = file.read().removeprefix(STARTED)
        seconds = time.monotonic() - start
        code = ended(child)
        if code:
            raise RuntimeError(f"{' '.join(arguments)} ends with {code}:\n{self.said}")
        events, missed = json.loads(reported)
        if missed:
            raise RuntimeError(f"{' '.join(arguments)} changes files past the watch: {missed}")
        return events, seconds


def ended(child: int) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
