"""Running a function on many cases in several processes: an error or a killed worker costs one case, never the run.

Any ``concurrent.futures.Executor`` can be used, also that of a cluster (tested with Dask's ``Client.get_executor()``);
inside :func:`unetrpp.core.cluster.cluster` its executor is.
"""

import logging
import multiprocessing
import multiprocessing.forkserver
import os
import signal
import sys
import threading
import traceback
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import CancelledError, Executor, Future, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass
from logging.handlers import QueueHandler
from multiprocessing.connection import Connection
from multiprocessing.context import BaseContext
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any, Generic, TypeVar

import msgspec

from unetrpp.core.cluster import current_executor
from unetrpp.core.errors import UserError, in_words, limit_of
from unetrpp.core.problems import grouped
from unetrpp.core.progress import progress_bar
from unetrpp.core.text import escaped, text_table

T = TypeVar("T")
MOST_ON_WINDOWS = 61  # worker processes; Python refuses more there


class CaseError(msgspec.Struct, frozen=True):
    """A failure as a plain record, because an exception that cannot be unpickled would break the whole pool."""

    case: str
    stage: str
    message: str
    traceback: str = ""
    refused: bool = False  # a UserError: the case's files cannot be used


def error_table(errors: Sequence[CaseError]) -> str:
    """A table of the cases that failed, sorted by id; many with the same problem share a line (:func:`grouped`).

    >>> print(error_table([CaseError("b", "read", "is empty"), CaseError("case", "read", "is not an image")]))
    case  problem
    b     is empty
    case  is not an image
    """
    rows = grouped(sorted((escaped(e.case), e.message) for e in errors))
    return text_table([("case", "problem"), *rows], align="l")


class Outcome(msgspec.Struct, Generic[T], frozen=True):
    """The value of one case, or its error."""

    case: str
    value: T | None
    error: CaseError | None


@dataclass(frozen=True)
class _Job(Generic[T]):
    """One call of ``function(*arguments)`` for ``case``."""

    function: Callable[..., T]
    case: str
    stage: str
    arguments: tuple[Any, ...]


def run_cases(
    function: Callable[..., T],
    jobs: Mapping[str, tuple[Any, ...]],
    stage: str,
    processes: int,
    *,
    executor: Executor | None = None,
) -> Iterator[Outcome[T]]:
    """Call ``function(*arguments)`` for every case of ``jobs``; yield outcomes as they arrive, with one progress bar.

    With one process and no executor, everything runs in the calling process; else a script must make the call below
    ``if __name__ == "__main__":``. When a worker is killed (usually because memory
    runs out), the cases without a result are run again one at a time, so that only the case that kills its worker fails.

    Args:
        function: must be importable, because other processes import it.
        jobs: case id -> arguments.
        stage: what is done, for the progress bar and for errors.
        processes: how many worker processes; ignored with ``executor``.
        executor: used instead of a new pool; it is left open.

    Raises:
        UserError: no worker process could begin, because a script has no ``if __name__ == "__main__":``.
    """
    with progress_bar(stage, len(jobs)) as bar:
        for outcome in stream_cases(function, jobs, stage, processes, executor=executor):
            bar.update()
            yield outcome


def stream_cases(
    function: Callable[..., T],
    jobs: Mapping[str, tuple[Any, ...]],
    stage: str,
    processes: int,
    *,
    executor: Executor | None = None,
) -> Iterator[Outcome[T]]:
    """:func:`run_cases` without a progress bar."""
    calls = [_Job(function, case, stage, arguments) for case, arguments in jobs.items()]
    yield from _outcomes(calls, min(processes, len(calls)), executor or current_executor())


def _outcomes(jobs: Sequence[_Job[T]], processes: int, executor: Executor | None) -> Iterator[Outcome[T]]:
    if processes <= 1 and executor is None:
        yield from (_guarded(job, 0) for job in jobs)
        return
    unfinished = {job.case: job for job in jobs}
    pool = executor or new_pool(processes)
    try:
        for outcome in _answers(pool, jobs, lent=executor is not None):
            del unfinished[outcome.case]
            yield outcome
    finally:
        if executor is None:
            pool.shutdown(cancel_futures=True)
    if unfinished and isinstance(pool, WorkerPool) and not pool.begun:
        raise UserError(NO_GUARD.format(stage=jobs[0].stage))
    yield from _one_by_one(pool, unfinished.values())


NO_GUARD = (
    "no worker process could begin {stage}: a script that calls this with several processes must do so below "
    'if __name__ == "__main__":'
)


class WorkerPool(ProcessPoolExecutor):
    """A pool that knows whether any of its processes has begun.

    Each imports the script that started it. Without ``if __name__ == "__main__":`` in there, it arrives at the same call again, where
    Python ends it; to the pool that looks like a killed process.
    """

    def __init__(self, processes: int, context: BaseContext):
        self._begun = context.RawValue("b", 0)
        super().__init__(processes, context, _begin, (self._begun,))

    @property
    def begun(self) -> bool:
        return bool(self._begun.value)


def _begin(begun: Any) -> None:
    begun.value = 1
    die_with_parent()


def new_pool(processes: int, start: str = "spawn") -> WorkerPool:
    """A pool of worker processes that are not forked from this one: a fork would copy the locks that its threads hold.

    ``start`` is the start method: "spawn", or what :func:`prepare_workers` returns.
    """
    if sys.platform == "win32":
        processes = min(processes, MOST_ON_WINDOWS)
    return WorkerPool(processes, multiprocessing.get_context(start))


