"""The log of a training where something is in the way: an open picture, a missing package."""

import pytest

from tests.helpers.tiny import workspace_of_balls
from unetrpp.core.errors import UserError
from unetrpp.trainers.config import TrainingConfig
from unetrpp.trainers.folds import train
from unetrpp.trainers.log import EpochEntry, TrainingLog, epoch_line

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
    with pytest.raises(UserError, match="--tracker tensorboard needs the package tensorboard"):
        train("balls", "3d_fullres", 0, workspace=tmp_path, plans_name="unet", tracker="tensorboard", overwrite=True)
    assert kept.read_bytes() == b"weights"


def line(*dice, mean=0.25):
    names = [f"region_{i}" for i in range(1, len(dice) + 1)]
    return epoch_line({**ENTRY, "dice": dice, "mean_dice": mean, "seconds": 12.4}, names)


@pytest.mark.parametrize(
    ("dice", "expected"),
    [
        ([0.25], "region_1 0.250"),
        ([None], "region_1 -"),
        ([0.2, None], "mean 0.250 (region_1 0.200, region_2 -)"),
        ([0.25] * 7, "mean 0.250 (lowest: region_1 0.250, region_2 0.250, region_3 0.250)"),
        (
            [None] * 60 + [0.5, 0.25] * 30,
            "mean 0.250 (lowest: region_62 0.250, region_64 0.250, region_66 0.250; 60 of 120 undefined)",
        ),
    ],
)
def test_an_epoch_is_one_line_for_any_number_of_classes(dice, expected):
    assert line(*dice) == f"epoch 1: loss 1.000, validation 1.000, Dice {expected}, 12 s"


def test_an_epoch_without_any_dice():
    expected = "epoch 1: loss 1.000, validation 1.000, Dice mean - (120 of 120 undefined), 12 s"
    assert line(*[None] * 120, mean=None) == expected


def test_an_epoch_without_validation_cases_has_the_training_loss_alone():
    entry: EpochEntry = {**ENTRY, "validation_loss": None, "dice": [None, None], "mean_dice": None}
    assert epoch_line(entry, ["liver", "tumour"]) == "epoch 1: loss 1.000, 1 s"
