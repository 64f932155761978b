"""What the trackers of a fold are shown, in which runs, and that none of them can stop a training."""

import importlib.util
import signal
from typing import Any, ClassVar

import numpy as np
import pytest

from tests.helpers.tiny import raw_balls, workspace_of_balls
from unetrpp.core.errors import UserError
from unetrpp.core.files import read_json_lines
from unetrpp.trainers.folds import train
from unetrpp.trainers.trackers import TRACKERS
from unetrpp.trainers.train import main
from unetrpp.trainers.trainer import Trainer


@pytest.fixture
def home(tmp_path):
    return workspace_of_balls(tmp_path)


class Recorder:
    """A tracker that keeps what it is shown; ``fails`` names the call that raises."""

    fails = ""
    made: ClassVar[list["Recorder"]] = []

    def __init__(self, fold):
        self.fold, self.run, self.epochs, self.scores, self.pictures = fold, fold.run or "run 1", [], {}, {}
        self.closed = None
        self.records = {name: fold.record(name) for name in fold.records}
        type(self).made.append(self)
        self._maybe_fail("made")

    def _maybe_fail(self, call):
        if self.fails == call:
            raise RuntimeError("the server is away")

    def epoch(self, entry):
        self._maybe_fail("epoch")
        self.epochs.append(entry["epoch"])

    def validated(self, scores, pictures):
        self._maybe_fail("validated")
        self.scores, self.pictures = scores, pictures

    def close(self, done):
        self.closed = done
        self._maybe_fail("close")


@pytest.fixture
def recorders(monkeypatch):
    """The trackers that were made, in their order; they are called "recorder"."""
    made: list[Recorder] = []
    monkeypatch.setattr(Recorder, "made", made)
    monkeypatch.setitem(TRACKERS, "recorder", Recorder)
    found = importlib.util.find_spec
    monkeypatch.setattr("importlib.util.find_spec", lambda name, *rest: name == "recorder" or found(name, *rest))
    return made


def train_balls(home, fold=0, **changed):
    options: dict[str, Any] = {
        "epochs": 2,
        "iterations": 2,
        "plans_name": "unet",
        "device": "cpu",
        "mirroring": False,
    } | changed
    return train("balls", "3d_fullres", fold, workspace=home.root, tracker="recorder", **options)


def test_a_fold_shows_its_records_epochs_scores_and_pictures(home, recorders):
    folder = train_balls(raw_balls(home)).path / "fold_0"
    (tracker,) = recorders
    assert (tracker.fold.name, tracker.fold.dataset) == ("unet__3d_fullres fold_0", "balls")
    assert tracker.records["training.json"]["epochs"] == 2
    assert list(tracker.records["plans.json"]["configurations"]) == ["3d_fullres"]
    assert (tracker.epochs, tracker.closed) == ([1, 2], True)
    assert set(tracker.scores) == {f"validation/{m}{c}" for m in ("Dice", "IoU") for c in ("", "/ball")}
    ((title, picture),) = tracker.pictures.items()
    assert title.startswith("ball_")
    assert (picture.dtype, picture.ndim, picture.shape[2]) == (np.uint8, 3, 3)
    entry = read_json_lines(folder / "metrics.jsonl")[0]
    numbers = tracker.fold.numbers(entry)
    assert numbers["dice/ball"] == entry["dice"][0]
    assert "epoch" not in numbers


def test_a_finished_fold_is_shown_once_and_an_extended_one_in_the_same_run(home, recorders):
    train_balls(home)
    train_balls(home)
    assert len(recorders) == 1
    train_balls(home, epochs=3, iterations=None, continue_training=True)
    assert [(tracker.run, tracker.fold.run, tracker.epochs) for tracker in recorders] == [
        ("run 1", None, [1, 2]),
        ("run 1", "run 1", [3]),
    ]
    assert recorders[1].scores
    train_balls(home, epochs=1, overwrite=True)
    assert recorders[2].fold.run is None


def test_a_tracker_that_joins_later_gets_the_earlier_epochs(home, recorders):
    train("balls", "3d_fullres", 0, workspace=home.root, plans_name="unet", device="cpu", epochs=2, iterations=2)
    train_balls(home, epochs=None, iterations=None, mirroring=True)
    (tracker,) = recorders
    assert tracker.epochs == [1, 2]
    assert tracker.scores


def test_an_interrupted_fold_is_closed_as_such(home, recorders, monkeypatch):
    step = Trainer.step

    def and_stop(trainer, samples):
        signal.raise_signal(signal.SIGTERM)
        return step(trainer, samples)

    monkeypatch.setattr(Trainer, "step", and_stop)
    with pytest.raises(KeyboardInterrupt):
        train_balls(home)
    assert [tracker.closed for tracker in recorders] == [False]


@pytest.mark.parametrize("call", ["made", "epoch", "validated", "close"])
def test_a_tracker_that_fails_costs_one_warning(home, recorders, monkeypatch, caplog, call):
    monkeypatch.setattr(Recorder, "fails", call)
    folder = train_balls(home).path / "fold_0"
    assert (folder / "checkpoint_final.pt").is_file()
    assert (folder / "validation" / "summary.json").is_file()
    warnings = [text for text in caplog.messages if "--tracker" in text]
    assert warnings == [
        "warning: fold 0: --tracker recorder failed and is shown no more: RuntimeError: the server is away "
        "(--debug shows where)"
    ]


def test_fold_all_has_no_scores(home, recorders):
    train_balls(home, "all", mirroring=True)
    (tracker,) = recorders
    assert (tracker.epochs, tracker.scores, tracker.closed) == ([1, 2], {}, True)


def test_an_unknown_tracker_is_refused_before_a_fold_is_deleted(home, capsys):
    kept = home.model("balls", "unet", "3d_fullres") / "fold_0" / "checkpoint_final.pt"
    kept.parent.mkdir(parents=True)
    kept.write_bytes(b"weights")
    command = ["balls", "3d_fullres", "0", "-p", "unet", "--workspace", str(home.root), "--overwrite"]
    assert main([*command, "--tracker", "comet"]) == 2
    assert "tracker 'comet' is not one of mlflow, tensorboard, wandb" in capsys.readouterr().err
    assert kept.read_bytes() == b"weights"
    with pytest.raises(UserError, match="comet"):
        train("balls", "3d_fullres", 0, workspace=home.root, plans_name="unet", tracker=["comet"])
