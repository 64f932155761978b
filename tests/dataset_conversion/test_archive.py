"""Unpacking: unsafe archives are refused before anything is written."""

import errno
import io
import shutil
import tarfile

import pytest

from unetrpp.core.errors import UserError
from unetrpp.dataset_conversion import archive
from unetrpp.dataset_conversion.archive import archive_stem, unpack


def make_tar(path, members, mode="w"):
    with tarfile.open(path, mode) as tar:
        for name, content in members:
            member = name if isinstance(name, tarfile.TarInfo) else tarfile.TarInfo(name)
            member.mtime = 1_000_000_000
            if member.isfile():
                member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return path


def link(name, target, kind):
    member = tarfile.TarInfo(name)
    member.type, member.linkname = kind, target
    return member


@pytest.mark.parametrize("mode", ["w", "w:gz"])
def test_plain_files_are_unpacked_and_metadata_of_macos_are_not(tmp_path, mode):
    path = make_tar(tmp_path / "a.tar", [("T/x.txt", b"one"), ("T/._x.txt", b"junk"), ("T/.DS_Store", b"junk")], mode)
    unpack(path, tmp_path / "out")
    assert [p.name for p in (tmp_path / "out").rglob("*") if p.is_file()] == ["x.txt"]
    assert (tmp_path / "out/T/x.txt").read_bytes() == b"one"


@pytest.mark.parametrize(
    "member",
    [
        "../evil.txt",
        "T/../../evil.txt",
        "/tmp/evil.txt",
        "T\\..\\..\\evil.txt",
        "C:evil.txt",
        link("T/link", "/etc/passwd", tarfile.SYMTYPE),
        link("T/hard", "../../etc/passwd", tarfile.LNKTYPE),
        link("T/device", "", tarfile.CHRTYPE),
        link("T/pipe", "", tarfile.FIFOTYPE),
    ],
)
def test_a_hostile_member_is_refused_and_nothing_is_written(tmp_path, member):
    path = make_tar(tmp_path / "a.tar", [("T/good.txt", b"good"), (member, b"bad")])
    with pytest.raises(UserError, match=r"a\.tar holds"):
        unpack(path, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_an_archive_that_does_not_fit_on_the_disk_is_refused(tmp_path, monkeypatch):
    path = make_tar(tmp_path / "a.tar", [("T/x", b"12345678")])
    monkeypatch.setattr(shutil, "disk_usage", lambda _: type("Usage", (), {"free": 7}))
    with pytest.raises(UserError, match="free space"):
        unpack(path, tmp_path / "out")


def test_too_many_files_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(archive, "MOST_FILES", 2)
    with pytest.raises(UserError, match="more than 2 files"):
        unpack(make_tar(tmp_path / "a.tar", [(f"T/{i}", b"") for i in range(3)]), tmp_path / "out")


def test_a_truncated_archive_is_refused(tmp_path):
    path = make_tar(tmp_path / "a.tar.gz", [("T/x", bytes(range(256)) * 500)], "w:gz")
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(UserError, match="download it again"):
        unpack(path, tmp_path / "out")


def test_unpacking_again_replaces_incomplete_files_only(tmp_path):
    path = make_tar(tmp_path / "a.tar", [("T/x", b"whole"), ("T/y", b"other")])
    unpack(path, tmp_path / "out")
    before = (tmp_path / "out/T/x").stat().st_ino
    (tmp_path / "out/T/y").write_bytes(b"ot")
    unpack(path, tmp_path / "out")
    assert (tmp_path / "out/T/x").stat().st_ino == before
    assert (tmp_path / "out/T/y").read_bytes() == b"other"


def test_stems(tmp_path):
    assert [archive_stem(tmp_path / n) for n in ("Task01_A.tar", "b.tar.gz", "c.tgz", "folder")] == [
        "Task01_A",
        "b",
        "c",
        None,
    ]


def test_an_archive_that_unpacks_to_far_more_than_its_size_is_refused_at_once(tmp_path, monkeypatch):
    monkeypatch.setattr(archive, "FLOOR", 10_000)
    path = make_tar(tmp_path / "a.tar.gz", [("T/x", bytes(60_000)), ("T/y", bytes(60_000))], "w:gz")
    with pytest.raises(UserError, match=r"a\.tar\.gz would unpack to more than 0\.0 GB, \d+ times its size"):
        unpack(path, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    unpack(make_tar(tmp_path / "b.tar.gz", [("T/x", bytes(10_000))], "w:gz"), tmp_path / "out")


def test_two_files_of_one_name_are_refused(tmp_path):
    path = make_tar(tmp_path / "a.tar", [("T/\u00fc", b"1"), ("T/u\u0308", b"2")])
    with pytest.raises(UserError, match="two files of the name"):
        unpack(path, tmp_path / "out")


def test_a_full_disk_is_not_blamed_on_the_archive(tmp_path, monkeypatch):
    path = make_tar(tmp_path / "a.tar", [("T/x", b"1")])

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(shutil, "copyfileobj", full)
    with pytest.raises(OSError, match="No space left") as raised:
        unpack(path, tmp_path / "out")
    assert raised.value.filename == str(tmp_path / "out/T/x")
