"""Several folds at the same time, each in a process of its own: a fold that fails or is killed does not stop the others."""

import logging
import multiprocessing
from collections import deque
from collections.abc import Sequence
from multiprocessing.connection import Connection, wait

from unetrpp.core.machine import available_memory
from unetrpp.core.parallel import prepare_workers
from unetrpp.plans.plans import Configuration
from unetrpp.trainers.fold_process import FoldProcess, FoldTask

LOG = logging.getLogger(__name__)
PROCESS_BYTES = 10**9  # that a process needs beside its training step: libraries, patches, a volume at validation


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
        self.running: dict[Connection, FoldProcess] = {}
        self.context = multiprocessing.get_context(prepare_workers(["unetrpp.trainers.fold_process"]))
        self.share = self.context.Value("i", threads, lock=False)
        self.failures: dict[int | str, str] = {}

    def run(self, tasks: Sequence[FoldTask]) -> dict[int | str, str]:
        """Train all of them; returns the error of every fold that failed.

        Raises:
            KeyboardInterrupt: after every fold has saved its state.
        """
        waiting = deque(tasks)
        try:
            while waiting or self.running:
                count = min(len(waiting), len(self.free))
                self.share.value = max(1, self.threads // (len(self.running) + count))
                for _ in range(count):
                    self._start(waiting.popleft())
                for channel in wait(list(self.running)):
                    self._receive(channel)  # type: ignore[arg-type]  # only connections were given
        except KeyboardInterrupt:
            self._stop()
            raise
        return self.failures

    def _start(self, task: FoldTask) -> None:
        position, device = self.free.popleft()
        process = FoldProcess(task.on(device), position, self.share, self.context)
        self.running[process.channel] = process

    def _receive(self, channel: Connection) -> None:
        process = self.running[channel]
        if process.receive():
            return
        del self.running[channel]
        self.free.append((process.position, process.device))
        if process.failure is not None:
            self.failures[process.fold] = process.failure
            LOG.error("fold %s failed: %s", process.fold, process.failure)

    def _stop(self) -> None:
        """Let every fold save and end; when interrupted again, end them at once."""
        LOG.info("the folds save and end; Ctrl-C again ends them at once")
        for process in self.running.values():
            process.ask_to_stop()
        try:
            while self.running:
                for channel in wait(list(self.running)):
                    self._receive(channel)  # type: ignore[arg-type]
        except KeyboardInterrupt:
            for process in self.running.values():
                process.kill()
            raise
