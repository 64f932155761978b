"""Both stages of a cascade from stored cases to predictions of new images, on balls of two classes."""

import json
import shutil
from dataclasses import replace
from typing import Any

import msgspec
import numpy as np
import pytest
import torch

from tests.helpers.model import GEOMETRY, fingerprint
from tests.helpers.tiny import PATCH, ball, configuration
from unetrpp.cli.predict import main as predict
from unetrpp.core.errors import UserError
from unetrpp.core.files import read_json, write_json
from unetrpp.core.workspace import Workspace
from unetrpp.dataset.description import DatasetDescription, nnunet_json
from unetrpp.dataset.labels import LabelScheme
from unetrpp.dataset.splits import Splits, make_splits
from unetrpp.export.model_zip import export_model, import_model
from unetrpp.inference.predictor import Predictor
from unetrpp.io.images import Volume, read_image, write_image, write_segmentation
from unetrpp.model.folder import FIRST_STAGE, ModelFolder
from unetrpp.networks.design import unet_architecture
from unetrpp.plans.plans import Plans
from unetrpp.preprocessing.case import preprocess
from unetrpp.preprocessing.grid import CaseGrid
from unetrpp.preprocessing.store import Store
from unetrpp.trainers.cascade import SecondStage, copy_first_stage, held_out_segmentations, prepare_second_stage
from unetrpp.trainers.config import TrainingConfig
from unetrpp.trainers.folds import train
from unetrpp.trainers.log import TrainingLog

LABELS = LabelScheme(names=("background", "left", "right"), values=(0, 3, 7))  # labels need not be consecutive
CASES = tuple(f"ball_{i}" for i in range(4))
LOW, HIGH = "3d_lowres", "3d_cascade"


def stage(spacing: float, channels: int, previous: str | None):
    plan = configuration()
    preprocessing = msgspec.structs.replace(plan.preprocessing, spacing_mm=(1.5, spacing, spacing), labels=LABELS)
    architecture = unet_architecture(channels, 3, PATCH, [(2, 2, 2)], kernels=[(3, 3, 3)] * 2, width=0.25)
    return msgspec.structs.replace(
        plan, preprocessing=preprocessing, architecture=architecture, mirror_axes=(0,), first_stage=previous
    )


PLANS = Plans(
    dataset="balls",
    name="unet",
    planner="unet",
    channel_names=("MRI",),
    labels=LABELS,
    file_ending=".nii.gz",
    configurations={LOW: stage(1.8, 1, None), HIGH: stage(0.9, 3, LOW)},
    decisions=(),
)


def halves(i: int) -> tuple[Volume, Volume]:
    """A ball whose halves along x are two classes, on a rotated grid."""
    image, label = ball(np.random.default_rng(i))
    label = np.where(label > 0, np.where(np.arange(label.shape[2]) < 12, 3, 7), 0).astype(np.uint8)
    return Volume(image, GEOMETRY), Volume(label[None], GEOMETRY)


def make_workspace(folder) -> Workspace:
    workspace = Workspace(folder)
    home = workspace.preprocessed("balls")
    description = DatasetDescription(name="balls", channel_names=("MRI",), labels=LABELS, file_ending=".nii.gz")
    write_json(home / "unet.json", PLANS)
    write_json(home / "splits.json", make_splits(CASES))
    write_json(home / "dataset.json", nnunet_json(description, 4))
    write_json(home / "fingerprint.json", fingerprint())
    for i, case in enumerate(CASES):
        image, label = halves(i)
        write_segmentation(home / "labels" / f"{case}.nii.gz", label.array[0], GEOMETRY)
        for name, planned in PLANS.configurations.items():
            plan = planned.preprocessing
            store = Store(workspace.store("balls", "unet", name))
            store.write(preprocess(image, label, plan, case), plan.digest(), "none", plan.chunk)
    return workspace


def train_stage(workspace: Workspace, name: str, fold: str | None = None, **changed):
    options: dict[str, Any] = {
        "epochs": 2,
        "iterations": 4,
        "plans_name": "unet",
        "device": "cpu",
        "mirroring": False,
    } | changed
    return train("balls", name, fold, workspace=workspace.root, **options)


