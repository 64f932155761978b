"""The number of threads that compute a training step on a CPU: one or all, whichever takes less time here and now.

The threads of one operator wait for each other at its end. On an idle machine all cores together are faster; beside other
programs a thread that has to wait for its core delays all others, and one thread alone is often faster. So both are timed.
"""

import logging
import math
import time
from collections.abc import Callable
from contextlib import AbstractContextManager

import torch

from unetrpp.core.text import counted
from unetrpp.trainers.state import TrainingState

LOG = logging.getLogger(__name__)
ROUNDS = 3  # of timed steps; the first one warms up
# An epoch that takes so many times as long as the first one after a timing, or as much less, is a reason to time again.
CHANGED = 1.5
WORTH = 5  # times the seconds of the timing that an epoch must take, or timing again costs more than it may gain

Step = Callable[[], object]
# While entered, gives a training step; afterwards nothing is changed.
Trial = Callable[[], AbstractContextManager[Step]]


class ComputeThreads:
    """Chooses the number of threads of one fold at its start, and again at an epoch's end where the machine has changed.

    Weights depend on the number by rounding. It is part of the training's state, so a resumed fold continues with it, and it
    never changes within an epoch.

    Args:
        title: of the fold, for messages.
        cores: that the fold may use at the time of the call.
        asked: the number that the user wants; None times.
    """

    def __init__(self, title: str, cores: Callable[[], int], asked: int | None = None):
        self.title, self.asked, self.cores = title, asked, cores
        self.timing_seconds = 0.0  # that the last timing took
        self.epoch_seconds: float | None = None  # of the first epoch after it

    def start(self, state: TrainingState, trial: Trial) -> None:
        """Set the number of an earlier run, or choose one."""
        if state.compute_threads:
            torch.set_num_threads(state.compute_threads)
        else:
            self._choose(state, trial)

    def end_epoch(self, state: TrainingState, seconds: float, trial: Trial) -> None:
        """Choose again where the user asks for another number, other cores are free, or epochs take much longer or shorter.

        Args:
            seconds: that the epoch took.
        """
        if self.asked is not None:
            if self.asked != state.compute_threads:
                self._choose(state, trial)
            return
        before, self.epoch_seconds = self.epoch_seconds, self.epoch_seconds or seconds
        changed = before is not None and not 1 / CHANGED < seconds / before < CHANGED
        if (changed or self.cores() != state.cores) and seconds > WORTH * self.timing_seconds:
            self._choose(state, trial)

    def _choose(self, state: TrainingState, trial: Trial) -> None:
        state.cores, before = self.cores(), state.compute_threads
        start, seconds = time.perf_counter(), dict[int, float]()
        if self.asked is None and state.cores > 1:
            with trial() as step:
                seconds = time_threads(step, (1, state.cores))
        self.timing_seconds, self.epoch_seconds = time.perf_counter() - start, None
        state.compute_threads = self.asked or min(seconds, key=lambda count: seconds[count], default=1)
        torch.set_num_threads(state.compute_threads)
        if seconds and state.compute_threads != before:
            timed = ", ".join(f"{value:.2g} s with {count}" for count, value in seconds.items())
            LOG.info(
                "%s: computes with %s (a step takes %s)", self.title, counted(state.compute_threads, "thread"), timed
            )


def time_threads(step: Step, counts: tuple[int, ...]) -> dict[int, float]:
    """Seconds of ``step`` with each number of threads, the least of several; they take turns, because the machine changes."""
    seconds = dict.fromkeys(counts, math.inf)
    for _ in range(ROUNDS):
        for count in counts:
            torch.set_num_threads(count)
            start = time.perf_counter()
            step()
            seconds[count] = min(seconds[count], time.perf_counter() - start)
    return seconds
