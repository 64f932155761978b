"""Voxels in files beside their header: which files a header names, and what is refused before memory is taken."""

import errno
from pathlib import Path

import numpy as np
import pytest

from unetrpp.core.errors import UserError
from unetrpp.io.readers import detached
from unetrpp.io.readers.detached import MOST_FILES, files_named, gathered, require_files

HEADER = Path("folder/a.mhd")


def names(data, lines=()):
    return [str(file.relative_to("folder")) for file in files_named(HEADER, data, lines)]


@pytest.mark.parametrize("pattern", ["s%d.raw", "s%02d.raw", "deep/s%3d_x.raw", "%012d"])
def test_numbered_names_are_those_of_printf(pattern):
    for numbers, truth in (("1 5 2", [1, 3, 5]), ("1 3", [1, 2, 3]), ("12 10 -1", [12, 11, 10]), ("7 8 1 2", [7, 8])):
        assert names(f"{pattern} {numbers}".encode()) == [pattern % number for number in truth]


@pytest.mark.parametrize(
    "name",
    [
        "%999999999d 1 3",
        "%.999999999d 1 3",
        "%*d 1 3",
        "%s%d 1 3",
        "s%d 1 9999999999999",
        "s%d",
        "50%.raw",
        "my s%d 1 3",
    ],
)
def test_any_other_form_is_a_name_like_all_others(name):
    assert names(name.encode()) == [name]


def test_lists():
    assert names(b"list 2", [b" a.raw\r", b"", b"../b.raw"]) == ["a.raw", "../b.raw"]
    assert names(b"listed.raw", [b"a.raw"]) == ["listed.raw"]


@pytest.mark.parametrize(
    ("data", "count"),
    [
        ("s%d 1 10001", 10001),
        ("s%d 0 999999999", 10**9),
        ("s%d 3 1", 0),
        ("s%d 1 3 0", 0),
        ("LIST", 0),
        ("LIST", 10001),
    ],
)
def test_no_file_and_too_many_are_refused(data, count):
    with pytest.raises(UserError) as caught:
        files_named(HEADER, data.encode(), [b"x"] * count if data == "LIST" else ())
    said = f"a.mhd names {count} files of voxels, where 1 to {MOST_FILES} are read; save it as one file"
    assert str(caught.value) == said


def test_a_name_that_the_system_refuses(tmp_path):
    with pytest.raises(UserError) as caught:
        require_files(tmp_path / "a.mhd", [tmp_path / ("x" * 60_000)])
    assert str(caught.value).startswith("a.mhd has its voxels in xxxxx")
    assert "which cannot be read (File name too long); save it as one file" in str(caught.value)
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize("number", [errno.EACCES, errno.EIO])
def test_a_file_that_cannot_be_read_is_named(tmp_path, monkeypatch, number):
    def refuse(*_):
        raise OSError(number, "no")

    monkeypatch.setattr(detached, "read_or_map", refuse)
    with pytest.raises(UserError, match=r"v\.raw.* cannot be read \("):
        gathered(tmp_path / "a.mhd", [(tmp_path / "v.raw", 0)], 4)


def test_too_little_memory_is_no_fault_of_the_file(tmp_path, monkeypatch):
    def refuse(*_):
        raise OSError(errno.ENOMEM, "no")

    monkeypatch.setattr(detached, "read_or_map", refuse)
    with pytest.raises(OSError, match="Cannot allocate memory"):
        gathered(tmp_path / "a.mhd", [(tmp_path / "v.raw", 0)], 4)


def test_shares(tmp_path):
    files = [tmp_path / "a", tmp_path / "b"]
    for file in files:
        file.write_bytes(file.name.encode() * 5)
    pieces = [(file, 0) for file in files]
    np.testing.assert_array_equal(gathered(HEADER, pieces, 6), np.frombuffer(b"aaabbb", np.uint8))
    with pytest.raises(UserError, match="7 bytes of voxels cannot lie in 2 files of equal size"):
        gathered(HEADER, pieces, 7)
    with pytest.raises(UserError, match="5 of 6 bytes of voxels are in a"):
        gathered(HEADER, pieces, 12)
