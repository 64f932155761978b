"""Every hostile file of the campaign is refused, and the campaign notices what it counts."""

import math
import mmap
import sys

import pytest

from benchmarks.reliability import hostile
from benchmarks.reliability.hostile import ARCHIVES, ROWS, campaign, judge, table, write_model
from unetrpp.core.errors import UserError

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="forks")


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:Duplicate name", "ignore:Detected pickle protocol")
def test_every_hostile_file_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(hostile, "SECONDS", math.inf)  # for the benchmark; a run that measures coverage is slower
    counts, problems = campaign(write_model(tmp_path))
    assert problems == []
    for row, (_, makers, _) in ROWS.items():
        assert counts[row]["refused"] == counts[row]["files"] == len(makers)
    assert len(table(counts).splitlines()) == len(ROWS) + 3


def refuse(file, home):
    raise UserError("not this one")


def break_down(file, home):
    raise KeyError("x")


def leave(file, home):
    (home.parent / "evil.txt").touch()
    raise UserError("too late")


def waste(file, home):
    with mmap.mmap(-1, 400 << 20) as new:  # not what an earlier test left to the allocator
        new[:: mmap.PAGESIZE] = b"1" * (len(new) // mmap.PAGESIZE)
    raise UserError("large")


@pytest.mark.parametrize(
    ("work", "counted"),
    [
        (refuse, {"refused"}),
        (lambda file, home: None, {"accepted"}),
        (break_down, {"other errors"}),
        (leave, {"refused", "left over"}),
        (waste, {"refused", "memory"}),
    ],
)
def test_each_fault_is_counted(tmp_path, work, counted):
    home = tmp_path / "outside" / "workspace"
    home.mkdir(parents=True)
    found = judge(work, tmp_path / "a.tar", home)
    assert {name for name, count in found.items() if count} == {"files"} | counted


def test_the_archives_hold_what_their_names_say(tmp_path):
    ARCHIVES["gzip bomb"](tmp_path / "a.tar", tmp_path)
    assert (tmp_path / "a.tar").stat().st_size < 1 << 20