def prepare_workers(modules: Sequence[str]) -> str:
    """Begin to import ``modules`` in a new process that workers are forked from, so that they are imported only once.

    Returns the start method for :func:`new_pool` without waiting for the imports. Only Linux forks reliably with numeric
    libraries loaded; elsewhere every worker imports them itself.
    """
    if sys.platform != "linux":
        return "spawn"
    multiprocessing.set_forkserver_preload(list(modules))
    multiprocessing.forkserver.ensure_running()
    return "forkserver"


def die_with_parent() -> None:
    """End this worker when its parent ends; otherwise workers of a killed parent would wait for work for ever.

    Ctrl-C reaches all processes of a terminal: the workers end without a word, and the parent says what there is to say.
    """
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=_exit_after, args=(parent,), daemon=True).start()


def _exit_after(parent: BaseProcess) -> None:
    parent.join()
    os._exit(1)


def _answers(pool: Executor, jobs: Sequence[_Job[T]], *, lent: bool) -> Iterator[Outcome[T]]:
    """The outcomes that arrive; cases whose future failed or was cancelled are left out, also those that a killed worker
    takes with it.

    After Ctrl-C no other case is started. Those of a pool that is ``lent`` are cancelled here; a pool of our own does it when it is
    shut down, in its own thread, which must not meet one that was cancelled here when a worker dies at the same time (Python 3.11).
    """
    futures: list[Future[Outcome[T]]] = []
    with suppress(BrokenProcessPool):  # when it breaks during submission
        for job in jobs:
            futures.append(_submit(pool, job))
    try:
        for future in as_completed(futures):
            if not future.cancelled() and future.exception() is None:
                yield future.result()
    finally:
        for future in futures if lent else ():
            future.cancel()


def _one_by_one(pool: Executor, jobs: Iterable[_Job[T]]) -> Iterator[Outcome[T]]:
    """Run cases again, with no other at the same time.

    An executor that cancels a call by itself has given up, as Dask's does when it finds no scheduler. It is not called again: what
    Dask is given while it closes never ends.
    """
    waiting = iter(jobs)
    for job in waiting:
        try:
            outcome = _alone(pool, job)
        except CancelledError:
            yield from (_given_up(left) for left in (job, *waiting))
            return
        yield outcome


def _given_up(job: _Job[T]) -> Outcome[T]:
    message = f"the executor gave up {job.stage}, as Dask does when its scheduler is gone; start the cluster and this command again"
    return Outcome(job.case, None, CaseError(job.case, job.stage, message))


def _alone(pool: Executor, job: _Job[T]) -> Outcome[T]:
    """Run one case again. A broken process pool stays broken; a cluster replaces its workers.

    Raises:
        CancelledError: the executor cancelled the call.
    """
    try:
        with new_pool(1) if isinstance(pool, ProcessPoolExecutor) else nullcontext(pool) as lone:
            return _submit(lone, job).result()
    except BrokenProcessPool:
        message = (
            f"the worker was killed during {job.stage}, usually because memory ran out; "
            "try fewer processes or a larger machine"
        )
        return Outcome(job.case, None, CaseError(job.case, job.stage, message))
    except CancelledError:
        raise
    except Exception as error:  # the executor's own: Dask's KilledWorker, or a package that its workers lack
        message = f"the executor failed during {job.stage} ({type(error).__name__}: {error})"
        return Outcome(job.case, None, CaseError(job.case, job.stage, message, traceback.format_exc()))


def _submit(pool: Executor, job: _Job[T]) -> Future[Outcome[T]]:
    """The last argument differs in every call, because Dask treats equal calls as one and may reuse its result."""
    return pool.submit(_in_worker, job, Path.cwd(), uuid.uuid4().hex)


def _in_worker(job: _Job[T], folder: Path, call: str) -> Outcome[T]:
    """``folder`` is the caller's current one, which relative paths start from; a worker elsewhere may not have it."""
    with suppress(OSError):
        if Path.cwd() != folder:
            os.chdir(folder)
    return _guarded(job, 1)


def _guarded(job: _Job[T], threads: int) -> Outcome[T]:
    """``threads`` limits the threads of numeric libraries; 0 sets no limit."""
    try:
        with limited_threads(threads) if threads else nullcontext():
            return Outcome(job.case, job.function(*job.arguments), None)
    except Exception as error:
        # The text of a UserError begins with its case id, which is a field of its own in CaseError.
        message = Exception.__str__(error) if limit_of(error) is None else in_words(error)
        message = message or type(error).__name__
        refused = isinstance(error, UserError)
        return Outcome(job.case, None, CaseError(job.case, job.stage, message, traceback.format_exc(), refused))


class MessageSender:
    """Sends messages of all threads of a process to its parent; also what a ``logging.handlers.QueueHandler`` puts records into.

    When the parent is gone, nobody listens, and this process is about to end.
    """

    def __init__(self, connection: "Connection[Any, Any]"):
        self._connection, self._lock = connection, threading.Lock()

    def put_nowait(self, message: object) -> None:
        with self._lock, suppress(OSError):
            self._connection.send(message)

    def log_handler(self) -> logging.Handler:
        """Sends log records."""
        return QueueHandler(self)  # type: ignore[arg-type]  # this is all that it needs of a queue


@contextmanager
def limited_threads(threads: int) -> Iterator[None]:
    """Limit the threads of numeric libraries during one case; an executor's worker may do other work afterwards."""
    import SimpleITK as sitk
    from threadpoolctl import threadpool_limits

    before = sitk.ProcessObject.GetGlobalDefaultNumberOfThreads()
    sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(threads)
    try:
        with threadpool_limits(threads):
            yield
    finally:
        sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(before)
