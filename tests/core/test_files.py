"""Files and folders are written completely or not at all; records are strict."""

import errno
import os
import shutil
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec
import pytest

from unetrpp.core.errors import UserError
from unetrpp.core.files import (
    PAUSES_S,
    Record,
    is_dangling,
    link_or_copy,
    read_edited_json,
    read_json,
    read_json_lines,
    remove_folder,
    update_json,
    walk,
    write_atomically,
    write_bytes,
    write_folder_atomically,
    write_json,
)
from unetrpp.core.leftovers import temporary_name


class Small(Record, frozen=True, kw_only=True):
    patch: tuple[int, ...]
    name: str = "x"


def test_a_failing_writer_keeps_the_old_file_and_leaves_no_temporary_file(tmp_path):
    path = tmp_path / "a.json"
    write_json(path, Small(patch=(1,)))

    def fail(temporary):
        temporary.write_text("half")
        raise RuntimeError("disk full")

    with pytest.raises(RuntimeError):
        write_atomically(path, fail)
    assert read_json(path, Small).patch == (1,)
    assert [p.name for p in tmp_path.iterdir()] == ["a.json"]


def test_an_error_names_the_file_and_not_the_temporary_one(tmp_path):
    def full(temporary):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with pytest.raises(OSError, match="No space left") as raised:
        write_atomically(tmp_path / "a.json", full)
    assert raised.value.filename == str(tmp_path / "a.json")


@pytest.mark.skipif(sys.platform != "linux", reason="limits of Linux")
def test_a_library_that_does_not_say_why_gets_the_reason_of_the_system(tmp_path):
    import resource

    def write(temporary):
        with suppress(OSError):
            temporary.write_bytes(bytes(2000))
        raise RuntimeError("unexpected pos 640 vs 598")

    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, before[1]))
    try:
        with pytest.raises(OSError, match="File too large") as raised:
            write_atomically(tmp_path / "a.pt", write)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert raised.value.filename == str(tmp_path / "a.pt")
    assert not list(tmp_path.iterdir())


def test_records_that_are_nested_without_end_are_refused(tmp_path):
    (tmp_path / "a.json").write_bytes(b"[" * 200_000)
    with pytest.raises(UserError, match=r"a\.json: .*; restore the file"):
        read_json(tmp_path / "a.json", list[object])


def test_the_temporary_name_keeps_the_suffix_and_is_hidden(tmp_path):
    seen = []

    def write(temporary):
        seen.append(temporary.name)
        temporary.write_bytes(b"x")

    write_atomically(tmp_path / "a.nii.gz", write)
    assert seen[0].startswith(".")
    assert seen[0].endswith("a.nii.gz")


def test_a_temporary_file_of_a_killed_process_with_the_same_id_is_not_reused(tmp_path):
    first, second, left = tmp_path / "first", tmp_path / "second", tmp_path / temporary_name("second")
    first.write_bytes(b"shared")
    for write in (lambda: link_or_copy(first, second), lambda: write_bytes(second, b"new")):
        os.link(first, left)  # killed between the link and its new name
        write()
        assert first.read_bytes() == b"shared"
        assert not left.exists()
    assert second.read_bytes() == b"new"


def test_a_folder_is_removed_at_once_and_a_link_without_its_target(tmp_path, monkeypatch):
    folder, link = tmp_path / "fold_0", tmp_path / "fold_1"
    write_bytes(folder / "a", b"a")
    write_bytes(folder / "b", b"b")
    link.symlink_to(folder)
    remove_folder(link)
    assert names(tmp_path) == ["fold_0/a", "fold_0/b"]

    def stop(path):
        (path / "a").unlink()
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(shutil, "rmtree", stop)
        with pytest.raises(KeyboardInterrupt):
            remove_folder(folder)
    assert not folder.exists()
    write_bytes(folder / "a", b"a")  # made again by the next command
    remove_folder(folder)
    remove_folder(folder)  # there is none
    assert not list(tmp_path.iterdir())


