"""Two processes on one CPU (gloo, by torchrun) train what a single one does, and stop, resume and refuse together."""

import json
import os
import subprocess
import sys
import threading
import time

import msgspec
import pytest
import torch

from tests.helpers.tiny import configuration, workspace_of_balls
from unetrpp.core.errors import UserError
from unetrpp.model import checkpoint
from unetrpp.plans.plans import LossPlan
from unetrpp.trainers import distributed
from unetrpp.trainers.config import TrainingConfig
from unetrpp.trainers.distributed import ALONE, Processes
from unetrpp.trainers.train import main

CPU = torch.device("cpu")
COMMAND = ["balls", "3d_fullres", "0", "-p", "unet", "--device", "cpu"]
RECIPE = ["--epochs", "2", "--iterations", "5", "--optimizer", "sgd", "--lr", "0.01", "--no-mirroring"]
RECIPE += ["--precision", "fp32"]  # so that sums in another order agree

# The command itself, whose second process gets a signal before step 6.
STOPPED = """
import os, signal, sys
from unetrpp.trainers import train, trainer

step = trainer.Trainer.step

def until_stopped(self, samples):
    if self.state.step == 5 and os.environ["RANK"] == "1":
        signal.raise_signal(signal.SIGTERM)
    return step(self, samples)

trainer.Trainer.step = until_stopped
sys.exit(train.main())
"""

# The command itself with a limit of an hour, which ends at step 3 by the clock of its second process.
HURRIED = """
import os, sys
from unetrpp.trainers import train, trainer

step = trainer.Trainer.step

def late(self, samples):
    if self.state.step == 2 and os.environ["RANK"] == "1":
        self.started -= 3600
    return step(self, samples)

trainer.Trainer.step = late
sys.exit(train.main([*sys.argv[1:], "--max-hours", "1"]))
"""


def torchrun(workspace, *program: str) -> subprocess.CompletedProcess[str]:
    line = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", *program, *COMMAND]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    line += [*RECIPE, "--workspace", str(workspace.root)]
    return subprocess.run(line, env=environment, capture_output=True, text=True, timeout=600)


def alone(workspace) -> None:
    assert main([*COMMAND, *RECIPE, "--workspace", str(workspace.root)]) == 0


def fold(workspace):
    return workspace.model("balls", "unet", "3d_fullres") / "fold_0"


def metrics(workspace) -> list[dict]:
    return [json.loads(line) for line in (fold(workspace) / "metrics.jsonl").read_text().splitlines()]


def assert_same_training(found, expected) -> None:
    """Ten steps change weights by about 1e-1; another order of sums changes this by a share of about 1e-6."""
    ours, theirs = (checkpoint.load(fold(w) / "checkpoint_final.pt", CPU)["network"] for w in (found, expected))
    for name, tensor in theirs.items():
        torch.testing.assert_close(ours[name], tensor, rtol=1e-4, atol=1e-5)
    for a, b in zip(metrics(found), metrics(expected), strict=True):
        for key in ("train_loss", "validation_loss", "mean_dice"):
            assert a[key] == pytest.approx(b[key], rel=1e-4, abs=1e-5)


@pytest.mark.parametrize("name", ["auto", "cuda"])
def test_every_process_uses_its_own_gpu_only(monkeypatch, name):
    """Even a test of whether the first GPU works takes half a gigabyte of its memory."""
    touched: list[torch.device] = []

    def found(name):
        touched.append(torch.device(name))
        return touched[-1]

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "set_device", touched.append)
    monkeypatch.setattr(distributed, "find_device", found)
    device = Processes(rank=5, count=8, local_rank=1).device(name)
    assert (device, touched) == (torch.device("cuda:1"), [torch.device("cuda:1")] * 2)


def test_one_gpu_by_number_is_not_shared(monkeypatch):
    monkeypatch.setattr(distributed, "find_device", torch.device)
    assert ALONE.device("cuda:1") == torch.device("cuda:1")
    assert Processes(rank=1, count=2).device("cpu") == CPU
    with pytest.raises(UserError, match="2 processes cannot share device cuda:1; give --device cuda or cpu"):
        Processes(rank=1, count=2).device("cuda:1")