@pytest.fixture(scope="module", autouse=True)
def no_pictures():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(TrainingLog, "draw", lambda self: None)
        yield


@pytest.fixture(scope="module")
def first_stage(tmp_path_factory):
    """A workspace whose first stage is finished: four folds that each held one ball out."""
    workspace = make_workspace(tmp_path_factory.mktemp("cascade"))
    train_stage(workspace, LOW, epochs=1, iterations=24)
    return workspace


@pytest.fixture
def workspace(first_stage, tmp_path):
    return Workspace(shutil.copytree(first_stage.root, tmp_path / "copy", copy_function=shutil.copy2))


@pytest.fixture(scope="module")
def trained(first_stage, tmp_path_factory):
    """Both stages; all folds of the second."""
    root = shutil.copytree(first_stage.root, tmp_path_factory.mktemp("both") / "copy", copy_function=shutil.copy2)
    train_stage(Workspace(root), HIGH)
    return Workspace(root)


def test_one_command_predicts_with_both_stages(trained, tmp_path):
    model = trained.model("balls", "unet", HIGH)
    result = json.loads((model / "crossval_summary.json").read_text())
    assert len(result["summary"]["metric_per_case"]) == 4
    for i in range(2):
        write_image(tmp_path / "in" / f"new_{i}_0000.nii.gz", halves(50 + i)[0])
    moved = shutil.copytree(model, tmp_path / "elsewhere")  # without the first stage's own folder
    arguments = ["-i", str(tmp_path / "in"), "-o", str(tmp_path / "out"), "-m", str(moved), "--device", "cpu"]
    assert predict([*arguments, "--no-mirroring"]) == 0
    for i in range(2):
        written = read_image(tmp_path / "out" / f"new_{i}.nii.gz")
        whole = Predictor(moved, mirroring=False, device="cpu")(tmp_path / "in" / f"new_{i}_0000.nii.gz")
        np.testing.assert_array_equal(written.array[0], whole.array)
        assert set(np.unique(whole.array)) <= {0, 3, 7}


def test_the_second_stage_takes_the_segmentation_of_the_first(trained, monkeypatch):
    """Against a network input made here: the image, then the first stage's segmentation as one-hot channels."""
    model, image = trained.model("balls", "unet", HIGH), halves(60)[0]
    predictor = Predictor(model, folds=0, mirroring=False, device="cpu")
    found = next(iter(predictor.logits(predictor.prepare(image, "new"))))[0]

    first = Predictor(trained.model("balls", "unet", LOW), folds=0, mirroring=False, device="cpu")(image)
    plan = PLANS.configuration(HIGH).preprocessing
    prepared = preprocess(image, None, plan, "new")
    answer = preprocess(image, Volume(first.array[None], GEOMETRY), plan, "new").label
    channels = np.concatenate([prepared.image, np.stack([answer == 1, answer == 2]).astype(np.float32)])

    expanded = Predictor(model, folds=0, mirroring=False, device="cpu")
    expanded.window = replace(expanded.window, first_stage_classes=0)
    monkeypatch.setattr(expanded, "network_input", lambda *_: channels)
    expected = next(iter(expanded.logits(prepared)))[0]
    assert answer is not None
    assert answer.any()
    torch.testing.assert_close(found, expected)


def test_no_segmentation_comes_from_a_model_that_was_trained_on_the_case(trained):
    low, store = trained.model("balls", "unet", LOW), Store(trained.store("balls", "unet", HIGH))
    splits = read_json(trained.preprocessed("balls") / "splits.json", Splits)
    plan = PLANS.configuration(HIGH).preprocessing
    for k, fold in enumerate(splits.folds):
        (case,) = fold.validation
        stored = store.open(case)
        held_out = Predictor(low, folds=k, mirroring=False, device="cpu")(halves(int(case[-1]))[0])
        expected = CaseGrid(stored.properties, plan).to_network(held_out.array)
        np.testing.assert_array_equal(stored.read_first_stage((0, 0, 0), stored.shape), expected)


