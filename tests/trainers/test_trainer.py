"""A tiny U-Net on balls: it learns, and an interrupted run ends bit for bit where an uninterrupted one does."""

import json
import signal

import pytest
import torch

from tests.tiny import configuration, store_balls
from unetrpp.errors import UserError
from unetrpp.trainers import checkpoint
from unetrpp.trainers.config import TrainingConfig
from unetrpp.trainers.trainer import Trainer

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def cases(tmp_path_factory):
    store = store_balls(tmp_path_factory.mktemp("store"), 4)
    return [store.open(case) for case in store.cases()]


def trainer(folder, cases, threads=1, **changed) -> Trainer:
    folder.mkdir(exist_ok=True)
    config = TrainingConfig(**({"fold": 0, "epochs": 2, "iterations": 6, "momentum": 0.9} | changed))
    return Trainer(configuration(), config, folder, cases[:3], cases[3:], CPU, threads)


def weights(folder):
    return checkpoint.load(folder / "checkpoint_final.pt", CPU)["network"]


def test_it_learns(tmp_path, cases):
    trainer(tmp_path / "f", cases, epochs=3, iterations=20).run()
    entries = [json.loads(line) for line in (tmp_path / "f" / "metrics.jsonl").read_text().splitlines()]
    assert [e["epoch"] for e in entries] == [1, 2, 3]
    assert entries[-1]["mean_dice"] > 0.6
    assert entries[-1]["train_loss"] < entries[0]["train_loss"]
    assert (tmp_path / "f" / "progress.png").stat().st_size > 1000
    assert sorted(p.name for p in (tmp_path / "f").glob("*.pt")) == [
        "checkpoint_best.pt",
        "checkpoint_final.pt",
        "checkpoint_latest.pt",
    ]


@pytest.mark.parametrize(("stop", "threads"), [(1, 1), (6, 2), (9, 3)])
def test_an_interrupted_run_ends_bit_identical(tmp_path, cases, monkeypatch, stop, threads):
    trainer(tmp_path / "whole", cases).run()
    interrupted = trainer(tmp_path / "parts", cases, threads)
    step = interrupted.step

    def until_stopped(samples):
        if interrupted.step_number == stop:
            signal.raise_signal(signal.SIGTERM)
        return step(samples)

    monkeypatch.setattr(interrupted, "step", until_stopped)
    with pytest.raises(KeyboardInterrupt):
        interrupted.run()
    trainer(tmp_path / "parts", cases, threads).run()
    expected, found = weights(tmp_path / "whole"), weights(tmp_path / "parts")
    assert expected.keys() == found.keys()
    assert all(torch.equal(expected[name], found[name]) for name in expected)
    losses = [
        [json.loads(line)["train_loss"] for line in (tmp_path / name / "metrics.jsonl").read_text().splitlines()]
        for name in ("whole", "parts")
    ]
    assert losses[0] == losses[1]


def test_a_loss_that_is_not_finite_stops_with_one_sentence(tmp_path, cases, monkeypatch):
    broken = trainer(tmp_path / "f", cases)
    monkeypatch.setattr(broken.loss, "forward", lambda outputs, target: outputs[0].sum() * float("nan"))
    with pytest.raises(UserError, match="the loss became nan before step 5"):
        broken.run()


def test_a_checkpoint_of_another_kind_is_refused(tmp_path):
    (tmp_path / "c.pt").write_bytes(b"no checkpoint")
    with pytest.raises(UserError, match="cannot be read as a checkpoint"):
        checkpoint.load(tmp_path / "c.pt", CPU)
    torch.save({"format": 99}, tmp_path / "c.pt")
    with pytest.raises(UserError, match="format 99"):
        checkpoint.load(tmp_path / "c.pt", CPU)
