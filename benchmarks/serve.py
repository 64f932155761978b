"""What a service answers and needs: requests one after the other, then several at once; none may be lost, and memory has to stay flat.

    python benchmarks/serve.py [MODEL IMAGE] [--requests 200] [--at-once 8] [--rounds 3] [OPTION OF unetrpp_serve ...]

Without MODEL and IMAGE a small network with random weights gets an image of 12 x 24 x 24 voxels, so that what is measured is the service.
It is a process of `unetrpp_serve`; a client in this process sends IMAGE and reads the whole answer. Memory
is the resident memory of the service and its children. Every answer is compared with the first one.
"""

import argparse
import hashlib
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import psutil

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from tests.helpers.model import make_model, write_images
from unetrpp.core.text import text_table

READY = re.compile(r"answers at (http://\S+)/;")
LOOKS = (1, 10, 50, 100, 150)  # requests after which memory is looked at, and after all of them


@dataclass(frozen=True)
class Answer:
    seconds: float
    status: int
    digest: str  # of the segmentation


@dataclass(frozen=True)
class Look:
    """Of the service after so many requests."""

    requests: str
    megabytes: float
    threads: int
    files: int


@contextmanager
def small_model() -> Iterator[tuple[Path, Path]]:
    """A model folder of one fold, and an image."""
    with tempfile.TemporaryDirectory() as name:
        write_images(Path(name) / "images", 1)
        yield make_model(Path(name), folds=1), Path(name) / "images" / "case_0_0000.nii.gz"


@contextmanager
def service(model: Path, options: Sequence[str]) -> Iterator[tuple[psutil.Process, str]]:
    """The process of a service, and its address."""
    command = [sys.executable, "-m", "unetrpp.cli.serve", str(model), "--port=0", *options]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        found = next(filter(None, map(READY.search, process.stderr)), None)
        if found is None:
            raise SystemExit("the service did not start")
        with ThreadPoolExecutor(1) as reader:
            reader.submit(process.stderr.read)  # so that it never waits for room in the pipe
            try:
                yield psutil.Process(process.pid), found[1]
            finally:
                process.terminate()


def send(address: str, image: Path) -> Answer:
    start = time.perf_counter()
    response = httpx.post(
        f"{address}/segment", params={"name": image.name}, content=image.read_bytes(), timeout=600, trust_env=False
    )
    seconds = time.perf_counter() - start
    found = response.json().get("segmentation", "")
    return Answer(seconds, response.status_code, hashlib.sha256(found.encode()).hexdigest())


def look(process: psutil.Process, requests: str) -> Look:
    family = [process, *process.children(recursive=True)]
    memory = sum(member.memory_info().rss for member in family)
    return Look(requests, memory / 2**20, process.num_threads(), process.num_fds())


def measure(
    process: psutil.Process, address: str, image: Path, *, requests: int, at_once: int, rounds: int
) -> tuple[list[Answer], list[Answer], list[Look]]:
    """Answers one after the other and at once, and looks at the process in between."""
    answers, looks = [], []
    for i in range(1, requests + 1):
        answers.append(send(address, image))
        if i in {*LOOKS, requests}:
            looks.append(look(process, str(i)))
    with ThreadPoolExecutor(at_once) as threads:
        together = list(threads.map(lambda _: send(address, image), range(rounds * at_once)))
    looks.append(look(process, f"{requests} + {len(together)}"))
    return answers, together, looks


def rows_of(answers: Sequence[Answer], first: Answer, what: str) -> list[str]:
    seconds = [answer.seconds for answer in answers]
    lost = sum(answer.status != 200 for answer in answers)
    other = sum(answer.digest != first.digest for answer in answers)
    return [what, str(len(answers)), str(lost), str(other), f"{statistics.median(seconds):.2f}", f"{max(seconds):.2f}"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path, nargs="?")
    parser.add_argument("image", type=Path, nargs="?")
    parser.add_argument("--requests", type=int, default=200)
    parser.add_argument("--at-once", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=3, help="of requests at once")
    given, options = parser.parse_known_args()
    with small_model() as small, service(given.model or small[0], options) as (process, address):
        answers, together, looks = measure(
            process,
            address,
            given.image or small[1],
            requests=given.requests,
            at_once=given.at_once,
            rounds=given.rounds,
        )
    header = ["requests", "number", "lost", "other answer", "median s", "longest s"]
    rows = [rows_of(answers, answers[0], "in sequence"), rows_of(together, answers[0], f"{given.at_once} at once")]
    print(text_table([header, *rows]))
    table = [(each.requests, f"{each.megabytes:.0f}", str(each.threads), str(each.files)) for each in looks]
    print(f"\n{text_table([('after requests', 'MB', 'threads', 'open files'), *table])}")


if __name__ == "__main__":
    main()
