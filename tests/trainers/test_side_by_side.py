"""Folds in processes of their own: `--devices cpu,cpu`, failures, Ctrl-C and resumption of the real command."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from typing import Any

import pytest
import torch

from tests.helpers.tiny import configuration, workspace_of_balls
from unetrpp.core.errors import SomeFailed, UserError
from unetrpp.core.files import read_json_lines
from unetrpp.model import checkpoint
from unetrpp.trainers import side_by_side
from unetrpp.trainers.fold_process import FoldProcess
from unetrpp.trainers.folds import train
from unetrpp.trainers.side_by_side import PROCESS_BYTES, cpu_places

RECIPE: dict[str, Any] = {"plans_name": "unet", "epochs": 2, "iterations": 4, "compute_threads": 1}


@pytest.fixture
def workspace(tmp_path):
    return workspace_of_balls(tmp_path)


def weights(model):
    cpu = torch.device("cpu")
    return {
        path.parent.name: checkpoint.load(path, cpu)["network"] for path in model.glob("fold_*/checkpoint_final.pt")
    }


def assert_equal_weights(one, two):
    assert one.keys() == two.keys()
    for fold in one:
        assert all(torch.equal(one[fold][name], two[fold][name]) for name in one[fold])


def with_obstacle(workspace, fold):
    """A model folder with a trained fold 0, in which another fold cannot be trained: a folder is where it writes a file."""
    model = train("balls", "3d_fullres", "0", workspace=workspace.root, device="cpu", **RECIPE).path
    (model / f"fold_{fold}" / "metrics.jsonl").mkdir(parents=True)
    return model


def test_folds_side_by_side_equal_folds_one_after_the_other(workspace, caplog):
    caplog.set_level("INFO", "unetrpp")
    model = train("balls", "3d_fullres", workspace=workspace.root, devices=["cpu", "cpu"], **RECIPE).path
    scores = json.loads((model / "crossval_summary.json").read_text())
    side_by_side = weights(model)
    shutil.rmtree(model)
    train("balls", "3d_fullres", workspace=workspace.root, devices=["cpu"], **RECIPE)
    assert len(side_by_side) == 4
    assert_equal_weights(side_by_side, weights(model))
    assert json.loads((model / "crossval_summary.json").read_text())["folds"] == scores["folds"]
    for fold in range(4):
        lines = (model / f"fold_{fold}" / "training.log").read_text().splitlines()
        assert [f"fold {fold} epoch {epoch}" in "\n".join(lines) for epoch in (1, 2)] == [True, True]
        assert not any(f"fold {other} epoch" in line for other in range(4) for line in lines if other != fold)
        assert [entry["threads"] for entry in read_json_lines(model / f"fold_{fold}" / "metrics.jsonl")] == [1, 1]


def test_a_fold_that_fails_or_is_killed_does_not_stop_the_others(workspace, monkeypatch, caplog):
    """Fold 1 cannot write; a process of fold 2 is killed while it trains."""
    model = with_obstacle(workspace, fold=1)
    caplog.set_level("INFO", "unetrpp")  # then the process says something before it ends
    killed: list[int | str] = []

    def kill_once(process):
        if process.fold == 2 and not killed:
            killed.append(process.fold)
            process.process.kill()
        return receive(process)

    receive = FoldProcess.receive
    with monkeypatch.context() as patch:
        patch.setattr(FoldProcess, "receive", kill_once)
        with pytest.raises(SomeFailed) as error:
            train("balls", "3d_fullres", workspace=workspace.root, devices=["cpu", "cpu"], **RECIPE)
    assert error.value.exit_code == 1
    found = re.fullmatch(r"2 of 4 folds have failed \((.*)\); the same command trains what is left", str(error.value))
    assert found is not None
    told = found[1]
    assert re.search("fold 1: .*metrics.jsonl", told)
    assert "fold 2: its process was killed (signal 9), usually because memory ran out" in told
    assert set(weights(model)) == {"fold_0", "fold_3"}
    (model / "fold_1" / "metrics.jsonl").rmdir()
    train("balls", "3d_fullres", workspace=workspace.root, devices=["cpu", "cpu"], **RECIPE)
    assert len(weights(model)) == 4


def test_the_process_of_a_fold_holds_a_lock_of_its_own(workspace, monkeypatch):
    model, held, receive = workspace.model("balls", "unet", "3d_fullres"), set(), FoldProcess.receive

    def watch(process):
        if (model / f".fold_{process.fold}.process.lock").exists():
            held.add(process.fold)
        return receive(process)

    monkeypatch.setattr(FoldProcess, "receive", watch)
    train("balls", "3d_fullres", "0-1", workspace=workspace.root, devices=["cpu", "cpu"], **RECIPE)
    assert held == {0, 1}
    assert not list(model.glob(".fold*"))


def test_in_one_process_too_a_failed_fold_does_not_stop_the_others(workspace):
    model = with_obstacle(workspace, fold=1)
    with pytest.raises(SomeFailed, match=r"1 of 4 folds has failed \(fold 1: .*metrics.jsonl"):
        train("balls", "3d_fullres", workspace=workspace.root, devices=["cpu"], **RECIPE)
    assert set(weights(model)) == {"fold_0", "fold_2", "fold_3"}


@pytest.fixture
def heard():
    """A command that a shell has put into the background ignores SIGINT, and what it starts does, too."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def start(workspace, *options):
    line = [sys.executable, "-m", "unetrpp", "train", "balls", "3d_fullres", "0", "1", "-p", "unet", *options]
    line += ["--workspace", str(workspace.root), "--devices", "cpu,cpu", "--compute-threads", "1", "--iterations", "5"]
    # A group of its own, which gets the signal of Ctrl-C as a terminal's processes do.
    return subprocess.Popen(line, stderr=subprocess.PIPE, text=True, start_new_session=True, env=os.environ)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no process groups with signals")
