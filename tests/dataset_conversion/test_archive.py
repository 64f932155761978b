"""Unpacking: unsafe archives are refused before anything is written."""

import errno
import io
import shutil
import stat
import struct
import tarfile
import zipfile
import zlib

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
    names = ("Task01_A.tar", "b.tar.gz", "c.tgz", "CHAOS_Train_Sets.zip", "D.TAR.GZ", "folder", "scan.nii.gz")
    assert [archive_stem(tmp_path / n) for n in names] == ["Task01_A", "b", "c", "CHAOS_Train_Sets", "D", None, None]


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


def entry(name, content=b"content", **fields):
    """A file of a .zip as the format's description (APPNOTE 6.3) has it, with any ``fields`` of its record changed."""
    packed = zlib.compress(content, wbits=-15)
    default: dict[str, object] = {
        "flags": 0x800,
        "method": 8,
        "time": 0x6000,
        "date": 0x5A21,
        "attributes": (stat.S_IFREG | 0o644) << 16,
    }
    default |= {"size": len(content), "crc": zlib.crc32(content), "packed": packed, "name": name.encode("utf8")}
    return default | fields


def make_zip(path, entries, *, comment=b""):
    data, index = b"", b""
    for each in entries:
        shared = struct.pack(
            "<HHHHIIIH",
            *(each[key] for key in ("flags", "method", "time", "date", "crc")),
            len(each["packed"]),
            each["size"],
            len(each["name"]),
        )
        place = len(data)
        data += b"PK\x03\x04" + struct.pack("<H", 20) + shared + struct.pack("<H", 0) + each["name"] + each["packed"]
        index += b"PK\x01\x02" + struct.pack("<HH", 3 << 8 | 20, 20) + shared
        index += struct.pack("<HHHHII", 0, 0, 0, 0, each["attributes"], place) + each["name"]
    end = struct.pack("<HHHHIIH", 0, 0, len(entries), len(entries), len(index), len(data), len(comment))
    path.write_bytes(data + index + b"PK\x05\x06" + end + comment)
    return path


def unpacked(folder):
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_a_zip_is_unpacked_without_the_metadata_of_macos(tmp_path):
    names = ("T/x.txt", "T/._x.txt", "T/.DS_Store", "__MACOSX/T/x.txt", "T/\u00fc b.txt")
    entries = [entry(name, name.encode()) for name in names]
    entries.append(entry("T/a/", b"", attributes=(stat.S_IFDIR | 0o755) << 16))
    entries[-2]["flags"] = 0  # macOS writes UTF-8 without its flag
    unpack(make_zip(tmp_path / "a.zip", entries, comment=b"from a server"), tmp_path / "out")
    assert unpacked(tmp_path / "out") == {name: name.encode() for name in (names[0], names[-1])}
    assert (tmp_path / "out/T/x.txt").stat().st_mtime == pytest.approx(
        1_735_732_800, abs=86_400
    )  # 1 January 2025, noon


