"""The short form of the mutation campaign, and whether the campaign notices what it counts."""

import mmap
import os
import time

import numpy as np
import pytest

from benchmarks.reliability import judge
from benchmarks.reliability.formats import FORMATS
from benchmarks.reliability.judge import Bench, Judged, compare, difference, read
from benchmarks.reliability.mutants import KINDS, mutant
from benchmarks.reliability.mutate import WRONG, Worker, campaign, table
from unetrpp.core.errors import UserError
from unetrpp.io.images import Volume, read_file

MUTANTS, SEED = 100, 1


@pytest.mark.slow
def test_no_damaged_file_is_read_wrongly(capfd):
    counts = campaign(list(FORMATS), SEED, range(MUTANTS))
    wrong = {name: {column: count[column] for column in WRONG if count[column]} for name, count in counts.items()}
    assert not any(wrong.values()), (wrong, capfd.readouterr().err)
    assert all(
        count["equal"] and count["refused"] and count["equal"] + count["refused"] == MUTANTS
        for count in counts.values()
    )
    assert len(table(counts).splitlines()) == len(FORMATS) + 3


def test_a_mutant_depends_on_seed_and_number_only(tmp_path):
    bench, other = Bench("BMP", tmp_path / "a"), Bench("BMP", tmp_path / "b")
    contents = []
    for k in range(30):
        bench.damage(5, k)
        other.damage(5, 29 - k)
        contents.append(bench.path.read_bytes())
    other.damage(5, 7)
    assert other.path.read_bytes() == contents[7]
    assert len(set(contents)) > 20


@pytest.mark.parametrize("kind", KINDS)
def test_each_kind_of_damage_changes_bytes(kind):
    content = bytes(range(48, 58)) * 30
    rng = np.random.default_rng(0)
    changed = [bytes(kind(bytearray(content), 100, rng)) != content for _ in range(20)]
    assert sum(changed) > 10


def test_mutants_are_of_every_kind():
    rng = np.random.default_rng(0)
    assert {mutant(bytes(99), 50, rng)[0] for _ in range(200)} == {kind.__name__ for kind in KINDS}


def test_a_difference_of_one_value_or_of_the_place_is_seen(tmp_path):
    bench = Bench("NRRD raw", tmp_path / "a")
    array, matrix = bench.valid.array, judge.matrix_of(bench.valid)
    assert not difference(bench.valid, (array, matrix))
    other = array.copy()
    other[0, 1, 2, 3] += 1
    assert "values differ by 1" in difference(bench.valid, (other, matrix))
    assert "shape" in difference(bench.valid, (array[:, 1:], matrix))
    moved = matrix.copy()
    moved[0, 3] += 0.1
    assert "corners lie 0.1 voxels apart" in difference(bench.valid, (array, moved))
    assert compare(bench, bench.valid).outcome == "equal"
    assert compare(bench, Volume(other, bench.valid.geometry)).outcome == "different"


def test_what_no_other_reader_reads_must_be_the_undamaged_image(tmp_path):
    bench = Bench("PNG 16 bits", tmp_path / "a")
    valid = bench.valid
    bench.path.write_bytes(b"nothing")
    assert compare(bench, valid).outcome == "equal"
    assert compare(bench, Volume(valid.array + 1, valid.geometry)).outcome == "different"


@pytest.mark.parametrize(
    ("error", "outcome"),
    [(UserError("a.bmp is empty"), "refused"), (UserError("a file is empty"), "unnamed"), (KeyError("x"), "crash")],
)
def test_errors_are_told_apart(tmp_path, monkeypatch, error, outcome):
    bench = Bench("BMP", tmp_path / "a")
    assert bench.valid is not None

    def fail(_):
        raise error

    monkeypatch.setattr(judge, "read_file", fail)
    assert read(bench, bench.path)[1].outcome == outcome


def test_memory_beyond_the_claim_is_seen(tmp_path, monkeypatch):
    bench = Bench("BMP", tmp_path / "a")
    assert bench.valid is not None
    assert not read(bench, bench.path)[1].grown

    def waste(path):
        fresh = mmap.mmap(-1, 100 << 20)  # numpy could take memory that this process has kept from before
        np.frombuffer(fresh, np.uint8)[:] = 1
        return read_file(path)

    monkeypatch.setattr(judge, "read_file", waste)
    assert read(bench, bench.path)[1].grown > 90 << 20


def die(connection, _):
    connection.send("flipped")
    os._exit(11)


def sleep(connection, _):
    connection.send("flipped")
    time.sleep(60)


@pytest.mark.parametrize(("work", "outcome"), [(die, "crash"), (sleep, "hang")])
def test_a_process_that_dies_or_hangs_is_replaced(tmp_path, work, outcome):
    worker = Worker(tmp_path, work, seconds=2)
    try:
        for _ in range(2):
            kind, judged = worker.judge("BMP", 0, 0)
            assert (kind, judged.outcome) == ("flipped", outcome)
            assert isinstance(judged, Judged)
    finally:
        worker.stop()
