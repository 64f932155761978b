"""Several folds at the same time, each in a process of its own: a fold that fails or is killed does not stop the others."""

import logging
import multiprocessing
from collections import deque
from collections.abc import Sequence
from multiprocessing.connection import wait

from unetrpp.core.machine import available_memory
from unetrpp.core.parallel import prepare_workers
from unetrpp.plans.plans import Configuration
from unetrpp.trainers.fold_process import FoldProcess, FoldTask
from unetrpp.trainers.interrupt import StopRequest

LOG = logging.getLogger(__name__)
PROCESS_BYTES = 10**9  # that a process needs beside its training step: libraries, patches, a volume at validation

LOOK_SECONDS = 0.5  # between two looks whether a stop was requested


def cpu_places(configuration: Configuration, folds: int, threads: int, compute_threads: int | None) -> list[str]:
    """ "cpu" as often as ``folds`` can be trained there at the same time, with one thread each or as many as are asked for.

    Args:
        threads: that compute in all; about one per core.
    """
    by_memory = available_memory() // (configuration.training_memory_bytes + PROCESS_BYTES)
    return ["cpu"] * max(1, min(folds, threads // (compute_threads or 1), by_memory))


class SideBySide:
    """Runs every task at the first place that is free.

    Args:
        places: devices, one for each fold that is trained at a time; several places may be on one device.
        threads: that compute in all where the places are on the CPU. They are divided among the folds that run.
    """

    def __init__(self, places: Sequence[str], threads: int):
        self.free, self.threads = deque(enumerate(places)), threads
        self.running: list[FoldProcess] = []
        self.context = multiprocessing.get_context(prepare_workers(["unetrpp.trainers.fold_process"]))
        self.share = self.context.Value("i", threads, lock=False)
        self.failures: dict[int | str, str] = {}
        self.stopping = False

    def run(self, tasks: Sequence[FoldTask]) -> dict[int | str, str]:
        """Train all of them; returns the error of every fold that failed.

        Raises:
            KeyboardInterrupt: a stop was requested, and every fold has saved its state. A second request ends them at once.
        """
        waiting = deque(tasks)
        try:
            with StopRequest() as stop:
                while self.running or (waiting and not stop.requested):
                    if not stop.requested:
                        self._start_next(waiting)
                    ready = self._ready()
                    if stop.requested:
                        self._ask_to_stop()
                    for process in ready:
                        self._receive(process)
        except BaseException:
            for process in self.running:
                process.end_now()
            raise
        if stop.requested:
            raise KeyboardInterrupt
        return self.failures

    def _start_next(self, waiting: deque[FoldTask]) -> None:
        """Start a fold at every free place, and divide the cores among those that run."""
        count = min(len(waiting), len(self.free))
        self.share.value = max(1, self.threads // (len(self.running) + count))
        for _ in range(count):
            position, device = self.free.popleft()
            process = FoldProcess(waiting.popleft().on(device), position, self.share, self.context)
            self.running.append(process)

    def _ready(self) -> list[FoldProcess]:
        """The processes that have sent something or have ended; waits for the first, but not long."""
        ends = {end: process for process in self.running for end in (process.channel, process.process.sentinel)}
        found = {ends[end] for end in wait(list(ends), LOOK_SECONDS)}  # type: ignore[index]  # of those that were given
        return [process for process in self.running if process in found]

    def _receive(self, process: FoldProcess) -> None:
        if process.receive():
            return
        self.running.remove(process)
        self.free.append((process.position, process.device))
        if process.failure is not None:
            self.failures[process.fold] = process.failure
            LOG.error("fold %s failed: %s", process.fold, process.failure)

    def _ask_to_stop(self) -> None:
        if not self.stopping:
            LOG.info("the folds save and end; Ctrl-C again ends them at once")
            for process in self.running:
                process.ask_to_stop()
        self.stopping = True