def test_a_sum_returns_when_the_thread_that_computed_it_let_go(monkeypatch):
    """A thread that releases a tensor while Python exits aborts the process."""
    events: list[str] = []

    def all_reduce(tensor, operation):
        def work(held):
            time.sleep(0.1)
            events.append("released")
            held.clear()

        tensor.mul_(2)
        threading.Thread(target=work, args=([tensor],)).start()

    monkeypatch.setattr(torch.distributed, "all_reduce", all_reduce)
    values = torch.tensor([1, 2])
    total = Processes(rank=0, count=2).all_reduce_sum(values)
    events.append("returned")
    assert (total.tolist(), values.tolist()) == ([2, 4], [1, 2])
    assert events == ["released", "returned"]


@pytest.mark.slow
def test_two_processes_train_what_one_does(tmp_path):
    # This loss has the most sums over the batch.
    loss = LossPlan(name="unified_focal", batch_dice=True)
    shared, single = workspace_of_balls(tmp_path / "two", loss), workspace_of_balls(tmp_path / "one", loss)
    run = torchrun(shared, "-m", "unetrpp.trainers.train")
    assert run.returncode == 0, run.stderr
    assert run.stderr.count("3 training cases and 1 validation case") == 1
    assert [run.stderr.count(f"epoch {n}:") for n in (1, 2)] == [1, 1]
    alone(single)
    assert_same_training(shared, single)
    summaries = [(fold(w) / "validation" / "summary.json").exists() for w in (shared, single)]
    assert summaries == [True, True]


@pytest.mark.slow
def test_a_signal_to_one_process_stops_both_and_one_process_goes_on(tmp_path):
    shared, single = workspace_of_balls(tmp_path / "two"), workspace_of_balls(tmp_path / "one")
    (tmp_path / "stopped.py").write_text(STOPPED)
    run = torchrun(shared, str(tmp_path / "stopped.py"))
    assert run.returncode != 0
    assert run.stderr.count("interrupted; the same command resumes") == 1
    assert checkpoint.load(fold(shared) / "checkpoint_latest.pt", CPU)["step"] == 6
    assert not (fold(shared) / "checkpoint_final.pt").exists()
    alone(shared)
    alone(single)
    assert_same_training(shared, single)


@pytest.mark.slow
def test_the_hours_of_one_process_end_the_epoch_of_both(tmp_path):
    shared = workspace_of_balls(tmp_path / "two")
    (tmp_path / "hurried.py").write_text(HURRIED)
    run = torchrun(shared, str(tmp_path / "hurried.py"))
    assert run.returncode == 0, run.stderr
    assert checkpoint.load(fold(shared) / "checkpoint_final.pt", CPU)["step"] == 3
    assert [line["epoch"] for line in metrics(shared)] == [1]


def test_what_processes_cannot_share_is_refused():
    config = TrainingConfig(fold=0)
    Processes(1, 2).require(4, config)
    ALONE.require(1, msgspec.structs.replace(config, learn_attention=True))
    for batch, count in ((2, 3), (2, 4), (5, 2)):
        with pytest.raises(UserError, match=f"a batch of {batch} cannot be split evenly over {count} processes"):
            Processes(0, count).require(batch, config)
    for changed, option in (({"learn_attention": True}, "attention"), ({"augmentation": "workers"}, "augmentation")):
        with pytest.raises(UserError, match=f"--.*{option}.* works in one process only, not in 2"):
            Processes(0, 2).require(4, msgspec.structs.replace(config, **changed))


def test_processes_are_found_where_torchrun_started_them(monkeypatch):
    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)
    assert Processes.find() is ALONE
    for name, value in {"RANK": "5", "WORLD_SIZE": "8", "LOCAL_RANK": "1"}.items():
        monkeypatch.setenv(name, value)
    assert Processes.find() == Processes(rank=5, count=8, local_rank=1)
    assert not Processes.find().first
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "4")  # these share the cores
    assert Processes.find().local_count == 4


def test_shares_make_up_the_batch():
    batch = list(range(configuration().batch_size * 3))
    parts = [batch[Processes(rank, 3).share(len(batch))] for rank in range(3)]
    assert [sample for part in parts for sample in part] == batch
    assert {len(part) for part in parts} == {2}


def test_in_a_single_process_collective_methods_return_what_they_get():
    assert ALONE.all_reduce_max(2.5, False) == [2.5, 0.0]
    assert ALONE.all_reduce_mean([]) == []
    assert ALONE.rank_zero_first(lambda: 3) == 3
    network = torch.nn.Linear(1, 1)
    assert ALONE.replicate(network) is network
