"""The command is killed (kill -9) at random moments and repeated: the result is that of an uninterrupted run."""

import json
import os
import random
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from unetrpp.dataset.synthetic import write_synthetic_dataset
from unetrpp.model import checkpoint
from unetrpp.planners.plan_and_preprocess import main as plan

# The command itself, saving after every step instead of every minute.
COMMAND = "import sys; from unetrpp.trainers import train, trainer; trainer.SAVE_SECONDS = 0; sys.exit(train.main())"
RECIPE = ["--epochs", "3", "--iterations", "4", "--device", "cpu", "--no-mirroring"]


@pytest.fixture(scope="module")
def workspace(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("workspace")
    write_synthetic_dataset(folder / "raw" / "synthetic", 4, 0, seed=0)
    size = ["--batch-size", "2", "--width", "0.5", "--patch", "16", "32", "32"]
    assert plan(["synthetic", "--workspace", str(folder), "--processes", "1", *size]) == 0
    return folder


def start(workspace: Path, threads: int) -> subprocess.Popen[bytes]:
    line = [sys.executable, "-c", COMMAND, "synthetic", "3d_fullres", "0", *RECIPE]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}  # with one core the order of sums is fixed
    line += ["--threads", str(threads), "--workspace", str(workspace)]
    return subprocess.Popen(line, env=environment, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)


def fold(workspace: Path) -> Path:
    return workspace / "results" / "synthetic" / "unetrpp__3d_fullres" / "fold_0"


def kill_at(run: subprocess.Popen[bytes], latest: Path, saves: int, seconds: float) -> bool:
    """Kill a run ``seconds`` after its save number ``saves``; False if it ended before."""
    seen, stamp = -1 if latest.exists() else 0, 0
    while seen < saves and run.poll() is None:
        now = latest.stat().st_mtime_ns if latest.exists() else 0
        seen, stamp = seen + (now != stamp), now
        time.sleep(0.001)
    time.sleep(seconds)
    if run.poll() is not None:
        return False
    run.kill()
    return True


@pytest.fixture(scope="module")
def whole(workspace) -> Path:
    """The fold of an uninterrupted run of one reading thread."""
    with start(workspace, threads=1) as run:
        pass
    assert run.returncode == 0
    return fold(workspace).parent.rename(workspace / "whole") / "fold_0"


@pytest.mark.slow
def test_a_killed_run_ends_bit_identical(workspace, whole):
    """Each process goes on where the one before it was killed, with another number of reading threads."""
    moments = random.Random(1)
    kills = 0
    for threads in (1, 3):
        with start(workspace, threads) as run:
            latest = fold(workspace) / "checkpoint_latest.pt"
            kills += kill_at(run, latest, moments.randint(1, 4), moments.uniform(0, 0.2))
    assert kills
    with start(workspace, threads=2) as run:
        pass
    assert run.returncode == 0
    found = fold(workspace)
    assert_equal_weights(whole, found)
    assert metrics(found) == metrics(whole)
    for path in [*(whole / "validation").glob("*.nii.gz"), whole / "validation" / "summary.json"]:
        assert (found / "validation" / path.name).read_bytes() == path.read_bytes()


def assert_equal_weights(expected: Path, found: Path) -> None:
    for name in ("checkpoint_final.pt", "checkpoint_best.pt"):
        a, b = (checkpoint.load(folder / name, torch.device("cpu"))["network"] for folder in (expected, found))
        assert a.keys() == b.keys()
        assert all(torch.equal(a[key], b[key]) for key in a)


def metrics(folder: Path) -> list[dict]:
    entries = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert len(entries) == 3
    return [{name: value for name, value in entry.items() if name != "seconds"} for entry in entries]