@pytest.mark.parametrize(
    "method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA], ids=str
)
def test_every_method_of_python_is_unpacked(tmp_path, method):
    with zipfile.ZipFile(tmp_path / "a.ZIP", "w", method) as packed:
        packed.writestr("T/x", bytes(range(256)) * 300)
    unpack(tmp_path / "a.ZIP", tmp_path / "out")
    assert unpacked(tmp_path / "out") == {"T/x": bytes(range(256)) * 300}


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        (entry(""), "a file without a name"),
        (entry("../evil.txt"), "a path outside"),
        (entry("T/../../evil.txt"), "a path outside"),
        (entry("/tmp/evil.txt"), "a path outside"),
        (entry("T\\..\\..\\evil.txt"), "a path outside"),
        (entry("C:evil.txt"), "a path outside"),
        (entry("T/evil.txt\0.nii.gz"), "a path outside"),
        (entry("T/\x1b[2J"), "control characters"),
        (entry("T/\u202egz.iin"), "control characters"),
        (entry("T/good.txt"), "two files of the name"),
        (entry("T/./good.txt"), "two files of the name"),
        (entry("T/link", b"/etc/passwd", attributes=(stat.S_IFLNK | 0o777) << 16), "is a link"),
        (entry("T/device", b"", attributes=(stat.S_IFCHR | 0o777) << 16), "is a link, a device"),
        (entry("T/pipe", b"", attributes=(stat.S_IFIFO | 0o777) << 16), "is a link, a device"),
        (entry("T/secret", flags=0x801), "is encrypted; unpack it with its password, and give the folder"),
        (entry("T/x", method=9), "is compressed by Deflate64, which is not supported; unpack it with another program"),
        (entry("T/x", size=(1 << 31) - 1), r"would unpack to more than 2\.1 GB"),
    ],
    ids=lambda value: repr(value["name"]) if isinstance(value, dict) else "",
)
def test_a_hostile_zip_is_refused_and_nothing_is_written(tmp_path, bad, reason):
    path = make_zip(tmp_path / "a.zip", [entry("T/good.txt"), bad])
    with pytest.raises(UserError, match=rf"a\.zip .*{reason}"):
        unpack(path, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_zip_whose_sizes_lie_writes_no_more_than_it_says(tmp_path):
    path = make_zip(tmp_path / "a.zip", [entry("T/x", bytes(1 << 20), size=100)])
    with pytest.raises(UserError, match="download it again"):
        unpack(path, tmp_path / "out")
    assert unpacked(tmp_path / "out") == {}


@pytest.mark.parametrize("end", [0, 30, -1, -10], ids=str)
def test_a_truncated_zip_is_refused(tmp_path, end):
    path = make_zip(tmp_path / "a.zip", [entry("T/x", bytes(range(256)) * 50)])
    path.write_bytes(path.read_bytes()[:end])
    with pytest.raises(UserError, match=r"a\.zip cannot be unpacked .*; download it again"):
        unpack(path, tmp_path / "out")


def test_a_zip_with_too_many_files_is_refused(tmp_path, monkeypatch):
    path = make_zip(tmp_path / "a.zip", [entry(f"T/{i}") for i in range(30)])
    monkeypatch.setattr(archive, "LARGEST_INDEX", 1000)
    with pytest.raises(UserError, match="claims 1490 bytes"):
        unpack(path, tmp_path / "out")
    monkeypatch.setattr(archive, "LARGEST_INDEX", 1 << 26)
    monkeypatch.setattr(archive, "MOST_FILES", 20)
    with pytest.raises(UserError, match="more than 20 files"):
        unpack(path, tmp_path / "out")


def test_unpacking_a_zip_again_replaces_incomplete_files_only(tmp_path):
    path = make_zip(tmp_path / "a.zip", [entry("T/x", b"whole"), entry("T/y", b"other"), entry("T/z", date=0)])
    unpack(path, tmp_path / "out")
    before = [(tmp_path / f"out/T/{name}").stat().st_ino for name in "xz"]
    (tmp_path / "out/T/y").write_bytes(b"ot")
    unpack(path, tmp_path / "out")
    assert [(tmp_path / f"out/T/{name}").stat().st_ino for name in "xz"] == before
    assert (tmp_path / "out/T/y").read_bytes() == b"other"


def test_files_of_an_earlier_version_of_the_archive_do_not_stay(tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/x.txt").write_bytes(b"mine")
    unpack(make_tar(tmp_path / "a.tar", [("T/x.txt", b"one"), ("T/old.txt", b"old")]), tmp_path / "out")
    (tmp_path / "out/link").symlink_to(tmp_path / "mine")
    unpack(make_tar(tmp_path / "a.tar", [("T/x.txt", b"one"), ("U/y.txt", b"two")]), tmp_path / "out")
    assert sorted(p.name for p in (tmp_path / "out").rglob("*.txt")) == ["x.txt", "y.txt"]
    assert (tmp_path / "mine/x.txt").read_bytes() == b"mine"