@pytest.mark.usefixtures("heard")
def test_ctrl_c_saves_every_fold_and_the_same_command_resumes(workspace):
    model = workspace.model("balls", "unet", "3d_fullres")
    many = ("--epochs", "400")
    run = start(workspace, *many)
    metrics = [model / f"fold_{fold}" / "metrics.jsonl" for fold in (0, 1)]
    wait_for(run, lambda: all(path.exists() and path.stat().st_size for path in metrics))
    os.killpg(run.pid, signal.SIGINT)
    _, told = run.communicate(timeout=120)
    assert run.returncode == 130
    assert told.rstrip().endswith("interrupted; the same command resumes")
    assert "Traceback" not in told
    steps = {}
    for fold in (0, 1):
        state = checkpoint.load(model / f"fold_{fold}" / "checkpoint_latest.pt", torch.device("cpu"))
        steps[fold] = state["step"]
        assert 0 < state["step"] < 2000
        assert not (model / f"fold_{fold}" / "checkpoint_final.pt").exists()
    run = start(workspace, *many)
    wait_for(run, lambda: all(len(read_json_lines(path)) > steps[fold] // 5 for fold, path in enumerate(metrics)))
    os.killpg(run.pid, signal.SIGTERM)
    _, told = run.communicate(timeout=120)
    assert run.returncode == 130
    assert f"fold 0: resumes after step {steps[0]} of 2000" in told


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such signal")
def test_folds_end_when_the_command_is_killed(workspace):
    model = workspace.model("balls", "unet", "3d_fullres")
    run = start(workspace, "--epochs", "4000")
    metrics = [model / f"fold_{fold}" / "metrics.jsonl" for fold in (0, 1)]
    wait_for(run, lambda: all(path.exists() and path.stat().st_size for path in metrics))
    run.kill()
    run.communicate(timeout=60)  # returns when no process has its standard error open any more
    before = [path.stat().st_size for path in metrics]
    time.sleep(1)
    assert [path.stat().st_size for path in metrics] == before
    assert all((path.parent / "checkpoint_latest.pt").exists() for path in metrics)


def wait_for(run, ready):
    end = time.monotonic() + 120
    while not ready():
        assert run.poll() is None, run.communicate()
        assert time.monotonic() < end
        time.sleep(0.1)


def test_places_on_a_cpu_are_limited_by_folds_cores_and_memory(monkeypatch):
    plan = configuration()  # whose steps need no memory
    monkeypatch.setattr(side_by_side, "available_memory", lambda: 3 * PROCESS_BYTES)
    assert len(cpu_places(plan, folds=5, threads=2, compute_threads=None)) == 2
    assert len(cpu_places(plan, folds=5, threads=16, compute_threads=None)) == 3
    assert len(cpu_places(plan, folds=1, threads=16, compute_threads=None)) == 1
    assert len(cpu_places(plan, folds=5, threads=4, compute_threads=2)) == 2
    assert len(cpu_places(plan, folds=5, threads=2, compute_threads=4)) == 1
    monkeypatch.setattr(side_by_side, "available_memory", lambda: 0)
    assert cpu_places(plan, folds=5, threads=4, compute_threads=None) == ["cpu"]


def test_devices_are_of_one_type_and_exist(workspace):
    for devices, said in {"cpu,tpu": "'tpu'", "cuda:7": "device 'cuda:7' cannot", "cpu,": "''"}.items():
        with pytest.raises(UserError, match=said):
            train("balls", "3d_fullres", workspace=workspace.root, devices=devices, **RECIPE)
    with pytest.raises(UserError, match="either one device"):
        train("balls", "3d_fullres", workspace=workspace.root, device="cpu", devices=["cpu"], **RECIPE)
