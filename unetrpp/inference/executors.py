"""Reading and writing cases while the network runs: in a thread, or on a CPU one after the other."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from typing import ParamSpec, TypeVar

import torch

P = ParamSpec("P")
Item = TypeVar("Item")
Result = TypeVar("Result")


def io_executor(device: torch.device) -> Executor:
    """A thread, where another device than the CPU computes the network.

    On a CPU the network's threads fill every core and each operator waits for the slowest of them, so another
    thread delays them all: doing the same work synchronously costs less (docs/prediction.md).
    """
    return SynchronousExecutor() if device.type == "cpu" else ThreadPoolExecutor(1)


class SynchronousExecutor(Executor):
    """Runs what is submitted at once, in the thread that submits it."""

    def submit(self, function: Callable[P, Result], /, *args: P.args, **kwargs: P.kwargs) -> Future[Result]:
        """A finished future, with the result or the exception of the call."""
        future: Future[Result] = Future()
        try:
            future.set_result(function(*args, **kwargs))
        except Exception as error:
            future.set_exception(error)
        return future


def prefetch(
    executor: Executor, function: Callable[[Item], Result], items: Iterable[Item], count: int
) -> Iterator[tuple[Item, Future[Result]]]:
    """Each item with the future of ``function(item)``; ``count`` items are submitted ahead of the one in use."""
    waiting: deque[tuple[Item, Future[Result]]] = deque()
    for item in items:
        waiting.append((item, executor.submit(function, item)))
        if len(waiting) > count:
            yield waiting.popleft()
    yield from waiting