def test_a_fold_of_the_second_stage_uses_the_same_fold_of_the_first(trained):
    model = ModelFolder.open(trained.model("balls", "unet", HIGH))
    assert model.first_stage is not None
    assert model.first_stage.source_folds(["2"]) == ["2"]
    assert model.first_stage.source_folds(["all"]) == ["0", "1", "2", "3"]
    before = model.digest(["0"])
    checkpoint = model.path / FIRST_STAGE / "fold_0" / "checkpoint_final.pt"
    kept = checkpoint.read_bytes()
    other = (model.path / FIRST_STAGE / "fold_1" / "checkpoint_final.pt").read_bytes()
    try:
        checkpoint.unlink()
        checkpoint.write_bytes(other)
        assert model.digest(["0"]) != before
    finally:
        checkpoint.write_bytes(kept)


def test_an_exported_cascade_predicts(trained, tmp_path):
    model, image = trained.model("balls", "unet", HIGH), halves(70)[0]
    export_model(model, tmp_path / "cascade.zip", folds=["0", "2"])
    copy = import_model(tmp_path / "cascade.zip", workspace=tmp_path)
    first = ModelFolder.open(copy).first_stage
    assert first is not None
    assert first.folds() == ["0", "2"]
    counts: list[tuple[int, int]] = []
    predictor = Predictor(model, folds=[0, 2], mirroring=False, device="cpu")
    ours = predictor(image, on_progress=lambda *count: counts.append(count))
    assert [done == total for done, total in counts].count(True) == 2  # each stage counts its own passes
    np.testing.assert_array_equal(Predictor(copy, mirroring=False, device="cpu")(image).array, ours.array)


def test_the_fold_all_learns_from_held_out_segmentations_too(workspace):
    train_stage(workspace, HIGH, "all", mirroring=True)
    predictor = Predictor(workspace.model("balls", "unet", HIGH), mirroring=False, device="cpu")
    assert predictor.folds == ["all"]
    assert predictor.first_stage is not None
    assert predictor.first_stage.folds == ["0", "1", "2", "3"]


def test_an_unfinished_first_stage_is_named_with_its_command(workspace):
    low = workspace.model("balls", "unet", LOW)
    (low / "fold_2" / "validation" / "summary.json").unlink()
    with pytest.raises(
        UserError, match=r"fold 2 of 3d_lowres is not finished; run unetrpp_train balls 3d_lowres -p unet"
    ):
        train_stage(workspace, HIGH, "0")
    assert not workspace.model("balls", "unet", HIGH).exists()
    train_stage(workspace, LOW, epochs=None, iterations=None)
    train_stage(workspace, HIGH, "0")


def test_other_folds_than_the_first_stages_are_refused(workspace):
    path = workspace.preprocessed("balls") / "splits.json"
    splits = read_json(path, Splits)
    write_json(path, msgspec.structs.replace(splits, folds=splits.folds[1:] + splits.folds[:1]))
    with pytest.raises(UserError, match=r"fold 0 of .*3d_lowres was trained on other cases"):
        train_stage(workspace, HIGH, "0")


def test_segmentations_of_earlier_images_are_not_trained_on(workspace):
    image, label = halves(2)
    brighter = Volume(image.array + 50 * (label.array > 0), GEOMETRY)
    for name, planned in PLANS.configurations.items():
        plan, store = planned.preprocessing, Store(workspace.store("balls", "unet", name))
        store.write(preprocess(brighter, label, plan, "ball_2"), plan.digest(), "none", plan.chunk)
    with pytest.raises(UserError, match=r"images of 1 case \(ball_2\) have changed since 3d_lowres segmented them"):
        train_stage(workspace, HIGH, "0")
    train_stage(workspace, LOW, epochs=None, iterations=None)  # finished; only validates the changed case
    train_stage(workspace, HIGH, "0", epochs=1, iterations=1)


def test_a_case_that_no_fold_held_out_is_named(first_stage):
    splits = read_json(first_stage.preprocessed("balls") / "splits.json", Splits)
    low = first_stage.model("balls", "unet", LOW)
    second = SecondStage(low, Store(first_stage.store("balls", "unet", HIGH)), PLANS, HIGH)
    found = held_out_segmentations(second, low, splits)
    assert {case: path.parent.parent.name for case, path in found.items()} == {
        case: f"fold_{k}" for k, fold in enumerate(splits.folds) for case in fold.validation
    }
    with pytest.raises(UserError, match=r"stranger: no fold of splits\.json holds this case out"):
        prepare_second_stage(second, low, splits, [*CASES, "stranger"], started=False)


