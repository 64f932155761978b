"""examples/slurm: a fold a task, which resumes and requeues itself; run by a stand-in for the scheduler."""

import os
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.helpers.raw_dataset import write_dataset
from tests.helpers.slurm import Slurm
from tests.helpers.tiny import workspace_of_balls
from unetrpp.__main__ import main
from unetrpp.core.files import read_json_lines

ROOT = Path(__file__).parent.parent
SCRIPT = ROOT / "examples" / "slurm" / "train_array.sh"
pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="bash and signals")


@pytest.mark.slow
def test_folds_are_trained_by_an_array_whose_tasks_run_out_of_time(tmp_path):
    workspace = workspace_of_balls(tmp_path / "workspace")
    model = workspace.model("balls", "unet", "3d_fullres")
    path = os.pathsep.join((str(ROOT), os.environ.get("PYTHONPATH", "")))
    slurm = Slurm(tmp_path / "slurm", os.environ | {"UNETRPP_WORKSPACE": str(workspace.root), "PYTHONPATH": path})
    short = ["--epochs", "20", "--iterations", "4", "--no-mirroring", "--threads", "1", "--device", "cpu"]
    slurm.sbatch(SCRIPT, "balls", "3d_fullres", "-p", "unet", *short)
    assert slurm.queue == [0, 1, 2, 3, 4]
    slurm.queue = [0, 1]  # the dataset has four folds
    metrics = model / "fold_0" / "metrics.jsonl"
    assert slurm.run_next(until=lambda: len(read_json_lines(metrics)) >= 2) == 130
    assert slurm.queue == [1, 0]
    reached = len(read_json_lines(metrics))
    assert 2 <= reached < 20
    assert not (model / "fold_0" / "checkpoint_final.pt").exists()
    while slurm.queue:
        assert slurm.run_next() == 0
    assert slurm.states == {0: [130, 0], 1: [0]}
    for fold in (0, 1):
        assert [line["epoch"] for line in read_json_lines(model / f"fold_{fold}" / "metrics.jsonl")] == [*range(1, 21)]
        assert (model / f"fold_{fold}" / "validation" / "summary.json").is_file()
    (step,) = re.findall(r"fold 0: resumes after step (\d+) of 80", slurm.log.read_text())
    assert reached * 4 <= int(step) < 80


def test_a_failed_training_is_not_put_back(tmp_path):
    slurm = Slurm(tmp_path / "slurm", dict(os.environ))
    (tmp_path / "slurm" / "programs" / "unetrpp_train").write_text("#!/bin/bash\nexit 2\n")
    slurm.sbatch(SCRIPT, "balls", "3d_fullres")
    slurm.queue = [0]
    assert slurm.run_next() == 2
    assert slurm.queue == []


@pytest.mark.parametrize(
    ("arguments", "message"), [([], "usage: sbatch"), (["balls", "2d", "--overwrite"], "would start again after every")]
)
def test_what_cannot_work_is_refused(arguments, message):
    done = subprocess.run(["bash", str(SCRIPT), *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert message in done.stderr


def test_the_stand_in_takes_a_copy_of_a_job_as_slurm_does(tmp_path):
    slurm, job, done = Slurm(tmp_path / "slurm", dict(os.environ)), tmp_path / "job.sh", tmp_path / "done"
    job.write_text(f'touch "{done}"\n')
    subprocess.run(["sbatch", str(job)], env=slurm.environment, stdout=subprocess.DEVNULL, check=True)
    job.unlink()
    end = time.monotonic() + 60
    while not done.exists() and time.monotonic() < end:
        time.sleep(0.02)
    assert done.exists(), slurm.log.read_text()


@pytest.mark.slow
def test_a_dask_cluster_of_slurm_jobs_takes_cases(tmp_path, monkeypatch):
    """The real dask-jobqueue; its sbatch starts the job on this machine."""
    pytest.importorskip("dask_jobqueue", reason="pip install dask-jobqueue")
    slurm = Slurm(tmp_path / "slurm", os.environ | {"PYTHONPATH": str(ROOT)})
    command = [sys.executable, str(ROOT / "examples" / "slurm" / "dask_cluster.py")]
    options = ["--jobs", "1", "--cores", "2", "--memory", "4GB", "--port", "0"]
    with subprocess.Popen(
        [*command, *options], env=slurm.environment, stdout=subprocess.PIPE, text=True, cwd=tmp_path
    ) as process:
        try:
            assert process.stdout is not None
            address = process.stdout.readline().removeprefix("--executor ").strip()
            write_dataset(tmp_path / "source", 3)
            monkeypatch.chdir(tmp_path)
            convert = "convert nnunet source --name Blocks --workspace ."
            assert main([*convert.split(), "--executor", address]) == 0
            assert len(list((tmp_path / "raw" / "Blocks" / "imagesTr").iterdir())) == 3
        finally:
            process.terminate()
    assert slurm.log.read_text().count("submitted") == 1
