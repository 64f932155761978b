"""What killed processes left behind is removed; what living processes write is not."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from unetrpp.core import leftovers
from unetrpp.core.files import write_bytes, write_folder_atomically
from unetrpp.core.leftovers import OLD_S, remove_leftovers, temporary_name

WRITE = """
import os, signal, sys
from pathlib import Path
from unetrpp.core.files import write_atomically
def write(temporary):
    temporary.write_text("half")
    print("written", flush=True)
    sys.stdin.read()
write_atomically(Path(sys.argv[1]), write)
"""


@pytest.fixture
def writer(tmp_path):
    """Another process in the middle of writing tmp_path/a.json."""
    command = [sys.executable, "-c", WRITE, str(tmp_path / "a.json")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"written\n"
        yield process
        process.kill()


def test_what_a_living_process_writes_is_kept_and_what_a_killed_one_left_is_not(writer, tmp_path):
    remove_leftovers(tmp_path)
    write_bytes(tmp_path / "b.json", b"b")
    assert len(list(tmp_path.iterdir())) == 2
    os.kill(writer.pid, signal.SIGKILL)
    while psutil.Process(writer.pid).status() != psutil.STATUS_ZOMBIE:  # it has ended, and nobody has waited for it
        time.sleep(0.01)
    remove_leftovers(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["b.json"]


def test_a_write_removes_what_a_killed_process_left_in_the_folder(tmp_path):
    (tmp_path / of_process(dead_process(), "other.json")).write_text("half")
    write_bytes(tmp_path / "b.json", b"b")
    assert [path.name for path in tmp_path.iterdir()] == ["b.json"]


def test_a_later_process_of_the_same_id_is_not_the_writer(tmp_path, monkeypatch):
    left = tmp_path / temporary_name("a")
    left.write_text("half")
    remove_leftovers(tmp_path)
    assert left.exists()
    started = time.time() + leftovers.CLOCKS_S + 60
    monkeypatch.setattr(psutil.Process, "create_time", lambda self: started)
    remove_leftovers(tmp_path)
    assert not left.exists()


def test_what_another_machine_writes_is_kept_for_a_day(tmp_path, monkeypatch):
    machine = f"{int(leftovers._machine(), 16) ^ 1:08x}"
    left = tmp_path / f".unetrpp-{machine}-{dead_process()}.a"
    left.write_text("half")
    remove_leftovers(tmp_path)
    assert left.exists()
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + OLD_S + 60)
    remove_leftovers(tmp_path)
    assert not left.exists()


def test_a_folder_that_was_being_replaced_comes_back(tmp_path):
    hidden = tmp_path / of_process(dead_process(), "model")
    (hidden / "model").mkdir(parents=True)
    (hidden / "model.replaced").mkdir()
    (hidden / "model.replaced" / "old").write_text("old")
    write_folder_atomically(tmp_path / "other", lambda folder: (folder / "a").write_text("a"))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model", "other"]
    assert (tmp_path / "model" / "old").read_text() == "old"


def test_an_interrupted_replacement_keeps_the_old_folder(tmp_path, monkeypatch):
    target, rename = tmp_path / "model", Path.replace
    write_folder_atomically(target, lambda folder: (folder / "old").write_text("old"))

    def interrupt(self, to):
        if self.name == "model" and self.parent != tmp_path:
            raise KeyboardInterrupt
        return rename(self, to)

    monkeypatch.setattr(Path, "replace", interrupt)
    with pytest.raises(KeyboardInterrupt):
        write_folder_atomically(target, lambda folder: (folder / "new").write_text("new"), replace=True)
    assert [path.name for path in tmp_path.iterdir()] == ["model"]
    assert (target / "old").read_text() == "old"


def test_other_hidden_files_and_missing_folders_are_left_alone(tmp_path):
    for name in (".git", ".123.a", ".unetrpp-x-1.a", ".unetrpp-0123abcd-1"):
        (tmp_path / name).write_text("mine")
    remove_leftovers(tmp_path)
    remove_leftovers(tmp_path / "nowhere")
    assert len(list(tmp_path.iterdir())) == 4


def of_process(process, name):
    return f".unetrpp-{leftovers._machine()}-{process}.{name}"


def dead_process():
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid
