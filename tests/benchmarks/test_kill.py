"""The short form of the interruption campaign, and whether the campaign notices what it counts."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.reliability.bench import Bench
from benchmarks.reliability.commands import COMMANDS
from benchmarks.reliability.interruption import AFTER, BEFORE, HALF, Watch
from benchmarks.reliability.judgement import Judge
from benchmarks.reliability.kill import ROWS, kills_of, share
from benchmarks.reliability.trees import content, restore

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="the campaign forks")
SHORT = ["--events=1", "--moments=1", "--signals=1", "--workers=0"]


@pytest.mark.slow
def test_killed_commands_end_where_undisturbed_ones_do():
    """In a process of its own: forking this one, whose libraries have threads, could hang."""
    command = [sys.executable, "-m", "benchmarks.reliability.kill", *SHORT]
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, env={**os.environ, "OMP_NUM_THREADS": "1"}
    )
    assert done.returncode == 0, done.stdout + done.stderr
    for row in ROWS:
        kills, signals = [line.split("|")[2:-1] for line in done.stdout.splitlines() if line.startswith(f"| {row} |")]
        assert int(kills[1]) > 0
        assert int(signals[0]) > 0
        assert [int(number) for number in (*kills[3:], *signals[4:])] == [0] * 6


def test_every_kind_of_command_is_interrupted():
    assert set(ROWS) == {
        *("convert", "plan", "preprocess", "train", "predict", "evaluate", "find-best", "export", "import")
    }
    assert all(command.arguments for command in COMMANDS)


def test_kills_are_between_all_events_and_in_the_middle_of_writes():
    assert kills_of(["open", "write", "replace"]) == [
        *((1, BEFORE), (2, BEFORE), (2, HALF), (3, AFTER), (3, BEFORE)),
    ]


def test_random_moments_are_shared_among_the_lines_of_a_row():
    for row in ROWS:
        for count in (1, 2, 20):
            shares = [share(count, command) for command in COMMANDS if command.row == row]
            assert sum(shares) == count
            assert shares[0] - shares[-1] in (0, 1)


WRITE = """
import os, sys
from pathlib import Path
from benchmarks.reliability.interruption import Watch, install
place = Path(sys.argv[1])
watch = Watch(place, int(sys.argv[2]), sys.argv[3])
install(watch)
(place / "folder").mkdir()
(place / "folder").mkdir(exist_ok=True)  # changes nothing
with (place / "a").open("wb") as file:
    file.write(b"12345678")
    os.fsync(file.fileno())
(place / "a").replace(place / "b")
(place / "b").unlink()
(place / "b").unlink(missing_ok=True)
print(*watch.events, *watch.missed)
"""


def write(place: Path, at: int, side: str) -> tuple[int, str]:
    place.mkdir()
    command = [sys.executable, "-c", WRITE, str(place), str(at), side]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout.strip()


def test_the_process_is_killed_where_it_should_be(tmp_path):
    assert write(tmp_path / "whole", 0, BEFORE) == (0, "mkdir open write fsync replace unlink")
    found = {}
    for at, side in [(1, BEFORE), (1, AFTER), (2, AFTER), (3, HALF), (3, AFTER), (4, HALF), (5, AFTER), (6, AFTER)]:
        place = tmp_path / f"{at} {side}"
        assert write(place, at, side) == (-signal.SIGKILL, "")
        found[at, side] = {path.name: path.read_bytes() for path in place.iterdir() if path.is_file()}
    assert [list(files.items()) for files in found.values()] == [
        *([], [], [("a", b"")], [("a", b"1234")], [("a", b"12345678")], [("a", b"1234")], [("b", b"12345678")], [])
    ]


def test_a_change_that_no_wrapper_sees_is_noticed(tmp_path):
    watch = Watch(tmp_path)
    watch.audit("os.rename", (str(tmp_path / "a"), str(tmp_path / "b"), -1, -1))
    watch.audit("open", (str(tmp_path / "a"), "w", os.O_WRONLY | os.O_CREAT))
    watch.audit("open", (str(tmp_path / "a"), "r", os.O_RDONLY))
    watch.audit("os.mkdir", ("/elsewhere", 0o777, -1))
    assert [text.split()[0] for text in watch.missed] == ["os.rename", "open"]


def test_what_differs_is_left_over_or_refused_is_counted(tmp_path, monkeypatch, capsys):
    bench, state = Bench(tmp_path), tmp_path / "state"
    for name, text in (("a.json", '{"seconds": 1, "b": 2}'), ("c", "c")):
        (state / name).parent.mkdir(exist_ok=True)
        (state / name).write_text(text)
    judge = Judge(bench, ["export"], state, content(state))
    (tmp_path / "log").write_text("refused")

    def again(code, change):
        judge.reset()
        monkeypatch.setattr(Bench, "run", lambda *_: change() or code)
        return {name: count for name, count in judge.again("killed").items() if count}

    place = bench.place
    assert again(0, lambda: None) == {"same": 1}
    assert again(0, lambda: (place / "a.json").write_text('{"seconds": 7, "b": 2}') * 0) == {"same": 1}
    assert not bench.problems
    assert again(0, lambda: (place / "a.json").write_text('{"seconds": 1, "b": 3}') * 0) == {"differing": 1}
    assert again(0, (place / "c").unlink) == {"differing": 1}
    assert again(0, (place / ".c").touch) == {"left": 1}
    assert again(2, lambda: None) == {"refused": 1}
    assert len(bench.problems) == 4
    assert "refused" in capsys.readouterr().err
    restore(state, place)
    assert content(place) == judge.wanted
