"""The log of a training where something is in the way: an open picture, a missing package."""

import pytest

from tests.helpers.tiny import workspace_of_balls
from unetrpp.core.errors import UserError
from unetrpp.trainers.config import TrainingConfig
from unetrpp.trainers.folds import train
from unetrpp.trainers.log import EpochEntry, TrainingLog

ENTRY: EpochEntry = {
    "epoch": 1,
    "train_loss": 1.0,
    "validation_loss": 1.0,
    "dice": [0.5],
    "mean_dice": 0.5,
    "learning_rate": 0.1,
    "seconds": 1.0,
}


def test_a_picture_that_cannot_be_replaced_gives_a_warning(tmp_path, monkeypatch, caplog):
    def refuse(*_):
        raise PermissionError(13, "Access is denied")

    monkeypatch.setattr("unetrpp.trainers.log.draw_curves", refuse)
    with TrainingLog(tmp_path, TrainingConfig(fold=0), ["organ"]) as log:
        log.epoch(ENTRY)
    assert (
        "the curves could not be redrawn ([Errno 13] Access is denied); close the program that shows them"
        in caplog.text
    )
    assert (tmp_path / "metrics.jsonl").read_text().count("\n") == 1


def test_a_missing_tensorboard_is_found_before_a_fold_is_deleted(tmp_path, monkeypatch):
    workspace = workspace_of_balls(tmp_path)
    kept = workspace.model("balls", "unet", "3d_fullres") / "fold_0" / "checkpoint_final.pt"
    kept.parent.mkdir(parents=True)
    kept.write_bytes(b"weights")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(UserError, match="--tensorboard needs the package tensorboard"):
        train("balls", "3d_fullres", 0, workspace=tmp_path, plans_name="unet", tensorboard=True, overwrite=True)
    assert kept.read_bytes() == b"weights"
