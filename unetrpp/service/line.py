"""The line of requests: one is computed, so many wait, and further ones are told when to come again."""

import asyncio
import math
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager

from unetrpp.core.text import counted
from unetrpp.service.refusals import Refusal

FIRST_GUESS_S = 5.0  # of a request, before one was computed


class Line:
    """
    Args:
        longest: how many requests may wait beside the one that is computed.

    Attributes:
        present: requests that are computed, wait, or are still being received.
        done: requests that were computed, whatever came of them.
    """

    def __init__(self, longest: int):
        self.longest = longest
        self.present = self.done = 0
        self._seconds = FIRST_GUESS_S  # of a request
        self._turn = asyncio.Lock()  # first come, first served

    @contextmanager
    def place(self) -> Iterator[None]:
        """A place in the line.

        Raises:
            Refusal: 503, all are taken; with a Retry-After.
        """
        if self.present > self.longest:
            after = max(1, math.ceil(self._seconds))
            waiting = counted(self.longest, "request waits", "requests wait")
            raise Refusal(503, f"{waiting} already; send it again in {after} s", {"Retry-After": str(after)})
        self.present += 1
        try:
            yield
        finally:
            self.present -= 1

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[None]:
        """Wait until it is this request's turn to be computed."""
        async with self._turn:
            begin = time.monotonic()
            try:
                yield
            finally:
                self.done += 1
                last = time.monotonic() - begin
                self._seconds = last if self.done == 1 else 0.8 * self._seconds + 0.2 * last
