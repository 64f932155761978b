"""What other programs on the machine cost: a training step, a prediction, preprocessing and the demo, alone and beside busy processes.

    python benchmarks/contention.py [--against CHECKOUT] [--parts step prediction preprocessing demo] [--busy 0 1 2]

Every figure is of the commands as a user starts them, on the demo's volumes and networks, on a CPU. A busy process is a Python
loop. --against measures another checkout of this repository, too, in turn with this one. CPU seconds are those of all
processes of a command; a step's are the mean over an epoch, which includes its share of validation patches.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from unetrpp.core.files import read_json_lines
from unetrpp.core.text import text_table
from unetrpp.core.workspace import Workspace
from unetrpp.dataset.synthetic import write_synthetic_dataset

HERE = Path(__file__).resolve().parent.parent
DATASET, CONFIGURATION = "synthetic", "3d_fullres"
PLAN = ["--batch-size=2", "--width=0.5", "--patch", "16", "32", "32"]  # those of the demo
EPOCHS, ITERATIONS = 3, 20  # of the timed steps; the first epoch is not counted
LOOK_SECONDS = 0.05


@dataclass(frozen=True)
class Spent:
    wall: float
    cpu: float
    note: str = ""


class Clock:
    """Wall and CPU seconds since it was made, of a process and all that it starts."""

    def __init__(self, process: psutil.Process):
        self.process, self.start = process, time.perf_counter()
        self.seconds: dict[int, float] = {}

    def look(self) -> Spent:
        """Seen often, because the seconds of a process that has ended are lost after the last look."""
        try:
            family = [self.process, *self.process.children(recursive=True)]
        except psutil.NoSuchProcess:
            family = []
        for member in family:
            try:
                times = member.cpu_times()
                self.seconds[member.pid] = times.user + times.system
            except psutil.NoSuchProcess:
                continue
        return Spent(time.perf_counter() - self.start, sum(self.seconds.values()))


def watch(
    tree: Path, command: Sequence[str], folder: Path, seen: Callable[[Spent], object] = lambda spent: None
) -> Spent:
    """Run `python -m unetrpp command` of the checkout ``tree`` in ``folder``; ``seen`` gets what was spent, again and again."""
    environment = os.environ | {"PYTHONPATH": str(tree)}
    with (folder / "log.txt").open("a") as log:
        run = subprocess.Popen(
            [sys.executable, "-m", "unetrpp", *command], cwd=folder, env=environment, stdout=log, stderr=log
        )
        clock = Clock(psutil.Process(run.pid))
        while run.poll() is None:
            seen(clock.look())
            time.sleep(LOOK_SECONDS)
    if run.returncode:
        raise SystemExit(f"unetrpp {' '.join(command)} failed; {folder / 'log.txt'} says why")
    return clock.look()


def step(tree: Path, ready: Path, folder: Path) -> Spent:
    """One training step of fold 0, the mean over the epochs but the first."""
    copy_preprocessed(ready, folder)
    metrics = Workspace(folder).model(DATASET, "unetrpp", CONFIGURATION) / "fold_0" / "metrics.jsonl"
    ends: list[Spent] = []

    def seen(spent: Spent) -> None:
        if metrics.exists() and len(read_json_lines(metrics)) > len(ends):
            ends.append(spent)

    recipe = [f"--epochs={EPOCHS}", f"--iterations={ITERATIONS}", "--no-mirroring"]
    watch(tree, ["train", DATASET, CONFIGURATION, "0", f"--workspace={folder}", "--device=cpu", *recipe], folder, seen)
    first, last, steps = ends[0], ends[-1], ITERATIONS * (len(ends) - 1)
    threads = read_json_lines(metrics)[-1].get("threads")
    note = f"threads {threads}" if threads else ""
    return Spent((last.wall - first.wall) / steps, (last.cpu - first.cpu) / steps, note)


def prediction(tree: Path, ready: Path, folder: Path) -> Spent:
    """Four volumes by five folds, with mirrored passes."""
    model = Workspace(ready).model(DATASET, "unetrpp", CONFIGURATION)
    images = Workspace(ready).raw(DATASET) / "imagesTs"
    return watch(
        tree, ["predict", "-i", f"{images}", "-o", f"{folder / 'out'}", "-m", f"{model}", "--device=cpu"], folder
    )


def preprocessing(tree: Path, ready: Path, folder: Path) -> Spent:
    """Twenty volumes measured, planned and preprocessed."""
    shutil.copytree(Workspace(ready).raw(DATASET), Workspace(folder).raw(DATASET))
    return watch(tree, ["plan_and_preprocess", DATASET, f"--workspace={folder}", *PLAN], folder)


def demo(tree: Path, ready: Path, folder: Path) -> Spent:
    """The whole demo."""
    spent = watch(tree, ["demo", f"--folder={folder / 'demo'}", "--device=cpu"], folder)
    summary = json.loads((folder / "demo" / "predictions" / "summary.json").read_text())
    return Spent(spent.wall, spent.cpu, f"Dice {summary['foreground_mean']['Dice']:.3f}")


PARTS = {part.__name__: part for part in (step, prediction, preprocessing, demo)}


def copy_preprocessed(ready: Path, folder: Path) -> None:
    shutil.copytree(Workspace(ready).preprocessed(DATASET), Workspace(folder).preprocessed(DATASET))


def make_ready(tree: Path, folder: Path) -> None:
    """The demo's dataset, preprocessed, and five folds trained for a few steps, by one checkout: another may not read its plans."""
    folder.mkdir()
    workspace = Workspace(folder)
    write_synthetic_dataset(workspace.raw(DATASET), seed=0)
    where = f"--workspace={folder}"
    watch(tree, ["plan_and_preprocess", DATASET, where, *PLAN], folder)
    recipe = ["--epochs=1", "--iterations=2", "--no-mirroring", "--device=cpu"]
    watch(tree, ["train", DATASET, CONFIGURATION, where, *recipe], folder)


@contextmanager
def busy(count: int) -> Iterator[None]:
    """While entered, ``count`` other processes compute."""
    others = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(count)]
    try:
        yield
    finally:
        for other in others:
            other.kill()
            other.wait()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--against", type=Path, help="another checkout of this repository")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--busy", nargs="+", type=int, default=[0, 1, 2], help="numbers of busy processes")
    arguments = parser.parse_args()
    trees = {"this": HERE} if arguments.against is None else {"other": arguments.against.resolve(), "this": HERE}
    rows: list[Sequence[str]] = [("part", "busy", "checkout", "wall s", "CPU s", "")]
    with tempfile.TemporaryDirectory() as root:
        for name, tree in trees.items():
            make_ready(tree, Path(root) / name)
        for part in arguments.parts:
            for count in arguments.busy:
                for name, tree in trees.items():
                    with tempfile.TemporaryDirectory(dir=root) as folder, busy(count):
                        spent = PARTS[part](tree, Path(root) / name, Path(folder))
                    rows.append((part, str(count), name, f"{spent.wall:.2f}", f"{spent.cpu:.2f}", spent.note))
                    print(*rows[-1], flush=True)
    print(text_table(rows))


if __name__ == "__main__":
    main()
