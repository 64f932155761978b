"""Checkpoints are written beside training: in order, with the values of their moment, and no failure is lost."""

import errno
import os
import threading
from pathlib import Path

import pytest
import torch

from tests.helpers.tiny import configuration, store_balls
from unetrpp.core.errors import UserError
from unetrpp.model import checkpoint
from unetrpp.trainers.config import TrainingConfig
from unetrpp.trainers.inputs import FoldData, Machine
from unetrpp.trainers.saver import MOST_WAITING, Saver
from unetrpp.trainers.trainer import Trainer

CPU = torch.device("cpu")
SECONDS = 20.0  # after which a test gives up waiting for a thread


@pytest.fixture(scope="module")
def cases(tmp_path_factory):
    store = store_balls(tmp_path_factory.mktemp("store"), 4)
    return [store.open(case) for case in store.cases()]


def trainer(folder: Path, cases, **changed) -> Trainer:
    folder.mkdir()
    config = TrainingConfig(**({"fold": 0, "epochs": 2, "iterations": 6, "momentum": 0.9} | changed))
    return Trainer(FoldData(configuration(), cases[:3], cases[3:]), config, folder, Machine(threads=1))


class Disk:
    """``checkpoint.save`` that waits until it is let go, and fails from the write on that ``full`` names."""

    def __init__(self, monkeypatch, full: str = ""):
        self.free, self.begun, self.full = threading.Event(), threading.Event(), full
        self.names: list[str] = []
        self.save = checkpoint.save
        monkeypatch.setattr(checkpoint, "save", self)

    def __call__(self, path, content):
        self.begun.set()
        assert self.free.wait(SECONDS), "nobody waits for this write, so training should have gone on"
        self.names.append(path.stem.removeprefix("checkpoint_"))
        if self.names[-1] == self.full:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
        self.save(path, content)


def test_training_does_not_wait_for_the_disk(tmp_path, cases, monkeypatch):
    """The disk is blocked from the first save until three steps later; what it then writes is of the step of the save."""
    disk, trained = Disk(monkeypatch), trainer(tmp_path / "f", cases)
    step, weights, thread = trained.step, [], threading.get_ident()

    def watched(samples):
        assert threading.get_ident() == thread
        loss = step(samples)
        if trained.state.step == 2:
            trained.saved = -1e9  # `latest` is due
            weights.append({name: value.clone() for name, value in trained.network.state_dict().items()})
        if trained.state.step == 5:
            assert disk.begun.wait(SECONDS)
            disk.free.set()
            trained.saver.wait()
            weights.append(checkpoint.load(trained.folder / "checkpoint_latest.pt", CPU))
        return loss

    monkeypatch.setattr(trained, "step", watched)
    trained.run()
    now, written = weights
    assert written["step"] == 2
    assert len(written["losses"]) == 2
    assert all(torch.equal(value, written["network"][name]) for name, value in now.items())
    assert disk.names[0] == "latest"
    assert disk.names[-1] == "final"


@pytest.mark.parametrize("full", ["latest", "best"])
def test_a_full_disk_ends_training_with_its_own_error_and_leaves_no_later_checkpoint(
    tmp_path, cases, monkeypatch, full
):
    disk, trained = Disk(monkeypatch, full), trainer(tmp_path / "f", cases)
    disk.free.set()
    with pytest.raises(OSError, match="No space left on device") as raised:
        trained.run()
    assert raised.value.filename == str(tmp_path / "f" / f"checkpoint_{full}.pt")
    assert disk.names[-1] == full
    assert not (tmp_path / "f" / "checkpoint_final.pt").exists()


def test_a_failure_is_noticed_at_the_next_step(tmp_path, cases, monkeypatch):
    disk, trained = Disk(monkeypatch, "latest"), trainer(tmp_path / "f", cases, iterations=1000)
    disk.free.set()
    step = trained.step

    def watched(samples):
        if trained.state.step == 2:
            trained.saver.save(tmp_path / "f" / "checkpoint_latest.pt", {})
            trained.saver._thread.submit(int).result()  # after that write
        return step(samples)

    monkeypatch.setattr(trained, "step", watched)
    with pytest.raises(OSError, match="No space left on device"):
        trained.run()
    assert trained.state.step == 3


def test_a_loss_that_is_not_finite_is_in_no_checkpoint_that_is_still_written(tmp_path, cases, monkeypatch):
    disk, trained = Disk(monkeypatch), trainer(tmp_path / "f", cases)
    step = trained.step

    def watched(samples):
        loss = step(samples)
        trained.saved = -1e9  # every step is to be saved
        if trained.state.step == 3:
            disk.free.set()
            return loss * float("nan")
        return loss

    monkeypatch.setattr(trained, "step", watched)
    with pytest.raises(UserError, match="the loss became nan before step 3"):
        trained.run()
    assert checkpoint.load(tmp_path / "f" / "checkpoint_latest.pt", CPU)["step"] == 2


def test_only_a_few_checkpoints_wait(tmp_path, monkeypatch):
    """The next one waits for the disk, so the memory of copies is bounded."""
    disk = Disk(monkeypatch)
    done = threading.Event()
    with Saver() as saver:

        def give():
            for number in range(MOST_WAITING + 1):
                saver.save(tmp_path / f"{number}.pt", {"step": number})
            done.set()

        giving = threading.Thread(target=give)
        giving.start()
        assert disk.begun.wait(SECONDS)
        assert not done.wait(0.2)
        disk.free.set()
        giving.join(SECONDS)
        assert done.is_set()
    assert disk.names == ["0", "1", "2"]
    assert [checkpoint.load(tmp_path / f"{n}.pt", CPU)["step"] for n in range(3)] == [0, 1, 2]
