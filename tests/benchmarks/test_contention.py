"""What benchmarks/contention.py measures with: CPU seconds of a process and its children, and busy processes."""

import subprocess
import sys

import psutil

from benchmarks.contention import Clock, busy

BURN = "import time\nend = time.process_time() + 0.5\nwhile time.process_time() < end: pass"
PARENT = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {BURN!r}]); {BURN}"


def test_seconds_of_children_count():
    with subprocess.Popen([sys.executable, "-c", PARENT]) as run:
        clock = Clock(psutil.Process(run.pid))
        while run.poll() is None:
            clock.look()
        spent = clock.look()
    assert 0.9 < spent.cpu < 2  # two burn half a second each, and start
    assert spent.wall > 0.9  # one after the other


def test_busy_processes_compute_as_long_as_it_is_entered():
    before = set(psutil.Process().children())
    with busy(2):
        others = set(psutil.Process().children()) - before
        assert len(others) == 2
        assert all(other.is_running() for other in others)
    assert not any(other.is_running() for other in others)
