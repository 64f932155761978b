"""The lock: seen by other processes, and gone with the process that held it, however it ended."""

import errno
import logging
import os
import platform
import signal
import subprocess
import sys

import pytest

from unetrpp.core import lock
from unetrpp.core.errors import UserError
from unetrpp.core.lock import locked

HOLD = """
import sys
from pathlib import Path
from unetrpp.core.lock import locked
with locked(Path(sys.argv[1]), "x is being written", "wait"):
    print("held", flush=True)
    sys.stdin.readline()
"""


@pytest.fixture
def path(tmp_path):
    return tmp_path / "results" / "folder" / ".x.lock"


@pytest.fixture
def holder(path):
    command = [sys.executable, "-c", HOLD, str(path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        yield process
        process.kill()


def take(path):
    with locked(path, "x is being written", "wait"):
        pass


def test_a_second_process_is_told_who_holds_it(path, holder):
    with pytest.raises(UserError) as refused:
        take(path)
    assert str(refused.value) == f"x is being written by process {holder.pid} on {platform.node()}; wait"
    holder.communicate("\n")
    take(path)


def test_a_killed_holder_leaves_a_file_that_locks_nothing(path, holder):
    holder.kill()
    holder.wait()
    assert path.exists()
    take(path)
    assert list(path.parent.iterdir()) == []


FORK = """
import os, sys, time
from pathlib import Path
from unetrpp.core.lock import locked
with locked(Path(sys.argv[1]), "x is being written", "wait"):
    if os.fork() == 0:
        print(os.getpid(), flush=True)
        time.sleep(60)
        os._exit(0)
    time.sleep(60)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the system does not fork")
def test_a_process_that_the_holder_forked_does_not_hold_the_lock(path):
    command = [sys.executable, "-c", FORK, str(path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        forked = int(holder.stdout.readline())
        try:
            with pytest.raises(UserError, match=f"by process {holder.pid} on"):
                take(path)
            holder.kill()
            holder.wait()
            take(path)
            os.kill(forked, 0)  # it still runs
        finally:
            os.kill(forked, signal.SIGKILL)


def test_threads_of_one_process_are_told_apart(path):
    with locked(path, "x is being written", "wait"), pytest.raises(UserError, match=f"by process {os.getpid()} on"):
        take(path)


def test_only_folders_that_were_made_and_stay_empty_are_removed(path):
    take(path)
    assert not path.parent.parent.exists()
    with locked(path, "x is being written", "wait"):
        (path.parent / "result").touch()
    assert [each.name for each in path.parent.iterdir()] == ["result"]
    (path.parent / "result").unlink()
    take(path)
    assert path.parent.is_dir()


def test_a_machine_that_cannot_be_asked_is_named_with_the_repair(path, monkeypatch):
    with locked(path, "x is being written", "wait"):
        monkeypatch.setattr(platform, "node", lambda: "another")
        with pytest.raises(UserError, match=r"; wait \(if that machine is gone, delete .*\.x\.lock\)$"):
            take(path)
        path.unlink()
        take(path)


@pytest.mark.skipif(sys.platform == "win32", reason="an open file cannot be deleted")
def test_a_file_that_its_holder_deletes_meanwhile_is_not_taken_for_the_lock(path, monkeypatch):
    """The holder deletes the file and ends between our opening and our locking; a third process makes a new file."""
    system_lock = lock._lock
    calls: list[int] = []

    def late(descriptor):
        if not calls:
            path.unlink()
            path.touch()
        calls.append(descriptor)
        system_lock(descriptor)

    monkeypatch.setattr(lock, "_lock", late)
    with locked(path, "x is being written", "wait"):
        monkeypatch.setattr(lock, "_lock", system_lock)
        with pytest.raises(UserError):
            take(path)
    assert len(calls) == 2


def test_a_file_system_without_locks_is_used_without(path, monkeypatch, caplog):
    def none(_):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(lock, "_lock", none)
    with caplog.at_level(logging.INFO), locked(path, "x is being written", "wait"):
        take(path)
    assert "cannot be locked (No locks available)" in caplog.text
