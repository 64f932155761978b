"""The short form of the campaign of limits, and whether the campaign notices what it counts."""

import os
import sys

import pytest

if sys.platform != "linux":
    pytest.skip("limits of Linux", allow_module_level=True)

from benchmarks.reliability import limits, trials
from benchmarks.reliability.commands import Command
from benchmarks.reliability.trees import content, restore


def child_code(work):
    child = os.fork()
    if not child:
        code = 1
        try:
            work()
            code = 0
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


@pytest.mark.slow
def test_no_limit_loses_anything(capfd):
    counts, problems = limits.campaign(["convert"], ["size of a file", "open files", "read-only folders"], 2)
    assert problems == [], capfd.readouterr().err
    assert counts["convert"]["size of a file", "trials"] == 4
    assert len(limits.table(counts, trials.COLUMNS).splitlines()) == 4


def test_without_its_rights_root_obeys_permissions(tmp_path):
    (tmp_path / "locked").mkdir()
    (tmp_path / "locked").chmod(0o555)

    def write():
        trials.obey_permissions()
        with pytest.raises(PermissionError):
            (tmp_path / "locked" / "file").touch()

    assert child_code(write) == 0


SENTENCE = "x: error: a.json: No space left on device; free some space and give the same command again"


def finish(place):
    (place / "new.json").write_text("[1]")
    (place / "old.json").write_text('{"a": 1}')
    return limits.Run(0, "done")


def stop(place):
    return limits.Run(1, SENTENCE)


def lose(place):
    (place / "old.json").unlink()
    return limits.Run(1, SENTENCE)


def halve(place):
    (place / "new.json").write_text("[")
    return limits.Run(1, SENTENCE)


def replace(place):
    (place / "old.json").write_text('{"b": 1}')
    (place / ".7.new.json").touch()
    return limits.Run(1, SENTENCE)


def leave(place):
    (place / "new.json").write_text("[1]")
    return limits.Run(0, "done")


@pytest.mark.parametrize(
    ("limited", "later", "faults"),
    [
        (finish, finish, []),
        (stop, finish, []),
        (replace, lambda place: (place / ".7.new.json").unlink() or finish(place), []),
        (replace, finish, ["differs afterwards"]),
        (stop, leave, ["differs afterwards"]),
        (stop, stop, ["differs afterwards"]),
        (lose, finish, ["lost or half a file"]),
        (halve, finish, ["lost or half a file"]),
        (leave, finish, ["exit code 0"]),
        (lambda place: limits.Run(1, "x: error: odd"), finish, ["no sentence"]),
        (lambda place: limits.Run(1, f"Traceback (most recent call last)\n{SENTENCE}"), finish, ["traceback"]),
        (lambda place: limits.Run(-11, ""), finish, ["ended by a signal"]),
        (lambda place: limits.Run(None, ""), finish, ["hangs"]),
    ],
)
def test_each_fault_is_counted(tmp_path, monkeypatch, limited, later, faults):
    bench = limits.Bench(tmp_path)
    bench.place.mkdir(parents=True)
    (bench.place / "old.json").write_text("{}")
    before = content(bench.place)
    restore(bench.place, tmp_path / "state")
    finish(bench.place)
    after = content(bench.place)
    restore(tmp_path / "state", bench.place)
    runs = iter([limited, later])
    monkeypatch.setattr(limits.Bench, "run", lambda self, arguments, limit=None: next(runs)(self.place))
    assert limits.judge(bench, Command("x", ("x",)), trials.Trial("t"), before, after) == faults
    assert len(bench.problems) == bool(faults)


def test_a_run_under_a_limit_says_what_it_said(tmp_path):
    bench = limits.Bench(tmp_path)
    bench.place.mkdir(parents=True)
    run = bench.run(["evaluate", "--model", "nowhere"])
    assert run.code == 2
    assert "nowhere is not a model folder" in run.said


def test_levels_are_spread_with_both_ends():
    assert trials._spread([1, 2, 3, 4, 5], 3) == [1, 3, 5]
    assert trials._spread([1, 2], 5) == [1, 2]
    assert trials._spread([1, 2, 3], 1) == [1]
    assert trials._spread([], 3) == []