def names(folder):
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def test_a_folder_appears_under_its_name_when_it_is_complete(tmp_path):
    target, seen = tmp_path / "results" / "model", []

    def fill(folder):
        seen.append((folder.name, target.exists(), folder.parent.name.startswith(".")))
        (folder / "fold_0").mkdir()
        (folder / "fold_0" / "weights").write_bytes(b"w")
        return "what fill returns"

    assert write_folder_atomically(target, fill) == "what fill returns"
    assert seen == [("model", False, True)]
    assert names(tmp_path) == ["results/model/fold_0/weights"]
    assert list(target.parent.iterdir()) == [target]


@pytest.mark.parametrize("replace", [False, True])
@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_a_crash_while_a_folder_is_filled_leaves_what_was_there(tmp_path, replace, error):
    target = tmp_path / "model"
    if replace:
        target.mkdir()
        (target / "old").write_bytes(b"old")

    def fail(folder):
        (folder / "new").write_bytes(b"half")
        raise error

    with pytest.raises(error):
        write_folder_atomically(target, fail, replace=replace)
    assert names(tmp_path) == (["model/old"] if replace else [])
    assert list(tmp_path.iterdir()) == ([target] if replace else [])


def test_a_folder_is_replaced_as_a_whole_and_only_if_that_is_allowed(tmp_path):
    target = tmp_path / "model"
    write_folder_atomically(target, lambda folder: (folder / "old").write_bytes(b"old"))
    with pytest.raises(UserError, match=r"model exists already; import with --overwrite$"):
        write_folder_atomically(target, lambda _: pytest.fail("filled"), hint="import with --overwrite")
    assert names(tmp_path) == ["model/old"]
    write_folder_atomically(target, lambda folder: (folder / "new").write_bytes(b"new"), replace=True)
    assert names(tmp_path) == ["model/new"]
    assert list(tmp_path.iterdir()) == [target]


def test_an_empty_folder_counts_as_absent_and_a_file_does_not(tmp_path):
    (tmp_path / "empty").mkdir()
    write_folder_atomically(tmp_path / "empty", lambda folder: (folder / "a").write_bytes(b"a"))
    assert names(tmp_path) == ["empty/a"]
    (tmp_path / "file").write_bytes(b"b")
    for replace in (False, True):
        with pytest.raises(UserError, match="file is a file, but a folder is to be written there"):
            write_folder_atomically(tmp_path / "file", lambda _: None, replace=replace)
    assert (tmp_path / "file").read_bytes() == b"b"


def test_the_replaced_folder_comes_back_where_the_new_one_cannot_be_renamed(tmp_path, monkeypatch):
    target, replace = tmp_path / "model", Path.replace
    write_folder_atomically(target, lambda folder: (folder / "old").write_bytes(b"old"))

    def refuse(self, to):
        if self.name == "model" and self.parent != tmp_path:
            raise OSError(28, "No space left on device")
        return replace(self, to)

    monkeypatch.setattr(Path, "replace", refuse)
    with pytest.raises(OSError, match="No space"):
        write_folder_atomically(target, lambda folder: (folder / "new").write_bytes(b"new"), replace=True)
    assert names(tmp_path) == ["model/old"]
    assert list(tmp_path.iterdir()) == [target]


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


def test_files_from_editors_on_windows(tmp_path):
    path = tmp_path / "r.json"
    path.write_text('{"patch": [1], "name": "M\u00fcll"}', encoding="utf-8-sig")
    assert read_json(path, Small).name == "M\u00fcll"
    path.write_text('{"patch": [1], "name": "M\u00fcll"}', encoding="latin-1")
    with pytest.raises(UserError, match="not in UTF-8"):
        read_json(path, Small)


def test_the_message_about_a_missing_file_has_the_hint(tmp_path):
    with pytest.raises(UserError, match=r"does not exist; plan first"):
        read_json(tmp_path / "r.json", Small, hint="plan first")


def test_round_trip_and_nan_is_null(tmp_path):
    record = Small(patch=(4, 5), name="é")
    write_json(tmp_path / "r.json", record)
    assert read_json(tmp_path / "r.json", Small) == record
    write_json(tmp_path / "n.json", {"dice": float("nan")})
    assert msgspec.json.decode((tmp_path / "n.json").read_bytes()) == {"dice": None}


