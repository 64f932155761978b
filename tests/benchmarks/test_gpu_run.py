"""How benchmarks/gpu.py goes on: failures, processes that die, the time and how it is divided. Seconds are those of a fake clock."""

from pathlib import Path

import pytest
import torch

from benchmarks.gpu_parts import run
from benchmarks.gpu_parts.cells import Cell, Part, Row, Setting, run_cells
from benchmarks.gpu_parts.parts import BY_NAME
from benchmarks.gpu_parts.table import table
from tests.helpers.fake_clock import FakeClock

SMALL = Setting("cpu", Path("nowhere"), small=True)


def failing(error):
    def measure():
        raise error

    return measure


def test_a_failed_cell_has_a_row_and_the_next_ones_are_measured():
    memory = torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB\nmore")
    made = [
        Cell("large", failing(memory)),
        Cell("compiled", failing(RuntimeError("cannot write /home/jane/cache/x.so"))),
        Cell("judge", dict, failing(KeyError("ms"))),
        Cell("last", lambda: {"s": 1.0}),
    ]
    rows = list(run_cells("part", made, 60))
    assert [row.outcome for row in rows] == ["failed", "failed", "failed", "no goal"]
    assert rows[0].why == "OutOfMemoryError: CUDA out of memory. Tried to allocate 2 GiB"
    assert rows[1].why == "RuntimeError: cannot write x.so"
    assert "3 failed" in table(rows)


def test_cells_that_would_take_too_long_are_left_out(monkeypatch):
    clock = FakeClock(monkeypatch)
    made = [Cell(f"compiled {i}", clock.takes(40), kind="compiled") for i in range(3)]
    made[2:2] = [Cell("eager", clock.takes(5))]
    rows = list(run_cells("step", made, 100))
    assert [(row.what, row.outcome) for row in rows] == [
        ("compiled 0", "no goal"),
        ("compiled 1", "no goal"),
        ("eager", "no goal"),
        ("compiled 2", "skipped"),
    ]
    assert rows[-1].why == "it takes about 40 s"
    assert "no time left (--minutes gives more): step: compiled 2" in table(rows)


def test_the_time_is_divided_over_the_parts_that_are_left(monkeypatch):
    clock, given = FakeClock(monkeypatch), {}
    used = {"a": 10.0, "b": 50.0, "c": 0.0}

    def runner(part, names, setting, seconds):
        given[part.name] = seconds
        clock.now += used[part.name]
        yield Row(part.name, names[0], {}, "no goal")

    parts = [Part(name, weight, lambda _: [Cell("x", dict)]) for name, weight in {"a": 2, "b": 1, "c": 1}.items()]
    assert len(list(run.run_parts(parts, SMALL, 100, runner))) == 3
    assert given == {"a": 50, "b": 45, "c": 40}


def test_after_a_dead_process_the_rest_of_the_part_goes_on():
    asked = []

    def runner(part, names, setting, seconds):
        asked.append(names)
        if "b" in names:
            yield Row(part.name, "a", {}, "no goal")
            raise run.PartStopped("its process ended with -9: no message")
        yield from (Row(part.name, name, {}, "no goal") for name in names)

    part = Part("step", 1, lambda _: [Cell(name, dict) for name in "abcd"])
    rows = list(run.run_part(part, SMALL, 60, runner))
    assert [(row.what, row.outcome) for row in rows] == [
        ("a", "no goal"),
        ("b", "failed"),
        ("c", "no goal"),
        ("d", "no goal"),
    ]
    assert asked == [("a", "b", "c", "d"), ("c", "d")]


def test_a_cuda_error_ends_the_process_and_not_the_part():
    """After it every call in the process fails."""
    broken = [Cell("a", failing(RuntimeError("CUDA error: an illegal memory access"))), Cell("b", lambda: {"s": 1.0})]
    rows = list(run.run_part(Part("step", 1, lambda _: broken), SMALL, 60, run.here))
    assert [(row.what, row.outcome) for row in rows] == [("a", "failed"), ("b", "no goal")]
    assert [row.what for row in run_cells("step", broken, 60)] == ["a"]


def test_a_part_in_a_process_of_its_own_gives_the_same_rows():
    part = BY_NAME["attention"]
    names = [cell.what for cell in part.cells(SMALL)][:1]
    (row,) = run.in_process(part, names, SMALL, 600)
    assert (row.part, row.what, set(row.values)) == ("attention", names[0], {"fused_ms", "explicit_ms"})


def test_a_part_that_does_not_end_is_stopped(monkeypatch):
    """The process is killed while it still imports."""
    monkeypatch.setattr(run, "SPARE_S", 0.3)
    with pytest.raises(run.PartStopped, match="stopped after 0 s"):
        list(run.in_process(BY_NAME["attention"], ["x"], SMALL, 0.0))


def test_memory_that_a_cell_held_is_free_before_the_next(monkeypatch):
    freed = []
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: freed.append(True))
    list(run_cells("part", [Cell("a", lambda: {"s": 1.0}), Cell("b", failing(RuntimeError()))], 60))
    assert freed == [True, True]
