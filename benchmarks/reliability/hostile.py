"""Hostile archives, exported models and checkpoints: are they refused, at once, with little memory and nothing left?

    python -m benchmarks.reliability.hostile

Every file is given to the command's own function in a forked child. It must raise a UserError, leave no file, neither in the
workspace nor beside it, take at most 10 processor seconds and grow by at most 300 MB.
"""

import argparse
import gzip
import hashlib
import io
import json
import os
import pickle
import resource
import stat
import sys
import tarfile
import tempfile
import time
import zipfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import torch

from unetrpp.core.errors import UserError
from unetrpp.dataset_conversion.archive import unpack
from unetrpp.export.model_zip import import_model
from unetrpp.model import checkpoint
from unetrpp.networks.released import read_official

SECONDS, BYTES = 10.0, 300 << 20
MANY = 100_001
MORE = 200_001  # files than a download may hold
ZEROS = bytes(1 << 20)
COLUMNS = ("files", "refused", "accepted", "other errors", "left over", "slow", "memory")
Maker = Callable[[Path, Path], object]  # writes the file; the second path is a valid exported model


class Evil:
    """Its pickle names a function that makes a folder."""

    def __reduce__(self) -> tuple[Callable[[str], None], tuple[str]]:
        return os.mkdir, ("../pwned",)


def tar_with(*members: tuple[str, bytes] | tarfile.TarInfo) -> Maker:
    def make(path: Path, _: Path) -> None:
        with tarfile.open(path, "w") as tar:
            for each in (("T/good.txt", b"good"), *members):
                if isinstance(each, tarfile.TarInfo):
                    tar.addfile(each)
                else:
                    info = tarfile.TarInfo(each[0])
                    info.size = len(each[1])
                    tar.addfile(info, io.BytesIO(each[1]))

    return make


def special(kind: bytes, target: str = "", name: str = "T/special", size: int = 0) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname, info.size = kind, target, size
    return info


def gzipped_zeros(header: tarfile.TarInfo, gigabytes: int = 4) -> Maker:
    """A header, and the zeros that it promises, a thousand times smaller."""

    def make(path: Path, _: Path) -> None:
        header.size = gigabytes << 30
        with gzip.open(path, "wb", 1) as file:
            file.write(header.tobuf(tarfile.GNU_FORMAT))
            for _ in range(64):  # enough for a reader that believes the header to show
                file.write(ZEROS)

    return make


def many_members(path: Path, _: Path) -> None:
    with tarfile.open(path, "w") as tar:
        for number in range(MORE):
            tar.addfile(special(tarfile.DIRTYPE, name=f"T/{number}"))


def nested(path: Path, _: Path) -> None:
    """A bomb in a bomb: the outer one is refused by its own size."""
    inner = gzip.compress(ZEROS * 64)
    with tarfile.open(path, "w:gz") as tar:
        for number in range(2):
            info = tarfile.TarInfo(f"T/{number}.tar.gz")
            info.size = 2 << 30
            tar.fileobj.write(info.tobuf() + inner)


ARCHIVES: dict[str, Maker] = {
    "path above": tar_with(("../evil.txt", b"x")),
    "path above, deeper": tar_with(("T/a/../../../evil.txt", b"x")),
    "absolute path": tar_with(special(tarfile.REGTYPE, name="/tmp/evil.txt")),
    "drive": tar_with(("C:/evil.txt", b"x")),
    "backslashes": tar_with(("T\\..\\..\\evil.txt", b"x")),
    "symbolic link": tar_with(special(tarfile.SYMTYPE, "/etc"), ("T/special/evil", b"x")),
    "hard link": tar_with(special(tarfile.LNKTYPE, "../../etc/passwd")),
    "character device": tar_with(special(tarfile.CHRTYPE)),
    "block device": tar_with(special(tarfile.BLKTYPE)),
    "pipe": tar_with(special(tarfile.FIFOTYPE)),
    "two of one name": tar_with(("T/x", b"1"), ("T/x", b"2")),
    "two of one name by Unicode": tar_with(("T/\u00fc", b"1"), ("T/u\u0308", b"2")),
    "two of one name by a dot": tar_with(("T/x", b"1"), ("T/./x", b"2")),
    "name that is shown reversed": tar_with(("T/\u202egz.iin", b"1")),
    "name with control characters": tar_with(("T/\x1b[2J", b"1")),
    "200,001 folders": many_members,
    "gzip bomb": gzipped_zeros(tarfile.TarInfo("T/zeros")),
    "bomb in a long name": gzipped_zeros(special(tarfile.GNUTYPE_LONGNAME, name="././@LongLink")),
    "bomb in a header": gzipped_zeros(special(tarfile.XHDTYPE)),
    "sparse file of 8 TB": tar_with(special(tarfile.GNUTYPE_SPARSE, size=8 << 40)),
    "nested bomb": nested,
    "not an archive": lambda path, _: path.write_bytes(bytes(range(256)) * 40),
}


