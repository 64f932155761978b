"""Damaged files of every format: read as another reader does, or refused by name?

    python -m benchmarks.reliability.mutate [--mutants 400] [--seed 1] [--formats "NRRD raw" "BMP"]

Every mutant is read in a worker process with a limit of time and of memory, and its outcome is counted in one
Markdown table. What is not right is listed on stderr with the number by which ``--only`` repeats it.
"""

import argparse
import multiprocessing
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path

from benchmarks.reliability.formats import FORMATS
from benchmarks.reliability.judge import Judged, work

SECONDS = 30  # after which the product hangs; another reader that takes as long is taken to refuse the file
COLUMNS = ("equal", "refused", "unnamed", "different", "crash", "hang", "memory")
HEADINGS = ("read equal", "refused by name", "refused without name", "silent differences", "crashes", "hangs", "memory")
WRONG = COLUMNS[2:]


class Worker:
    """A process that judges mutants; another one takes its place where it dies or hangs."""

    def __init__(self, folder: Path, work: Callable[[Connection, Path], None] = work, seconds: float = SECONDS):
        self.folder, self.work, self.seconds = folder, work, seconds
        self.process: BaseProcess | None = None
        self.connection: Connection

    def start(self) -> None:
        context = multiprocessing.get_context("spawn")
        self.connection, theirs = context.Pipe()
        self.process = context.Process(target=self.work, args=(theirs, self.folder), daemon=True)
        self.process.start()
        theirs.close()

    def stop(self) -> None:
        if self.process is not None:
            self.connection.close()
            self.process.kill()
            self.process.join()
            self.process = None

    def judge(self, name: str, seed: int, index: int) -> tuple[str, Judged]:
        """The kind of damage, and the outcome."""
        if self.process is None:
            self.start()
        self.connection.send((name, seed, index))
        kind = self._received(10 * self.seconds)
        if not isinstance(kind, str):
            raise RuntimeError(f"{name}: the undamaged image cannot be judged ({kind})")
        judged = self._received(self.seconds)
        if judged.outcome != "read":
            return kind, judged
        compared = self._received(self.seconds)
        if compared.outcome in ("crash", "hang"):
            compared = Judged("different", f"the other reader ends in a {compared.outcome}")
        compared.grown = judged.grown
        return kind, compared

    def _received(self, seconds: float) -> Judged:
        try:
            if self.connection.poll(seconds):
                return self.connection.recv()
            self.stop()
            return Judged("hang", f"no answer after {seconds} s")
        except (EOFError, OSError):
            self.stop()
            return Judged("crash", "the process ended")


def campaign(names: Sequence[str], seed: int, indices: Iterable[int]) -> dict[str, Counter[str]]:
    """The number of mutants with each outcome of ``COLUMNS``, by format."""
    counts: dict[str, Counter[str]] = {}
    with tempfile.TemporaryDirectory() as folder:
        worker = Worker(Path(folder))
        try:
            for name in names:
                counts[name] = Counter()
                for index in indices:
                    kind, judged = worker.judge(name, seed, index)
                    found = [judged.outcome, *(["memory"] if judged.grown else [])]
                    counts[name].update(found)
                    if set(found) & set(WRONG):
                        detail = (
                            f"{judged.detail} ({judged.grown >> 20} MiB too many)" if judged.grown else judged.detail
                        )
                        print(f"{name} {index} ({kind}): {', '.join(found)}: {detail}", file=sys.stderr)
        finally:
            worker.stop()
    return counts


def table(counts: dict[str, Counter[str]]) -> str:
    """Markdown, one row a format and their sum."""
    rows = [("format", "other reader", *HEADINGS), ("---",) * 2 + ("---:",) * len(COLUMNS)]
    for name, count in counts.items():
        rows.append((name, "; ".join(FORMATS[name].others), *(str(count[column]) for column in COLUMNS)))
    total = sum(counts.values(), Counter())
    rows.append(("all", "", *(str(total[column]) for column in COLUMNS)))
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mutants", type=int, default=400, help="of each format")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--formats", nargs="+", choices=list(FORMATS), default=list(FORMATS), metavar="FORMAT")
    parser.add_argument("--only", type=int, help="only the mutant of this number")
    arguments = parser.parse_args()
    indices = range(arguments.mutants) if arguments.only is None else [arguments.only]
    print(table(campaign(arguments.formats, arguments.seed, indices)))


if __name__ == "__main__":
    main()
