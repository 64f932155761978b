"""Work on many cases: results or errors as plain records, and a killed worker costs one case, never the run.

Written against the standard ``concurrent.futures.Executor`` protocol, so a cluster's executor serves as well (tested
with Dask's ``Client.get_executor()``).
"""

import multiprocessing
import multiprocessing.forkserver
import os
import sys
import threading
import traceback
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Executor, Future, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from typing import Any, Generic, TypeVar

import msgspec
import psutil
from tqdm import tqdm

from unetrpp.core.text import text_table

T = TypeVar("T")
MOST_ON_WINDOWS = 61  # processes that it can wait for at once
CGROUP = Path("/sys/fs/cgroup")


class CaseError(msgspec.Struct, frozen=True):
    """A failure as a plain record: exception objects that do not unpickle would break the whole pool."""

    case: str
    stage: str
    message: str
    traceback: str = ""


def error_table(errors: Sequence[CaseError]) -> str:
    """All cases at fault, one a line, sorted by id.

    >>> print(error_table([CaseError("b", "read", "is empty"), CaseError("case", "read", "is no image")]))
    case  problem
    b     is empty
    case  is no image
    """
    return text_table([("case", "problem"), *sorted((e.case, e.message) for e in errors)], align="l")


class Outcome(msgspec.Struct, Generic[T], frozen=True):
    """The value of one case, or its error."""

    case: str
    value: T | None
    error: CaseError | None


def usable_cores() -> int:
    """Cores this process may use (a container's or batch system's limit counts)."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def default_processes(bytes_a_case: int) -> int:
    """As many processes as there are cores, or fewer where the memory does not hold that many cases at once."""
    return max(1, min(usable_cores(), available_memory() // max(bytes_a_case, 1)))


def available_memory() -> int:
    """Bytes that new processes may take: what the system has available, or less where a container's limit leaves less."""
    available = int(psutil.virtual_memory().available)
    left = _container_memory()
    return available if left is None else min(available, left)


def _container_memory() -> int | None:
    """Bytes that the memory limit of a Linux container (cgroup v2) leaves, which psutil does not know; None without one."""
    try:
        limit, used = (int((CGROUP / name).read_text()) for name in ("memory.max", "memory.current"))
    except (OSError, ValueError):  # no cgroup v2, or the limit is "max"
        return None
    return limit - used


def run_cases(
    function: Callable[..., T],
    jobs: Mapping[str, tuple[Any, ...]],
    stage: str,
    processes: int,
    executor: Executor | None = None,
) -> Iterator[Outcome[T]]:
    """Call ``function(*arguments)`` for every case of ``jobs``; yield outcomes as they come, under one progress bar.

    ``function`` must be importable (it travels to other processes). With one process and no executor everything runs
    here. When a worker is killed (usually for want of memory), the cases without an answer are run again one at a
    time, which names the culprit and finishes the others. ``executor`` is left open.
    """
    with tqdm(total=len(jobs), desc=stage, unit="case", disable=None) as bar:
        for outcome in _outcomes(function, jobs, stage, min(processes, len(jobs)), executor):
            bar.update()
            yield outcome


def _outcomes(
    function: Callable[..., T],
    jobs: Mapping[str, tuple[Any, ...]],
    stage: str,
    processes: int,
    executor: Executor | None,
) -> Iterator[Outcome[T]]:
    if processes <= 1 and executor is None:
        yield from (_guarded(function, case, stage, arguments, 0) for case, arguments in jobs.items())
        return
    unfinished = dict(jobs)
    pool = executor or new_pool(processes)
    try:
        for outcome in _answers(pool, function, jobs, stage):
            del unfinished[outcome.case]
            yield outcome
    finally:
        if executor is None:
            pool.shutdown(cancel_futures=True)
    for case, arguments in unfinished.items():
        yield _alone(pool, function, case, stage, arguments)


