"""Cases spread over several devices: one process a device, each with its own loaded models.

A process asks for a case whenever it can read another one, so faster devices get more of them. An error costs one case. A
process that is killed is replaced, and the cases that it had are run again one at a time, so that only the case that kills its
process fails.
"""

import logging
import multiprocessing
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from enum import Enum
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from types import TracebackType
from typing import TypeAlias

from unetrpp.core.devices import limit_threads
from unetrpp.core.errors import UserError, in_words
from unetrpp.core.machine import usable_cores
from unetrpp.core.parallel import MessageSender, die_with_parent, limited_threads
from unetrpp.inference.ensemble import Ensemble
from unetrpp.inference.inputs import Cases, NamedFiles
from unetrpp.inference.options import InferenceOptions, OutputOptions
from unetrpp.inference.stream import Failure, Finished, predicted_cases

KILLED = "the process on {} was killed while it predicted the case, usually because memory ran out; try a larger machine or fewer devices"
NOT_LOADED = (
    "the process on {} ended before it had loaded the model, usually because memory ran out; give fewer devices"
)


class Ask(Enum):
    """What a process asks for."""

    CASE = "case"


Message: TypeAlias = (
    Ask | Finished | UserError | logging.LogRecord
)  # from a process; to it go cases, and None after the last


@dataclass(frozen=True)
class Work:
    """What every process does."""

    models: tuple[Path, ...]
    options: InferenceOptions
    output: OutputOptions
    processes: int  # that share the cores
    log_level: int


@dataclass
class Worker:
    """A process as its parent sees it."""

    device: str
    process: BaseProcess
    connection: "Connection[NamedFiles | None, Message]"
    open: Cases = field(default_factory=dict)  # given to it and not finished

    @classmethod
    def start(cls, device: str, work: Work) -> "Worker":
        context = multiprocessing.get_context("spawn")
        connection, other = context.Pipe()
        process = context.Process(target=_work, args=(other, device, work), daemon=True)
        process.start()
        other.close()  # with the process's own copy, its end is noticed here
        return cls(device, process, connection)

    @property
    def signs(self) -> "list[Connection[NamedFiles | None, Message] | int]":
        """What :func:`multiprocessing.connection.wait` waits for: a message, or the end of the process."""
        return [self.connection, self.process.sentinel]

    def receive(self) -> Ask | Finished | UserError | None:
        """The next message but log messages, which are passed on; None at the end of the process."""
        while isinstance(message := self.look(), logging.LogRecord):
            pass
        return message

    def look(self) -> Message | None:
        """The next message, also one for the log, which is passed on; None at the end of the process.

        On Windows the connection stays open where a process has ended before it took its end.
        """
        wait(self.signs)
        try:
            if not self.connection.poll():
                return None
            message = self.connection.recv()
        except (EOFError, OSError):
            return None
        if isinstance(message, logging.LogRecord):
            logging.getLogger(message.name).handle(message)
        return message

    def give(self, item: NamedFiles | None) -> None:
        """A case, or None after the last one."""
        if item is not None:
            self.open[item[0]] = item[1]
        with suppress(OSError):  # it has ended, which the next look at the connection shows
            self.connection.send(item)

    def end(self) -> None:
        self.process.terminate()
        self.process.join()
        self.connection.close()


class DeviceWorkers:
    """Processes on ``devices`` that have loaded the models; they end with the ``with`` block.

    Attributes:
        name: the devices, for the prediction record.

    Raises:
        UserError: a device or a model cannot be used.
    """

    def __init__(
        self, devices: Sequence[str], models: Sequence[Path], options: InferenceOptions, output: OutputOptions
    ):
        level = logging.getLogger("unetrpp").getEffectiveLevel()
        self.name = ",".join(dict.fromkeys(devices))
        self._work = Work(tuple(models), options, output, len(devices), level)
        self._devices = devices
        self._workers: list[Worker] = []

    def __enter__(self) -> "DeviceWorkers":
        try:
            for device in self._devices:
                self._start(device)
            for worker in self._workers:
                _require_loaded(worker)
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._end()

    def predicted(self, cases: Cases) -> Iterator[Finished]:
        """Predict and write every case; those that are finished, as they come."""
        todo, lost = deque(cases.items()), dict[str, tuple[str, NamedFiles]]()
        for worker in self._workers:  # each has asked for a case once its model was loaded
            worker.give(todo.popleft() if todo else None)
        while self._workers:
            for worker in self._ready():
                message = worker.look()  # not the one after a log message, which may take as long as a case
                if isinstance(message, logging.LogRecord):
                    continue
                if message is Ask.CASE:
                    worker.give(todo.popleft() if todo else None)
                elif isinstance(message, tuple):
                    worker.open.pop(message[0])
                    yield message
                else:  # it has ended, or cannot load the model again
                    lost |= {case: (worker.device, (case, files)) for case, files in worker.open.items()}
                    self._workers.remove(worker)
                    worker.end()
                    if worker.open and todo:
                        self._start(worker.device)
        lost |= {case: (self._devices[0], (case, files)) for case, files in todo}
        for device, item in lost.values():
            yield self._alone(device, item)

    def _alone(self, device: str, item: NamedFiles) -> Finished:
        """One case in a new process, with no other at the same time."""
        worker = self._start(device)
        try:
            _require_loaded(worker)
            worker.give(item)
            while (message := worker.receive()) is Ask.CASE:
                worker.give(None)
        except UserError as error:
            return item[0], Failure(str(error))
        finally:
            self._workers.remove(worker)
            worker.end()
        return message if isinstance(message, tuple) else (item[0], Failure(KILLED.format(device)))

    def _start(self, device: str) -> Worker:
        worker = Worker.start(device, self._work)
        self._workers.append(worker)
        return worker

    def _ready(self) -> list[Worker]:
        """The processes that have sent something, or have ended; waits for the first."""
        found = wait([sign for worker in self._workers for sign in worker.signs])
        return [worker for worker in self._workers if any(sign in found for sign in worker.signs)]

    def _end(self) -> None:
        for worker in self._workers:
            worker.end()
        self._workers = []


def _require_loaded(worker: Worker) -> None:
    """Wait until the process has loaded the models and asks for a case.

    Raises:
        UserError: it cannot.
    """
    message = worker.receive()
    if message is not Ask.CASE:
        raise message if isinstance(message, UserError) else UserError(NOT_LOADED.format(worker.device))


def _asked(sender: MessageSender, connection: "Connection[Message, NamedFiles | None]") -> Iterator[NamedFiles]:
    """The cases that the parent gives, each asked for when it is needed."""
    while True:
        sender.put_nowait(Ask.CASE)
        item = connection.recv()
        if item is None:
            return
        yield item


def _work(connection: "Connection[Message, NamedFiles | None]", device: str, work: Work) -> None:
    """Runs in the process of one device, until its parent has no more cases."""
    die_with_parent()
    sender = MessageSender(connection)
    logging.getLogger().addHandler(sender.log_handler())
    logging.getLogger("unetrpp").setLevel(work.log_level)
    limit_threads(work.processes)
    with limited_threads(max(1, usable_cores() // work.processes)):
        try:
            ensemble = Ensemble.load(work.models, replace(work.options, device=device))
        except Exception as error:
            sender.put_nowait(error if isinstance(error, UserError) else UserError(f"{device}: {in_words(error)}"))
            return
        with suppress(EOFError, ConnectionError):  # its parent has ended
            for finished in predicted_cases(ensemble, work.output, _asked(sender, connection)):
                sender.put_nowait(finished)