@pytest.mark.parametrize("links", [True, False])
def test_the_first_stage_is_copied_as_links_or_files(first_stage, tmp_path, monkeypatch, links):
    def refuse(*_):
        raise OSError("this file system has no hard links")

    if not links:
        monkeypatch.setattr("os.link", refuse)
    low = first_stage.model("balls", "unet", LOW)
    copy_first_stage(low, tmp_path, 4, started=False)
    first = ModelFolder.open(tmp_path / FIRST_STAGE)
    assert first.digest(["0", "1", "2", "3"]) == ModelFolder.open(low).digest(["0", "1", "2", "3"])
    assert not list((tmp_path / FIRST_STAGE).rglob("*latest*"))
    assert first.checkpoint("1").samefile(low / "fold_1" / "checkpoint_final.pt") == links
    copy_first_stage(low, tmp_path, 4, started=True)


def test_a_second_stage_without_its_first_is_refused(trained, tmp_path):
    alone = shutil.copytree(trained.model("balls", "unet", HIGH), tmp_path / "alone")
    shutil.rmtree(alone / FIRST_STAGE)
    with pytest.raises(UserError, match="second stage without previous_stage/; copy the whole model folder"):
        Predictor(alone, device="cpu")


def test_another_first_stage_means_training_again(workspace):
    train_stage(workspace, HIGH, "0")
    store = Store(workspace.store("balls", "unet", HIGH))
    path = store.folder / "previous" / "ball_1.b2nd"
    before, stamp = path.read_bytes(), path.stat().st_mtime_ns
    train_stage(workspace, HIGH, "1")  # the same first stage: nothing is resampled again
    assert path.stat().st_mtime_ns == stamp
    train_stage(workspace, LOW, overwrite=True, seed=3)
    with pytest.raises(UserError, match="train all of them again with --overwrite"):
        train_stage(workspace, HIGH, "1")
    with pytest.raises(UserError, match="--overwrite"):  # fold 1 is left
        train_stage(workspace, HIGH, "0", overwrite=True)
    train_stage(workspace, HIGH, "0-1", overwrite=True)
    assert path.read_bytes() != before


@pytest.mark.parametrize("augmentation", ["device", "workers"])
def test_an_interrupted_second_stage_ends_where_an_uninterrupted_one_does(
    trained, workspace, monkeypatch, augmentation
):
    from unetrpp.trainers.trainer import Trainer

    step = Trainer.step

    def interrupted(self, samples):
        if self.state.step == 5:
            self.save("latest")
            raise KeyboardInterrupt
        return step(self, samples)

    model = workspace.model("balls", "unet", HIGH)
    monkeypatch.setattr(Trainer, "step", interrupted)
    with pytest.raises(KeyboardInterrupt):
        train_stage(workspace, HIGH, "0", augmentation=augmentation)
    monkeypatch.undo()
    train_stage(workspace, HIGH, "0", augmentation=augmentation)
    cut = torch.load(model / "fold_0" / "checkpoint_final.pt", weights_only=True)["network"]
    if augmentation == "device":
        whole = trained.model("balls", "unet", HIGH)
    else:
        shutil.rmtree(model / "fold_0")
        train_stage(workspace, HIGH, "0", augmentation=augmentation)
        whole = model
    expected = torch.load(whole / "fold_0" / "checkpoint_final.pt", weights_only=True)["network"]
    assert all(torch.equal(cut[name], expected[name]) for name in expected)
    assert read_json(model / "fold_0" / "training.json", TrainingConfig).steps == 8


def test_one_case_has_no_cascade(first_stage):
    low = first_stage.model("balls", "unet", LOW)
    second = SecondStage(low, Store(first_stage.store("balls", "unet", HIGH)), PLANS, HIGH)
    with pytest.raises(UserError, match="held-out cases, which one case has none of; train 3d_fullres"):
        prepare_second_stage(second, low, Splits(folds=()), ["ball_0"], started=False)
