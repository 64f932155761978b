"""Progress bars and log messages on terminals of several kinds; the bytes that reach them are read from a pseudo-terminal."""

import io
import logging
import os
import re
import struct
import subprocess
import sys
import time

import pytest
from tqdm import tqdm

from unetrpp.core import progress
from unetrpp.core.progress import BarState, BesideBars, ReceivedBar, progress_bar

PROGRAM = """
import logging
from unetrpp.core.progress import BesideBars, progress_bar
logging.basicConfig(format="%(message)s", handlers=[BesideBars()])
with progress_bar("fold 0", 3, unit="step") as bar:
    for i in range(3):
        bar.update()
        bar.refresh()
        if i == 1:
            logging.warning("case_1: warning: of another size")
logging.warning("the end")
"""
needs_terminals = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no pseudo-terminals")


def shown(rows: int, columns: int, **environment: str) -> list[str]:
    """What stands on the terminal's lines in the end, each as it was last written after a carriage return."""
    return [line.rpartition("\r")[2] for line in written(rows, columns, **environment).rstrip("\n").split("\n")]


def written(rows: int, columns: int, **environment: str) -> str:
    """All that the program writes on a terminal of this size."""
    import fcntl
    import pty
    import termios

    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
    variables = {**os.environ, "TERM": "xterm", **environment}
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM], stdin=theirs, stdout=theirs, stderr=theirs, env=variables
    )
    os.close(theirs)
    text = b""
    try:
        while block := os.read(ours, 4096):
            text += block
    except OSError:  # Linux reports the end so
        pass
    assert process.wait() == 0
    os.close(ours)
    return text.decode().replace("\r\n", "\n")


@needs_terminals
@pytest.mark.parametrize("size", [(0, 0), (24, 0), (24, 20), (24, 80), (50, 300)])
def test_a_bar_ends_complete_and_fits_into_the_terminal(size):
    lines = shown(*size)
    (bar,) = [line for line in lines if line.startswith("fold 0")]
    assert "100%" in bar
    assert "3/3" in bar
    assert all(
        len(line) <= (size[1] or 80) for line in written(*size).replace("\r", "\n").splitlines() if "fold" in line
    )


@needs_terminals
@pytest.mark.parametrize("size", [(0, 0), (24, 80)])
def test_a_message_has_a_line_of_its_own(size):
    lines = shown(*size)
    assert lines[0] == "case_1: warning: of another size"
    assert lines[-1] == "the end"


@needs_terminals
def test_a_terminal_that_cannot_overwrite_gets_no_bar():
    assert written(24, 80, TERM="dumb") == "case_1: warning: of another size\nthe end\n"


@needs_terminals
def test_nothing_is_coloured():
    assert not re.search(r"\x1b\[[0-9;]*m", written(24, 80))
    assert written(24, 80, NO_COLOR="1").count("\x1b") == written(24, 80).count("\x1b")


def test_a_pipe_gets_the_messages_alone():
    run = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True)
    assert (run.stdout, run.stderr) == ("", "case_1: warning: of another size\nthe end\n")


def test_a_bar_starts_no_thread(capsys, monkeypatch):
    monkeypatch.setattr("tqdm.tqdm.monitor", None)
    with progress_bar("cases", 3):
        assert tqdm.monitor is None


def test_bars_of_other_processes_are_shown_one_after_the_other(monkeypatch):
    """What a process sends, and what the process that shows it makes of it."""
    sent: list[BarState] = []
    monkeypatch.setattr(progress, "_bars_are_shown", lambda: True)
    monkeypatch.setattr(progress, "_show_elsewhere", sent.append)
    monkeypatch.setattr(time, "monotonic", iter([0.0, 0.1, 0.2, 1.0, 1.0, 1.0, 1.0, 1.0]).__next__)
    with progress_bar("fold 0", 100, unit="step", done=7) as bar:
        bar.update()
        bar.set_postfix({"loss": "0.5"})
        bar.update()
        bar.update()
    assert [state.done for state in sent] == [7, 10, 0]  # few messages
    assert (sent[1].shown, sent[-1]) == ({"loss": "0.5"}, BarState())
    stream = io.StringIO()
    monkeypatch.setattr(sys, "stderr", stream)
    received = ReceivedBar(0)
    for state in sent[:2]:
        received.show(state)
    assert received.bar is not None
    assert (received.bar.n, received.bar.postfix) == (10, "loss=0.5")
    received.show(BarState())
    assert received.bar is None
    received.show(BarState("fold 0 validation", 3, "case", 1))
    received.show(BarState())
    for shown in ("fold 0:   7%", "fold 0 validation:  33%"):
        assert shown in stream.getvalue()


def test_a_bar_hides_the_messages_that_repeat_it(capsys):
    handler = BesideBars()
    for on_a_bar in (True, False):
        record = logging.makeLogRecord({"msg": f"epoch {on_a_bar}", "on_a_bar": on_a_bar})
        handler.handle(record)
    assert "epoch True" not in capsys.readouterr().err
