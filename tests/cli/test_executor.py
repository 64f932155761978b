"""--executor: every command that computes case by case, on a cluster of two workers of which one is killed."""

import logging
import re
import shutil
import subprocess
import sys
import threading
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest

from tests.helpers.cluster import dask_client, losing_a_worker
from tests.helpers.model import GEOMETRY, make_model
from tests.helpers.raw_dataset import write_dataset
from tests.helpers.tiny import ball
from tests.helpers.validated import validated_workspace
from unetrpp.__main__ import main
from unetrpp.core.cluster import cluster, current_executor
from unetrpp.core.errors import UserError
from unetrpp.core.parallel import run_cases
from unetrpp.io.images import Volume, write_image, write_segmentation

CONVERT = (
    "convert folder ../source --images imagesTr/{case}_0000.nii.gz --labels labelsTr/{case}.nii.gz --channel MR "
    "--label organ=1 lesion=2 --name Blocks --workspace ."
)
PREDICT = "predict -i ../images -o segmentations -m ../unetrpp__3d_fullres --folds 0 --no-mirroring --device cpu"
COMMANDS = {  # what a step writes, by its name; relative paths are those of the caller
    "convert": (CONVERT, "raw"),
    "plan": ("plan-and-preprocess Blocks --planner unet --batch-size 2 --workspace .", "preprocessed"),
    "predict": (PREDICT, "segmentations"),
    "evaluate": ("evaluate segmentations ../labels --dataset-json ../unetrpp__3d_fullres --distances", "segmentations"),
    "find-best": ("find-best balls --workspace validated --device cpu", "validated/results"),
}
TIMED = {"predictions.json"}  # it records seconds and the device


def contents(folder: Path) -> dict[str, bytes]:
    return {
        str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file() and p.name not in TIMED
    }


@pytest.fixture
def place(tmp_path):
    """A folder with images, labels and models, and in it the folders "here" and "cluster" to work in."""
    write_dataset(tmp_path / "source", 6)
    make_model(tmp_path, folds=1)
    for i in range(6):
        image, label = ball(np.random.default_rng(100 + i))
        write_image(tmp_path / "images" / f"case_{i}_0000.nii.gz", Volume(image, GEOMETRY))
        write_segmentation(tmp_path / "labels" / f"case_{i}.nii.gz", label, GEOMETRY)
    validated_workspace(tmp_path / "here" / "validated")
    shutil.copytree(tmp_path / "here", tmp_path / "cluster")
    return tmp_path


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="SIGKILL")
def test_every_step_runs_on_a_cluster_that_loses_a_worker(place, monkeypatch):
    with dask_client(place / "workers") as client:
        executor = ["--executor", f"dask={client.scheduler.address}"]
        for name, (command, written) in COMMANDS.items():
            for folder, options in (("here", []), ("cluster", executor)):
                monkeypatch.chdir(place / folder)
                with losing_a_worker(client) if options else nullcontext([0]) as killed:
                    assert main([*command.split(), *options]) == 0, name
                assert len(killed) == 1, name
            assert contents(place / "cluster" / written) == contents(place / "here" / written), name


def kill_or_square(number):
    if number == 3:
        import os
        import signal

        os.kill(os.getpid(), signal.SIGKILL)
    return number**2


@pytest.mark.skipif(sys.platform == "win32", reason="SIGKILL")
def test_a_local_cluster_names_the_case_that_kills_its_worker():
    with cluster("dask=local:2"):
        found = {o.case: o for o in run_cases(kill_or_square, {f"case_{n}": (n,) for n in range(6)}, "squares", 1)}
    assert current_executor() is None
    assert {case: o.value for case, o in found.items() if o.error is None} == {
        f"case_{n}": n**2 for n in (0, 1, 2, 4, 5)
    }
    error = found["case_3"].error
    assert error is not None
    assert "the executor failed during squares (KilledWorker" in error.message


@pytest.mark.parametrize(
    "text", ["dask", "dask=", "dask=local:0", "dask=local", "dask=http://a:1", "local:2", "ray=a:1"]
)
def test_other_executors_are_refused(text):
    with pytest.raises(UserError, match="is neither dask=tcp://HOST:PORT nor dask=local:WORKERS"), cluster(text):
        pass


def test_a_scheduler_that_does_not_answer_and_a_missing_package(monkeypatch):
    import dask

    with (
        dask.config.set({"distributed.comm.timeouts.connect": "1s"}),
        pytest.raises(UserError, match="no scheduler answers there"),
        cluster("dask=tcp://127.0.0.1:9"),
    ):
        pass
    monkeypatch.setitem(sys.modules, "distributed", None)
    with (
        pytest.raises(UserError, match=r'needs the package distributed; pip install "unetrpp\[dask\]"'),
        cluster("dask=local:2"),
    ):
        pass


@pytest.mark.parametrize(
    ("workers", "said"), [(0, "has no workers, so nothing is computed until one joins"), (1, ": 1 worker\n")]
)
def test_how_many_workers_there_are_is_said(workers, said, caplog):
    from distributed import LocalCluster

    caplog.set_level(logging.INFO, "unetrpp")
    options = {"processes": False, "threads_per_worker": 1, "dashboard_address": None, "silence_logs": logging.CRITICAL}
    with (
        LocalCluster(n_workers=workers, host="tcp://127.0.0.1", **options) as started,
        cluster(f"dask={started.scheduler_address}"),
    ):
        pass
    assert said in caplog.text


@pytest.mark.slow
def test_a_scheduler_that_is_killed_ends_every_case_with_an_error():
    """There is no worker, so both cases wait."""
    import dask

    command = [sys.executable, "-m", "dask", "scheduler", "--host", "127.0.0.1", "--port", "0", "--no-dashboard"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as scheduler:
        try:
            assert scheduler.stderr is not None
            told = (re.search(r"Scheduler at:\s+(tcp://\S+)", line) for line in scheduler.stderr)
            address = next(found[1] for found in told if found)
            with dask.config.set({"distributed.comm.timeouts.connect": "3s"}), cluster(f"dask={address}"):
                threading.Timer(1, scheduler.kill).start()
                found = list(run_cases(kill_or_square, {"a": (1,), "b": (2,)}, "squares", 1))
        finally:
            scheduler.kill()
    assert [o.case for o in found] == ["a", "b"]
    assert all(o.error is not None and "the executor gave up squares" in o.error.message for o in found)
