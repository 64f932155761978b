"""The log of a training: a picture that a viewer holds open does not end it."""

from unetrpp.trainers.config import TrainingConfig
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