def test_an_incomplete_last_line_is_ignored(tmp_path):
    path = tmp_path / "metrics.jsonl"
    assert read_json_lines(path) == []
    path.write_bytes(b'{"epoch":1}\n{"epoch":2}\n{"epo')
    assert read_json_lines(path) == [{"epoch": 1}, {"epoch": 2}]


@pytest.mark.parametrize(
    ("platform", "refusals", "works"), [("win32", 2, True), ("win32", 99, False), ("linux", 1, False)]
)
def test_on_windows_an_open_file_is_replaced_once_it_is_closed(tmp_path, monkeypatch, platform, refusals, works):
    path, replace, left = tmp_path / "a.json", Path.replace, [refusals]
    slept: list[float] = []

    def refuse(self, target):
        left[0] -= 1
        if left[0] >= 0:
            raise PermissionError(13, "Access is denied")
        return replace(self, target)

    monkeypatch.setattr(sys, "platform", platform)
    monkeypatch.setattr(Path, "replace", refuse)
    monkeypatch.setattr("time.sleep", slept.append)
    if works:
        write_json(path, [1])
        assert read_json(path, list[int]) == [1]
        assert len(slept) == refusals
    else:
        with pytest.raises(PermissionError):
            write_json(path, [1])
        assert len(slept) == (platform == "win32") * len(PAUSES_S)
        assert not list(tmp_path.iterdir())


def test_walking_follows_links_but_not_in_circles(tmp_path):
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "a" / "b" / "file").touch()
    (tmp_path / "top").mkdir()
    (tmp_path / "top" / "link").symlink_to(tmp_path / "a")
    (tmp_path / "a" / "b" / "back").symlink_to(tmp_path / "top")
    (tmp_path / "top" / "nowhere").symlink_to("gone")
    found = [path.relative_to(tmp_path / "top").as_posix() for path in walk(tmp_path / "top")]
    assert found == ["link", "link/b", "link/b/back", "link/b/file", "nowhere"]
    assert [is_dangling(tmp_path / "top" / name) for name in ("link", "nowhere")] == [False, True]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('{"labels": {"a": 1, "b": 2, "a": 3}}', "the key 'a' is given twice in one object"),
        ('{"a": 1, "b": [{"c": 1, "c": 1}], "a": 2}', "the keys 'c', 'a' are each given twice"),
        ('{"a": 1' + "".join(f', "k{i}": 0, "k{i}": 0' for i in range(9)) + "}", r"'k0', .*, 'k4' \.\.\. are each"),
    ],
)
def test_a_key_that_users_gave_twice_is_refused(tmp_path, text, words):
    path = tmp_path / "edited.json"
    path.write_text(text)
    with pytest.raises(UserError, match=words):
        read_edited_json(path, dict[str, Any])


def test_equal_keys_of_different_objects_are_usual(tmp_path):
    path = tmp_path / "edited.json"
    path.write_text('[{"a": 1.5, "b": 11}, {"a": {"a": -1}}]', encoding="utf-8-sig")
    assert read_edited_json(path, list[Any]) == [{"a": 1.5, "b": 11}, {"a": {"a": -1}}]


def test_an_equal_record_is_left_as_it_is(tmp_path):
    path = tmp_path / "numbers.json"
    update_json(path, {"a": 1})
    path.write_text('{"a":   1}')
    update_json(path, {"a": 1})
    assert path.read_text() == '{"a":   1}'
    for broken in ('{"a": 2}', "{", "[]"):
        path.write_text(broken)
        update_json(path, {"a": 1})
        assert read_json(path, dict) == {"a": 1}


def test_an_error_without_a_number_keeps_its_words(tmp_path):
    def fail(_):
        raise OSError("out of memory error when writing image file")

    with pytest.raises(OSError, match=r"^out of memory error when writing image file$"):
        write_atomically(tmp_path / "a.png", fail)


@pytest.mark.skipif(sys.platform == "win32", reason="links need a privilege there")
def test_a_link_is_written_whatever_it_leads_to(tmp_path):
    """A user may link to files that only others may write, and to files that are not there yet."""
    write_atomically(tmp_path / "link", lambda place: place.symlink_to(tmp_path / "nowhere"))
    assert (tmp_path / "link").is_symlink()
