"""Ctrl-C, SIGTERM and the death of one worker process, at random moments."""

import os
import random
import signal
import time
from collections import Counter

import psutil

from benchmarks.reliability.bench import Bench, ended
from benchmarks.reliability.judgement import COLUMNS as JUDGED
from benchmarks.reliability.judgement import HEADINGS as JUDGED_HEADINGS
from benchmarks.reliability.judgement import Judge

COLUMNS = ("signals", "workers", "silent", *JUDGED)
HEADINGS = ("signals", "killed workers", "without a message", *JUDGED_HEADINGS)
SIGNALS = (signal.SIGINT, signal.SIGTERM)
INTERRUPTED = 130
FIRST_S = 0.05  # the command line is read by then
MOST_S = 60.0  # until the workers of a command have started


def send_signals(judge: Judge, count: int, seconds: float, rng: random.Random) -> Counter[str]:
    """Ctrl-C and SIGTERM in turn: the command says that it was interrupted, without a traceback, and is given again."""
    counts = Counter[str]()
    for i in range(count):
        number, delay = SIGNALS[i % 2], rng.uniform(FIRST_S, max(seconds, 2 * FIRST_S))
        judge.reset()
        code = judge.bench.stop(judge.arguments, number, delay)
        where = f"{number.name} after {delay:.2f} s"
        silent = not _is_told(judge.bench, code)
        if silent:
            judge.report(f"{where}: exit {code} {judge.bench.said[-900:]}")
        counts += Counter(signals=1, silent=int(silent)) + judge.again(where)
    return counts


def _is_told(bench: Bench, code: int) -> bool:
    """A command that was interrupted says so, and what the same one does then; one that was done before does not."""
    if "Traceback" in bench.said:
        return False
    return code == 0 or (code == INTERRUPTED and "interrupted; " in bench.said)


def kill_workers(judge: Judge, count: int, rng: random.Random) -> Counter[str]:
    """Kill one of two worker processes: its case is done again, or named with exit status 1, and the others are done."""
    counts = Counter[str]()
    for _ in range(count):
        judge.reset()
        child, pipe = judge.bench.start(judge.arguments, workers=True)
        killed = _kill_a_worker(child, rng)
        code = ended(child)
        os.close(pipe)
        where = f"a worker killed: exit {code}"
        silent = code not in (0, 1) or (code == 1 and "the worker was killed" not in judge.bench.said)
        if silent or (code == 0 and not judge.compare(code)[0]["same"]):
            judge.report(f"{where} {judge.compare(code)[1]} {judge.bench.said[-900:]}")
        counts += Counter(workers=int(killed), silent=int(silent)) + judge.again(where)
    return counts


def _kill_a_worker(parent: int, rng: random.Random) -> bool:
    """Whether there was one before the command ended."""
    end = time.monotonic() + MOST_S
    while time.monotonic() < end and psutil.Process(parent).status() != psutil.STATUS_ZOMBIE:
        workers = [p for p in psutil.Process(parent).children(recursive=True) if _is_worker(p)]
        if workers:
            time.sleep(rng.uniform(0, 3))
            os.kill(rng.choice(workers).pid, signal.SIGKILL)
            return True
        time.sleep(0.02)
    return False


def _is_worker(process: psutil.Process) -> bool:
    """Whether it was spawned, or forked by the process that has the imports of all workers."""
    try:
        parent = process.parent()
        forked = parent is not None and "forkserver" in " ".join(parent.cmdline())
        return forked or "spawn_main" in " ".join(process.cmdline())
    except psutil.Error:
        return False
