"""One fold in a process of its own: the process itself, and its handle in the process that started it.

The two talk over a pipe. The fold's process sends log records, its progress bars and the error that ended it; it is told to
stop by a message, or because its parent is gone and the pipe with it.
"""

import _thread
import logging
import os
import signal
import sys
import threading
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection
from multiprocessing.context import BaseContext
from multiprocessing.process import BaseProcess
from pathlib import Path
from types import FrameType
from typing import Protocol

import torch

from unetrpp.core.devices import find_device, limit_threads
from unetrpp.core.errors import in_words
from unetrpp.core.lock import locked
from unetrpp.core.parallel import MessageSender
from unetrpp.core.progress import BarState, ReceivedBar, show_bars_elsewhere
from unetrpp.networks.cpu_kernels.allocator import keep_freed_memory
from unetrpp.trainers.config import TrainingConfig
from unetrpp.trainers.inputs import Machine
from unetrpp.trainers.job import Job
from unetrpp.trainers.one_fold import run_fold

LOG = logging.getLogger(__name__)
INTERRUPTED = 130  # exit code
PATIENCE_SECONDS = 3.0


class SharedNumber(Protocol):
    """An integer in memory that processes share (multiprocessing.Value)."""

    value: int


@dataclass(frozen=True)
class FoldTask:
    """What a fold's process is given."""

    job: Job
    config: TrainingConfig
    machine: Machine  # without cores, which each process knows itself
    log_level: int
    folds: int  # that are trained at the same time

    @classmethod
    def of(cls, job: Job, config: TrainingConfig, machine: Machine, folds: int) -> "FoldTask":
        """The task of one fold where ``folds`` are trained at the same time, which share the threads that read patches."""
        level = logging.getLogger("unetrpp").getEffectiveLevel()
        readers = machine.threads or max(1, machine.readers // folds)
        return cls(job, config, replace(machine, cores=None, threads=readers), level, folds)

    def on(self, device: str) -> "FoldTask":
        return replace(self, machine=replace(self.machine, device=find_device(device)))


@dataclass(frozen=True)
class Failure:
    """The error that ended a fold, in words."""

    text: str


class FoldProcess:
    """The handle of a fold that is trained in another process.

    Args:
        position: of its progress bar, in lines.
        cores: that the fold may use on a CPU, which the caller may change.
        context: of multiprocessing, that starts processes.
    """

    def __init__(self, task: FoldTask, position: int, cores: SharedNumber, context: BaseContext):
        self.fold, self.position, self.device = task.config.fold, position, str(task.machine.device)
        self.bar = ReceivedBar(position)
        self.failure: str | None = None
        self.asked = False  # to stop
        self.channel, theirs = context.Pipe()
        self.process: BaseProcess = context.Process(  # type: ignore[attr-defined]  # every context has it
            target=work, args=(task, theirs, cores), name=f"fold {self.fold}"
        )
        self.process.start()
        theirs.close()  # else the end of the process would not end the pipe

    def receive(self) -> bool:
        """Take one message if there is one; returns False once the process has ended and all messages are taken.

        Where a process that the fold started holds the pipe open, the pipe does not end with the fold.
        """
        try:
            if not self.channel.poll():
                if self.process.is_alive():
                    return True
                raise EOFError
            message = self.channel.recv()
        except (EOFError, OSError):
            self._end()
            return False
        if isinstance(message, BarState):
            self.bar.show(message)
        elif isinstance(message, Failure):
            self.failure = message.text
        else:
            logging.getLogger(message.name).handle(message)
        return True

    def _end(self) -> None:
        self.process.join()
        self.channel.close()
        self.bar.show(BarState())
        if self.failure is None and self.process.exitcode != 0 and not self.asked:
            self.failure = _unexplained(self.process.exitcode or 0)

    def ask_to_stop(self) -> None:
        """Ask the process to save its state and end."""
        self.asked = True
        with suppress(OSError):
            self.channel.send("stop")

    def end_now(self) -> None:
        """End the process without saving; it gets a moment to end processes of its own."""
        self.process.terminate()
        self.process.join(PATIENCE_SECONDS)
        self.process.kill()


def _unexplained(code: int) -> str:
    """What to say of a process that ended without a message."""
    if code == INTERRUPTED:
        return "its process was told to end by a signal, and saved its state"
    if code < 0:
        return (
            f"its process was killed (signal {-code}), usually because memory ran out; train fewer folds at the same time, "
            "such as with --devices cpu"
        )
    return (
        f"its process ended with exit code {code} before it began; a script that calls train() must do so below "
        'if __name__ == "__main__":'
    )


def work(task: FoldTask, channel: Connection, cores: SharedNumber) -> None:
    """What a fold's process does."""
    sender = MessageSender(channel)
    logging.getLogger().handlers = [sender.log_handler()]
    logging.getLogger("unetrpp").setLevel(task.log_level)
    show_bars_elsewhere(sender.put_nowait)
    try:
        _obey(channel)
        machine = task.machine
        if machine.device.index is not None and machine.device.type == "cuda":
            torch.cuda.set_device(machine.device)  # what names no device must not take memory on the first GPU
        limit_threads(task.folds)
        if machine.device.type == "cpu":
            machine = replace(machine, cores=lambda: cores.value)
            torch.set_num_threads(cores.value)
            keep_freed_memory()
        with process_lock(task.job.model, task.config.fold):
            run_fold(task.job, task.config, machine, alone=False)
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
    except Exception as error:
        LOG.debug("fold %s failed", task.config.fold, exc_info=error)
        sender.put_nowait(Failure(in_words(error)))
        sys.exit(1)


def process_lock(model: Path, fold: int | str) -> AbstractContextManager[None]:
    """The lock that a fold's process holds itself: its parent's ends where that is killed, and the fold still saves its state then."""
    return locked(model / f".fold_{fold}.process.lock", f"fold {fold} is still being saved", "wait a moment")


def _obey(channel: Connection) -> None:
    """End when the parent says so or is gone, as at SIGTERM: training saves its state first.

    Ctrl-C reaches every process of a terminal, but here only the parent reacts, so that a fold is not asked twice.
    """

    def wait() -> None:
        with suppress(EOFError, OSError):
            channel.recv()
        _thread.interrupt_main(signal.SIGTERM)

    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=channel.close)  # a process that this one starts is not the fold
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, _interrupt)
    threading.Thread(target=wait, daemon=True, name="parent").start()


def _interrupt(number: int, frame: FrameType | None) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # the second of two signals must not interrupt the end
    raise KeyboardInterrupt
