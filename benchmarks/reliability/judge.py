"""One mutant: what the product makes of it, and whether another reader agrees."""

import logging
import os
import re
import resource
import shutil
import warnings
from dataclasses import dataclass
from functools import cached_property
from multiprocessing.connection import Connection
from pathlib import Path
from zlib import crc32

import numpy as np

from benchmarks.reliability.formats import FORMATS
from benchmarks.reliability.mutants import mutant
from benchmarks.reliability.others import Answer
from unetrpp.core.errors import UserError
from unetrpp.io.images import Volume, read_file

MORE_ADDRESSES = 2 << 30  # bytes that a worker may allocate beyond what it holds after its start
UNCOUNTED = 16 << 20  # bytes of growth that are the libraries' own, such as buffers and code that is loaded late
SAME_PLACE = 0.01  # voxels by which the corners may lie apart
ROUNDING = 1e-6  # share by which values may differ: float32


@dataclass
class Judged:
    """``outcome``: equal, refused, unnamed, different, crash, hang."""

    outcome: str
    detail: str = ""
    grown: int = 0  # bytes of memory beyond what is allowed; 0 if none


class Bench:
    """A valid image of a format under a folder, and its mutants."""

    def __init__(self, name: str, folder: Path):
        self.name, self.format = name, FORMATS[name]
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        self.path, self.files = self.format.write(folder)
        self.contents = [file.read_bytes() for file in self.files]
        self.size = sum(map(len, self.contents))

    @cached_property
    def valid(self) -> Volume:
        """The undamaged image, on which the product and every other reader must agree."""
        volume = read_file(self.path)
        for name, other in self.format.others.items():
            if wrong := difference(volume, other(self.path), self.format.levels):
                raise AssertionError(f"{self.name}, undamaged, by {name}: {wrong}")
        return volume

    def damage(self, seed: int, index: int) -> tuple[Path, str]:
        """Write mutant ``index``; gives the file that is damaged, and how."""
        rng = np.random.default_rng([seed, crc32(self.name.encode()), index])
        for file, content in zip(self.files, self.contents, strict=True):
            file.write_bytes(content)
        k = int(rng.integers(0, len(self.files)))
        kind, content = mutant(self.contents[k], self.format.header, rng)
        self.files[k].write_bytes(content)
        return self.files[k], kind

    def allowed(self, volume: Volume | None) -> int:
        claimed = self.valid.array.nbytes if volume is None else volume.array.nbytes
        return 2 * max(claimed, self.size) + UNCOUNTED


def read(bench: Bench, damaged: Path) -> tuple[Volume | None, Judged]:
    """By the product."""
    volume, before = None, _reset_peak()
    try:
        volume = read_file(bench.path)
        judged = Judged("read")
    except UserError as error:
        names = [bench.path, damaged] if bench.path.is_dir() else bench.files
        named = any(file.name in str(error) for file in names)
        judged = Judged("refused" if named else "unnamed", str(error))
    except Exception as error:
        judged = Judged("crash", f"{type(error).__name__}: {error}")
    grown = _memory("VmHWM") - before
    judged.grown = grown if grown > bench.allowed(volume) else 0
    return volume, judged


def compare(bench: Bench, volume: Volume) -> Judged:
    """With the first other reader that reads the mutant; where none does, the answer must be the undamaged image's."""
    for name, other in bench.format.others.items():
        try:
            answer = other(bench.path)
        except Exception:
            continue
        wrong = difference(volume, answer, bench.format.levels)
        return Judged("different", f"{name}: {wrong}") if wrong else Judged("equal")
    wrong = difference(volume, (bench.valid.array, matrix_of(bench.valid)))
    reason = f"no other reader reads it, and it is not the undamaged image: {wrong}"
    return Judged("different", reason) if wrong else Judged("equal")


def difference(volume: Volume, answer: Answer, levels: float = 0.0) -> str:
    """What differs between the product's answer and another reader's; empty where they agree."""
    array, matrix = answer
    if array.shape != volume.array.shape:
        return f"shape {volume.array.shape} against {array.shape}"
    one, two = volume.array.astype(np.float64), array.astype(np.float64)
    if not np.allclose(one, two, rtol=ROUNDING, atol=levels or ROUNDING, equal_nan=True):
        return f"values differ by {np.abs(one - two).max():g} in {(one != two).mean():.1%}"
    return "" if matrix is None else _displacement(volume, matrix)


def _displacement(volume: Volume, matrix: np.ndarray) -> str:
    size = np.array(volume.array.shape[:0:-1])
    corners = np.array([(*size * corner, 1) for corner in np.ndindex(2, 2, 2)]).T
    voxel = np.linalg.norm(matrix[:3, :3], axis=0).min()
    apart = np.linalg.norm((matrix_of(volume) - matrix) @ corners, axis=0).max() / voxel
    return "" if apart <= SAME_PLACE else f"corners lie {apart:.3g} voxels apart"


def matrix_of(volume: Volume) -> np.ndarray:
    """From voxels (x, y, z) to LPS mm."""
    matrix = np.eye(4)
    matrix[:3, :3] = np.array(volume.geometry.direction).reshape(3, 3) * volume.geometry.spacing_zyx_mm[::-1]
    matrix[:3, 3] = volume.geometry.origin_xyz_mm
    return matrix


def _memory(field: str) -> int:
    """Bytes of VmRSS, VmHWM (its peak) or VmSize."""
    found = re.search(rf"{field}:\s+(\d+) kB", Path("/proc/self/status").read_text())
    return int(found[1]) << 10 if found else 0


def _reset_peak() -> int:
    Path("/proc/self/clear_refs").write_text("5")
    return _memory("VmRSS")


def work(connection: Connection, folder: Path) -> None:
    """Judge mutants until the connection closes; the product's answer is sent before another reader is asked."""
    logging.lastResort = None  # no record is printed; the product itself listens to its libraries
    warnings.simplefilter("ignore")
    nothing = os.open(os.devnull, os.O_WRONLY)
    for stream in (1, 2):  # what native decoders print
        os.dup2(nothing, stream)
    benches: dict[str, Bench] = {}
    while True:
        try:
            name, seed, index = connection.recv()
        except EOFError:
            return
        if name not in benches:
            benches[name] = Bench(name, folder / str(len(benches)))
            _ = benches[name].valid
            _limit()
        bench = benches[name]
        damaged, kind = bench.damage(seed, index)
        connection.send(kind)
        volume, judged = read(bench, damaged)
        connection.send(judged)
        if volume is not None:
            connection.send(compare(bench, volume))


def _limit() -> None:
    """Allow so much more than what the process holds once the libraries that read the undamaged image are loaded."""
    most = _memory("VmSize") + MORE_ADDRESSES
    resource.setrlimit(resource.RLIMIT_AS, (most, resource.RLIM_INFINITY))
