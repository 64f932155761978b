"""A validation follows its files: what changed is predicted or scored again, the rest is kept."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.helpers.tiny import ball, replace_ball, workspace_of_balls
from unetrpp.core.files import read_json, write_json
from unetrpp.dataset.splits import Fold, Splits
from unetrpp.evaluation.cross_validation import evaluate_model
from unetrpp.trainers.folds import train

FOLD = Fold(train=("ball_0", "ball_1"), validation=("ball_2", "ball_3"))


class Trained:
    """A workspace with one trained fold, which validates two cases."""

    def __init__(self, root: Path):
        self.workspace = workspace_of_balls(root)
        self.split(FOLD)
        self.train()
        self.model = self.workspace.model("balls", "unet", "3d_fullres")
        self.folder = self.model / "fold_0" / "validation"

    def split(self, fold: Fold) -> None:
        write_json(self.workspace.preprocessed("balls") / "splits.json", Splits(folds=(fold,)))

    def train(self, **changed: Any) -> None:
        options: dict[str, Any] = {"epochs": 1, "iterations": 1, "mirroring": False, "plans_name": "unet"} | changed
        train("balls", "3d_fullres", 0, workspace=self.workspace.root, device="cpu", **options)

    def times(self) -> dict[str, int]:
        """When the prediction of each case was written."""
        return {path.name[:6]: path.stat().st_mtime_ns for path in self.folder.glob("*.nii.gz")}

    def predicted_by(self, change: Any) -> set[str]:
        """The cases that are predicted again by a training after ``change``."""
        before = self.times()
        change()
        self.train()
        return {case for case, time in self.times().items() if before.get(case) != time}

    def reference_voxels(self) -> dict[str, float]:
        """By case, of the scores in the model folder, which must be those of the fold."""
        pooled = json.loads((self.model / "crossval_summary.json").read_text())["summary"]
        assert pooled["metric_per_case"] == [
            scores | {"fold": 0} for scores in json.loads((self.folder / "summary.json").read_text())["metric_per_case"]
        ]
        return {scores["case"]: scores["metrics"]["1"]["n_ref"] for scores in pooled["metric_per_case"]}

    def record(self) -> dict[str, Any]:
        content: dict[str, Any] = json.loads((self.folder / "predictions.json").read_text())
        return content


@pytest.fixture(scope="module")
def once(tmp_path_factory):
    return Trained(tmp_path_factory.mktemp("trained"))


@pytest.fixture
def trained(once, tmp_path):
    """A copy of the trained workspace; hard links would share what is written in place."""
    copy = object.__new__(Trained)
    shutil.copytree(once.workspace.root, tmp_path / "copy")
    copy.workspace = type(once.workspace)(tmp_path / "copy")
    copy.model = copy.workspace.model("balls", "unet", "3d_fullres")
    copy.folder = copy.model / "fold_0" / "validation"
    return copy


def test_an_unchanged_validation_is_left_as_it_is(trained):
    before = {path: path.read_bytes() for path in trained.model.rglob("*") if path.is_file()}
    assert trained.predicted_by(lambda: None) == set()
    assert {path: path.read_bytes() for path in trained.model.rglob("*") if path.is_file()} == before
    assert set(trained.record()["cases"]) == {"ball_2", "ball_3"}
    assert trained.record()["pending"] == []


def test_a_corrected_label_is_scored_but_its_image_not_predicted_again(trained):
    image, label = ball(np.random.default_rng(2))
    voxels = trained.reference_voxels()
    larger = label | np.roll(label, 3, axis=2)
    assert trained.predicted_by(lambda: replace_ball(trained.workspace, 2, image, larger)) == set()
    assert trained.reference_voxels() == voxels | {"ball_2": int(larger.sum())}


def test_a_replaced_image_is_predicted_again(trained):
    image, label = ball(np.random.default_rng(2))
    assert trained.predicted_by(lambda: replace_ball(trained.workspace, 2, image + label * 50, label)) == {"ball_2"}


def test_distances_that_a_fold_was_scored_with_are_scored_again(trained):
    evaluate_model(trained.model, distances=True, tolerance=2.0, processes=1)
    trained.predicted_by(lambda: replace_ball(trained.workspace, 3, *ball(np.random.default_rng(50))))
    scores = json.loads((trained.model / "crossval_summary.json").read_text())["summary"]
    assert all("HD95" in case["metrics"]["1"] for case in scores["metric_per_case"])
    assert scores["distances"] == {"unit": "mm", "tolerance": 2.0}


def test_a_fold_that_is_extended_keeps_its_metrics(trained):
    evaluate_model(trained.model, distances=True, tolerance=2.0, processes=1)
    trained.train(epochs=2, continue_training=True)
    assert json.loads((trained.folder / "summary.json").read_text())["distances"] == {"unit": "mm", "tolerance": 2.0}
    assert not (trained.folder / "metrics.json").exists()


def test_other_weights_or_another_mirroring_predict_everything_again(trained):
    path = trained.model / "fold_0" / "checkpoint_final.pt"
    content = torch.load(path)
    name = next(name for name, tensor in content["network"].items() if tensor.is_floating_point())

    def train_otherwise():
        content["network"][name] += 0.5
        torch.save(content, path)

    assert trained.predicted_by(train_otherwise) == {"ball_2", "ball_3"}
    before = trained.times()
    trained.train(mirroring=True)
    assert all(trained.times()[case] > time for case, time in before.items())
    assert trained.record()["settings"]["mirroring"] is True


def test_what_a_killed_run_did_not_record_is_predicted_again(trained):
    def kill():
        record = trained.record()
        del record["cases"]["ball_3"]
        (trained.folder / "predictions.json").write_text(json.dumps(record | {"pending": ["ball_3.nii.gz"]}))
        (trained.folder / "summary.json").unlink()

    assert trained.predicted_by(kill) == {"ball_3"}
    assert set(trained.reference_voxels()) == {"ball_2", "ball_3"}


def test_predictions_that_release_0_1_0_did_not_record_are_kept(trained):
    def forget():
        (trained.folder / "predictions.json").write_text(json.dumps(trained.record() | {"cases": {}}))

    assert trained.predicted_by(forget) == set()


def test_a_fold_with_other_validation_cases_is_validated_on_them(trained, caplog):
    caplog.set_level("INFO")
    trained.split(Fold(train=FOLD.train, validation=("ball_3",)))
    assert trained.predicted_by(lambda: None) == set()
    assert set(trained.times()) == set(trained.reference_voxels()) == {"ball_3"}
    assert set(trained.record()["cases"]) == {"ball_3"}
    assert "the validation cases of fold 0 have changed" in caplog.text
    assert trained.predicted_by(lambda: trained.split(Fold(train=FOLD.train, validation=("ball_2",)))) == {"ball_2"}
    assert set(trained.times()) == set(trained.reference_voxels()) == set(trained.record()["cases"]) == {"ball_2"}
    assert trained.predicted_by(lambda: trained.split(FOLD)) == {"ball_3"}
    assert set(trained.reference_voxels()) == {"ball_2", "ball_3"}
    assert read_json(trained.workspace.preprocessed("balls") / "splits.json", Splits).folds == (FOLD,)


def test_scores_do_not_outlive_their_fold(trained):
    (trained.model / "fold_1").mkdir()
    shutil.copytree(trained.folder, trained.model / "fold_1" / "validation")
    trained.train(overwrite=True)
    folds = json.loads((trained.model / "crossval_summary.json").read_text())["folds"]
    assert [fold["fold"] for fold in folds] == [0, 1]
    shutil.rmtree(trained.model / "fold_1")
    assert trained.predicted_by(lambda: None) == set()
    folds = json.loads((trained.model / "crossval_summary.json").read_text())["folds"]
    assert [fold["fold"] for fold in folds] == [0]
