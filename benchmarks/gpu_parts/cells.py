"""One measurement is a cell: a function that returns named numbers, and what is wanted of them. What comes out is a row."""

import gc
import re
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import msgspec
import torch

Values = dict[str, float]
Outcome = Literal["met", "missed", "no goal", "failed", "skipped"]
LONGEST_REASON = 160


@dataclass(frozen=True)
class Setting:
    """What all parts are given."""

    device: str
    folder: Path  # for the workspace of the measured dataset
    raw: Path | None = None  # a raw dataset of the user's; None: one is made
    small: bool = False  # tiny networks and volumes, eager mode alone: to try the benchmark on a CPU


class Verdict(msgspec.Struct, frozen=True):
    outcome: Outcome
    why: str = ""


NO_GOAL = Verdict("no goal")


class Row(msgspec.Struct, frozen=True):
    """One line of the table. It goes from a part's process to the command, and into the JSON file."""

    part: str
    what: str
    values: Values
    outcome: Outcome
    why: str = ""


@dataclass(frozen=True)
class Cell:
    what: str
    measure: Callable[[], Values]
    judge: Callable[[Values], Verdict] = lambda values: NO_GOAL
    kind: str = ""  # cells of one kind take about as long; alone if empty


@dataclass(frozen=True)
class Part:
    """Cells that run in one process, the most important ones first."""

    name: str
    weight: float  # its share of the time
    cells: Callable[[Setting], Sequence[Cell]]  # makes them without measuring anything


def run_cells(part: str, cells: Sequence[Cell], seconds: float) -> Iterator[Row]:
    """Measure one cell after the other, in the time that there is. One that fails gives a row that says so.

    After some CUDA errors every later call of the process fails, too, so these end it before the cells are done.
    """
    end, longest = time.monotonic() + seconds, dict[str, float]()
    for cell in cells:
        start, expected = time.monotonic(), longest.get(cell.kind or cell.what, 0.0)
        if start + expected >= end:
            why = f"it takes about {expected:.0f} s" if start < end else "no time left"
            yield Row(part, cell.what, {}, "skipped", why)
            continue
        try:
            values = cell.measure()
            verdict = cell.judge(values)
            yield Row(part, cell.what, values, verdict.outcome, verdict.why)
        except Exception as error:  # a compiler and a driver may raise anything
            yield Row(part, cell.what, {}, "failed", reason(error))
            if "CUDA error" in str(error):
                return
        forget()
        longest[cell.kind or cell.what] = max(expected, time.monotonic() - start)


def forget() -> None:
    """Free what a cell left behind: reference cycles, and the allocator's memory."""
    gc.collect()
    if torch.cuda.is_initialized():
        torch.cuda.empty_cache()


def reason(error: BaseException) -> str:
    """The first line of an error, without folders, which may hold names of people."""
    lines = str(error).strip().splitlines() or [""]
    text = f"{type(error).__name__}: {lines[0]}" if lines[0] else type(error).__name__
    return without_folders(text)[:LONGEST_REASON]


def without_folders(text: str) -> str:
    r"""
    >>> without_folders("cannot open /home/jane/data/case.nii.gz or C:\\Users\\jane\\x.txt: no such file")
    'cannot open case.nii.gz or x.txt: no such file'
    """
    return re.sub(r"(?:[A-Za-z]:)?(?:[/\\][^\s/\\:'\"]+)*[/\\]([^\s/\\:'\"]+)", r"\1", text)
