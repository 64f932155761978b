"""Writes are whole or absent; records are strict."""

import msgspec
import pytest

from unetrpp.errors import UserError
from unetrpp.files import Record, read_json, read_json_lines, write_atomically, write_json


class Small(Record, frozen=True, kw_only=True):
    patch: tuple[int, ...]
    name: str = "x"


def test_a_failing_writer_leaves_the_old_file_and_no_debris(tmp_path):
    path = tmp_path / "a.json"
    write_json(path, Small(patch=(1,)))

    def fail(temporary):
        temporary.write_text("half")
        raise RuntimeError("disk full")

    with pytest.raises(RuntimeError):
        write_atomically(path, fail)
    assert read_json(path, Small).patch == (1,)
    assert [p.name for p in tmp_path.iterdir()] == ["a.json"]


def test_the_temporary_name_keeps_the_suffix_and_is_hidden(tmp_path):
    seen = []

    def write(temporary):
        seen.append(temporary.name)
        temporary.write_bytes(b"x")

    write_atomically(tmp_path / "a.nii.gz", write)
    assert seen[0].startswith(".")
    assert seen[0].endswith("a.nii.gz")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b'{"patch": [1], "nmae": "y"}', "nmae"),
        (b'{"patch": "1"}', r"\$.patch"),
        (b'{"patch": [1]', "truncated"),
        (b"{}", "patch"),
    ],
)
def test_a_bad_record_names_the_place(tmp_path, content, words):
    (tmp_path / "r.json").write_bytes(content)
    with pytest.raises(UserError, match=words):
        read_json(tmp_path / "r.json", Small)


def test_a_missing_file_says_the_mend(tmp_path):
    with pytest.raises(UserError, match=r"does not exist; plan first"):
        read_json(tmp_path / "r.json", Small, mend="plan first")


def test_round_trip_and_nan_is_null(tmp_path):
    record = Small(patch=(4, 5), name="é")
    write_json(tmp_path / "r.json", record)
    assert read_json(tmp_path / "r.json", Small) == record
    write_json(tmp_path / "n.json", {"dice": float("nan")})
    assert msgspec.json.decode((tmp_path / "n.json").read_bytes()) == {"dice": None}


def test_a_torn_last_line_is_left_out(tmp_path):
    path = tmp_path / "metrics.jsonl"
    assert read_json_lines(path) == []
    path.write_bytes(b'{"epoch":1}\n{"epoch":2}\n{"epo')
    assert read_json_lines(path) == [{"epoch": 1}, {"epoch": 2}]