def new_pool(processes: int, start: str = "spawn") -> ProcessPoolExecutor:
    """A pool of processes that copy nothing from this one: a fork would copy the locks of threads running here.

    ``start`` is how they start: each by itself, or as :func:`prepare_workers` says.
    """
    if sys.platform == "win32":
        processes = min(processes, MOST_ON_WINDOWS)
    return ProcessPoolExecutor(processes, multiprocessing.get_context(start), _die_with_parent)


def prepare_workers(modules: Sequence[str]) -> str:
    """Begin to import what workers need, once, in an empty process that they are then forked from; at once returns
    how they start. Only Linux forks reliably with numeric libraries loaded; elsewhere every worker imports by itself.
    """
    if sys.platform != "linux":
        return "spawn"
    multiprocessing.set_forkserver_preload(list(modules))
    multiprocessing.forkserver.ensure_running()
    return "forkserver"


def _die_with_parent() -> None:
    """Workers of a killed parent would wait for work for ever."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=_exit_after, args=(parent,), daemon=True).start()


def _exit_after(parent: Any) -> None:
    parent.join()
    os._exit(1)


def _answers(
    pool: Executor, function: Callable[..., T], jobs: Mapping[str, tuple[Any, ...]], stage: str
) -> Iterator[Outcome[T]]:
    """What comes back; not of cases whose future failed or was cancelled, for a killed worker takes others with it."""
    futures: list[Future[Outcome[T]]] = []
    with suppress(BrokenProcessPool):  # when it breaks during submission
        for case, arguments in jobs.items():
            futures.append(_submit(pool, function, case, stage, arguments))
    for future in as_completed(futures):
        if not future.cancelled() and future.exception() is None:
            yield future.result()


def _alone(pool: Executor, function: Callable[..., T], case: str, stage: str, arguments: tuple[Any, ...]) -> Outcome[T]:
    """Once more with nothing beside it. A process pool is broken for good; a cluster replaces its workers."""
    try:
        with new_pool(1) if isinstance(pool, ProcessPoolExecutor) else nullcontext(pool) as lone:
            return _submit(lone, function, case, stage, arguments).result()
    except BrokenProcessPool:
        message = (
            f"the worker was killed during {stage}, usually for want of memory; try fewer processes or a larger machine"
        )
        return Outcome(case, None, CaseError(case, stage, message))
    except Exception as error:  # the executor's own: Dask's KilledWorker, or a package that its workers lack
        message = f"the executor gave no answer during {stage} ({type(error).__name__}: {error})"
        return Outcome(case, None, CaseError(case, stage, message, traceback.format_exc()))


def _submit(
    pool: Executor, function: Callable[..., T], case: str, stage: str, arguments: tuple[Any, ...]
) -> Future[Outcome[T]]:
    """The last argument is another one each time, because Dask takes equal calls for one and may remember its answer."""
    return pool.submit(_guarded, function, case, stage, arguments, 1, uuid.uuid4().hex)


def _guarded(
    function: Callable[..., T], case: str, stage: str, arguments: tuple[Any, ...], threads: int, call: str = ""
) -> Outcome[T]:
    """Runs in the worker. ``threads`` limits the numeric libraries there, 0 leaves them alone."""
    try:
        with _limited(threads) if threads else nullcontext():
            return Outcome(case, function(*arguments), None)
    except Exception as error:
        # A UserError carries its case id in front already; the record names it in a field of its own.
        message = Exception.__str__(error) or type(error).__name__
        return Outcome(case, None, CaseError(case, stage, message, traceback.format_exc()))


@contextmanager
def _limited(threads: int) -> Iterator[None]:
    """For the time of one case: an executor's worker may have other work after it."""
    import SimpleITK as sitk
    from threadpoolctl import threadpool_limits

    before = sitk.ProcessObject.GetGlobalDefaultNumberOfThreads()
    sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(threads)
    try:
        with threadpool_limits(threads):
            yield
    finally:
        sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(before)