def zip_of(*names: str, change: Callable[[zipfile.ZipInfo], None] = lambda _: None, size: int = 1) -> Maker:
    """A download with a good file and others, of which ``change`` alters the entry of the last in the directory."""

    def make(path: Path, _: Path) -> None:
        with zipfile.ZipFile(path, "w") as archive:
            for name in ("T/good.txt", *names):
                info = zipfile.ZipInfo(name)
                info.compress_type = zipfile.ZIP_DEFLATED
                with archive.open(info, "w", force_zip64=True) as file:
                    for start in range(0, size, len(ZEROS)):
                        file.write(ZEROS[: size - start])
            change(archive.infolist()[-1])

    return make


ZIPS: dict[str, Maker] = {
    "path above": zip_of("../evil.txt"),
    "path above, deeper": zip_of("T/a/../../../evil.txt"),
    "absolute path": zip_of("/tmp/evil.txt"),
    "drive": zip_of("C:/evil.txt"),
    "backslashes": zip_of("T\\..\\..\\evil.txt"),
    "symbolic link": zip_of("T/link", change=lambda info: setattr(info, "external_attr", (stat.S_IFLNK | 0o777) << 16)),
    "device": zip_of("T/device", change=lambda info: setattr(info, "external_attr", (stat.S_IFCHR | 0o777) << 16)),
    "two of one name by Unicode": zip_of("T/\u00fc", "T/u\u0308"),
    "two of one name by a dot": zip_of("T/x", "T/./x"),
    "name with control characters": zip_of("T/\x1b[2J"),
    "encrypted": zip_of("T/x", change=lambda info: setattr(info, "flag_bits", info.flag_bits | 1)),
    "bomb": zip_of("T/zeros", size=9 << 27),
    "size that lies": zip_of("T/x", change=lambda info: setattr(info, "file_size", 19 << 30)),
    "200,001 files": lambda path, _: zip_of(*(f"T/{number}" for number in range(MORE)))(path, path),
    "not an archive": lambda path, _: path.write_bytes(bytes(range(256)) * 40),
}


def members_of(model: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(model) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def zip_with(change: Callable[[dict[str, bytes]], None], method: int = zipfile.ZIP_DEFLATED, repeat: str = "") -> Maker:
    """The valid model with changed members, all of which the manifest lists with their hashes."""

    def make(path: Path, valid: Path) -> None:
        contents = members_of(valid)
        change(contents)
        manifest = json.loads(contents["manifest.json"])
        manifest["files"] = {n: hashlib.sha256(c).hexdigest() for n, c in contents.items() if n != "manifest.json"}
        contents["manifest.json"] = json.dumps(manifest).encode()
        with zipfile.ZipFile(path, "w", method) as archive:
            for name, content in [*contents.items(), *((repeat, contents[repeat]) for _ in range(bool(repeat)))]:
                archive.writestr(name, content)

    return make


def adds(name: str, content: bytes = b"x") -> Maker:
    return zip_with(lambda contents: contents.update({name: content}))


def with_info(change: Callable[[zipfile.ZipInfo], None]) -> Maker:
    """The valid model, in whose directory the entry of plans.json is changed."""

    def make(path: Path, valid: Path) -> None:
        contents = members_of(valid)
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, content in contents.items():
                archive.writestr(name, content)
            change(archive.getinfo("plans.json"))

    return make


def many_entries(path: Path, valid: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members_of(valid).items():
            archive.writestr(name, content)
        for number in range(MANY):
            archive.writestr(f"fold_{number}/architecture.json", b"")


def pickled(content: object) -> bytes:
    buffer = io.BytesIO()
    torch.save(content, buffer)
    return buffer.getvalue()


def recompressed(size: int) -> bytes:
    """A checkpoint whose zeros are compressed inside: a bomb in the bomb."""
    source, target = io.BytesIO(pickled({"format": 1, "network": {"a": torch.zeros(size)}})), io.BytesIO()
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as new:
        for name in old.namelist():
            new.writestr(name, old.read(name))
    return target.getvalue()


FINAL = "fold_0/checkpoint_final.pt"
MODELS: dict[str, Maker] = {
    "path above": adds("../evil.txt"),
    "absolute path": adds("/tmp/evil.txt"),
    "drive": adds("C:\\evil.txt"),
    "code": adds("fold_0/code.py"),
    "digits of another script": adds("fold_\u0661/checkpoint_final.pt"),
    "name in the manifest": zip_with(
        lambda c: c.update({"manifest.json": c["manifest.json"].replace(b'"unetrpp__3d', b'"../x__3d')})
    ),
    "two of one name": zip_with(lambda contents: None, repeat="plans.json"),
    "symbolic link": with_info(lambda info: setattr(info, "external_attr", (stat.S_IFLNK | 0o777) << 16)),
    "device": with_info(lambda info: setattr(info, "external_attr", (stat.S_IFCHR | 0o777) << 16)),
    "encrypted": with_info(lambda info: setattr(info, "flag_bits", info.flag_bits | 1)),
    "size that lies": with_info(lambda info: setattr(info, "file_size", 19 << 30)),
    "bzip2": zip_with(lambda contents: None, zipfile.ZIP_BZIP2),
    "lzma": zip_with(lambda contents: None, zipfile.ZIP_LZMA),
    "100,001 entries": many_entries,
    "bomb": adds("fold_1/checkpoint_final.pt", ZEROS * 128),
    "nested bomb": adds(FINAL, recompressed(1 << 24)),
    "deep JSON": adds("fingerprint.json", b"[" * 200_000),
    "pickle in a checkpoint": adds(FINAL, pickled({"format": 1, "network": Evil()})),
    "plain pickle as a checkpoint": adds(FINAL, pickle.dumps(Evil())),
    "not a zip": lambda path, _: path.write_bytes(bytes(range(256)) * 40),
}

CHECKPOINTS: dict[str, Maker] = {
    "pickle": lambda path, _: torch.save({"state_dict": Evil()}, path),
    "plain pickle": lambda path, _: path.write_bytes(pickle.dumps(Evil())),
    "compressed inside": lambda path, _: path.write_bytes(recompressed(1 << 24)),
    "no tensors": lambda path, _: torch.save({"state_dict": {"a": 1}}, path),
    "not a checkpoint": lambda path, _: path.write_bytes(bytes(range(256)) * 40),
}

ROWS: dict[str, tuple[str, dict[str, Maker], Callable[[Path, Path], object]]] = {
    "convert msd ARCHIVE": ("a.tar", ARCHIVES, lambda path, home: unpack(path, home / "out")),
    "convert msd ZIP": ("a.zip", ZIPS, lambda path, home: unpack(path, home / "out")),
    "import ZIP": ("model.zip", MODELS, lambda path, home: import_model(path, workspace=home)),
    "import --preset CHECKPOINT": ("final.model", CHECKPOINTS, lambda path, _: read_official(path)),
    "predict with CHECKPOINT": (
        "checkpoint_final.pt",
        CHECKPOINTS,
        lambda path, _: checkpoint.load(path, torch.device("cpu")),
    ),
}


def judge(work: Callable[[Path, Path], object], file: Path, home: Path) -> Counter[str]:
    """What one file does to one function, in a child."""
    reader, writer = os.pipe()
    child = os.fork()
    if not child:
        os.chdir(home)
        peak, start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.process_time()
        try:
            work(file, home)
            outcome = "accepted"
        except UserError as error:
            outcome = "refused" if "\n" not in str(error) else "other errors"
        except BaseException as error:
            print(f"{type(error).__name__}: {error}", file=sys.stderr)
            outcome = "other errors"
        grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - peak) * 1024
        os.write(writer, json.dumps([outcome, time.process_time() - start, grown]).encode())
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader) as pipe:
        answer = pipe.read()
    os.waitpid(child, 0)
    outcome, seconds, grown = json.loads(answer) if answer else ("other errors", 0.0, 0)
    left = [path for path in home.parent.rglob("*") if path.is_file() or path.name == "pwned"]
    return Counter({"files": 1, outcome: 1, "left over": len(left), "slow": seconds > SECONDS, "memory": grown > BYTES})


def campaign(valid: Path) -> tuple[dict[str, Counter[str]], list[str]]:
    """The counts of every row, and what went wrong; ``valid`` is an exported model."""
    counts: dict[str, Counter[str]] = {}
    problems = []
    for row, (name, makers, work) in ROWS.items():
        counts[row] = Counter()
        for kind, make in makers.items():
            with tempfile.TemporaryDirectory() as given, tempfile.TemporaryDirectory() as outside:
                home = Path(outside) / "workspace"
                home.mkdir()
                make(Path(given) / name, valid)
                found = judge(work, Path(given) / name, home)
            counts[row] += found
            if not found["refused"] or found["left over"] or found["slow"] or found["memory"]:
                problems.append(f"{row}, {kind}: {dict(found)}")
                print(problems[-1], file=sys.stderr, flush=True)
    return counts, problems


def table(counts: dict[str, Counter[str]]) -> str:
    """Markdown, one row a command and their sum."""
    rows = [("given to", *COLUMNS), ("---",) + ("---:",) * len(COLUMNS)]
    for name, count in {**counts, "all": sum(counts.values(), Counter())}.items():
        rows.append((name, *(str(count[column]) for column in COLUMNS)))
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def write_model(folder: Path) -> Path:
    """An exported model with random weights."""
    from tests.helpers.model import make_model
    from unetrpp.export.model_zip import export_model

    return export_model(make_model(folder / "balls", folds=1), folder / "model.zip")


def main() -> int:
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    with tempfile.TemporaryDirectory() as folder:
        counts, problems = campaign(write_model(Path(folder)))
    print(table(counts))
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
