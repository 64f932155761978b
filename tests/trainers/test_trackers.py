"""TensorBoard, Weights & Biases and MLflow, each by its real library: what a fold leaves there, read back."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.helpers.tiny import raw_balls, workspace_of_balls
from tests.helpers.wandb_file import OfflineRun
from unetrpp.core.errors import UserError
from unetrpp.core.files import read_json_lines
from unetrpp.trainers.folds import train
from unetrpp.trainers.trackers import allowed, require_tracker

# The libraries' own, in versions that a user may have.
pytestmark = pytest.mark.filterwarnings("default")
NAME = "unet__3d_fullres fold_0"


def needs(name: str):
    return pytest.importorskip(name, reason=f'{name} is an extra: pip install "unetrpp[{name}]"')


@pytest.fixture
def home(tmp_path, monkeypatch):
    for name in ("WANDB_MODE", "WANDB_PROJECT", "WANDB_RUN_GROUP", "MLFLOW_TRACKING_URI", "MLFLOW_EXPERIMENT_NAME"):
        monkeypatch.delenv(name, raising=False)
    return raw_balls(workspace_of_balls(tmp_path))


def fold_with(home, tracker: str, **changed) -> Path:
    """Fold 0 of two epochs, which resumes an earlier one."""
    options: dict[str, Any] = {
        "epochs": 2,
        "iterations": 2,
        "plans_name": "unet",
        "device": "cpu",
        "mirroring": False,
    } | changed
    return train("balls", "3d_fullres", 0, workspace=home.root, tracker=tracker, **options).path / "fold_0"


def extended_fold(home, tracker: str) -> Path:
    """Fold 0 trained for two epochs, then for a third by a second call."""
    fold_with(home, tracker)
    return fold_with(home, tracker, epochs=3, iterations=None, continue_training=True)


def expected(fold: Path) -> tuple[dict[int, float], float]:
    """From our own records: the training loss by epoch, and the mean Dice of the validation."""
    curve = {line["epoch"]: line["train_loss"] for line in read_json_lines(fold / "metrics.jsonl")}
    return curve, json.loads((fold / "validation" / "summary.json").read_text())["foreground_mean"]["Dice"]


def test_tensorboard_has_curves_records_scores_and_pictures(home):
    needs("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    fold = extended_fold(home, "tensorboard")
    events = EventAccumulator(str(fold / "tensorboard"), {"tensors": 0, "images": 0}).Reload()
    curve, dice = expected(fold)
    assert {e.step: e.value for e in events.Scalars("train_loss")} == pytest.approx(curve)
    assert {e.step for e in events.Scalars("dice/ball")} == {1, 2, 3}
    assert events.Scalars("validation/Dice")[-1].value == pytest.approx(dice)
    text = events.Tensors("training.json/text_summary")[-1].tensor_proto.string_val[0].decode()
    assert json.loads(text.removeprefix("```json\n").removesuffix("\n```"))["epochs"] == 3
    assert b'"configurations"' in events.Tensors("plans.json/text_summary")[-1].tensor_proto.string_val[0]
    (title,) = events.Tags()["images"]
    assert title.startswith("ball_")
    assert events.Images(title)[-1].width > 100


def test_weights_and_biases_offline_has_one_run_with_everything(home):
    needs("wandb")
    fold = extended_fold(home, "wandb")
    run = OfflineRun(fold / "wandb")
    curve, dice = expected(fold)
    assert len(run.folders) == 2  # one a process, of the same run
    assert (len(run.ids), run.names, run.groups) == (1, {NAME}, {"balls"})
    assert run.curve("train_loss") == pytest.approx(curve)
    assert set(run.curve("dice/ball")) == {1, 2, 3}
    assert run.summary["validation/Dice"] == pytest.approx(dice)
    assert run.config["training"]["epochs"] == 3
    assert list(run.config["plans"]["configurations"]) == ["3d_fullres"]
    pictures = [path for folder in run.folders for path in folder.rglob("*.png")]
    assert pictures
    assert "ball_" in json.dumps([row for row in run.history if "validation.captions" in row])


def test_mlflow_has_one_run_with_everything_in_the_model_folder(home):
    needs("mlflow")
    from mlflow import MlflowClient

    fold = extended_fold(home, "mlflow")
    store = fold.parent / "mlflow"
    client = MlflowClient(f"sqlite:///{store / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("balls")
    (run,) = client.search_runs([experiment.experiment_id])
    curve, dice = expected(fold)
    assert (run.info.run_name, run.info.status) == (NAME, "FINISHED")
    history = client.get_metric_history(run.info.run_id, "train_loss")
    assert {m.step: m.value for m in history} == pytest.approx(curve)
    assert {m.step for m in client.get_metric_history(run.info.run_id, "dice/ball")} == {1, 2, 3}
    assert run.data.metrics["validation/Dice"] == pytest.approx(dice)
    assert run.data.params["optimizer"] == "muon"
    names = {path.name for path in (store / "artifacts").rglob("*") if path.is_file()}
    assert {"training.json", "plans.json"} <= names
    assert [name for name in names if name.startswith("ball_") and name.endswith(".png")]


@pytest.mark.slow
def test_folds_at_the_same_time_share_the_store_of_mlflow(home, caplog):
    needs("mlflow")
    from mlflow import MlflowClient

    options: dict[str, Any] = {
        "epochs": 2,
        "iterations": 2,
        "plans_name": "unet",
        "mirroring": False,
        "devices": "cpu,cpu",
    }
    model = train("balls", "3d_fullres", [0, 1], workspace=home.root, tracker="mlflow", **options)
    client = MlflowClient(f"sqlite:///{model.path / 'mlflow' / 'mlflow.db'}")
    runs = client.search_runs([client.get_experiment_by_name("balls").experiment_id])
    assert {run.info.run_name for run in runs} == {NAME, NAME.replace("fold_0", "fold_1")}
    assert {run.info.status for run in runs} == {"FINISHED"}
    assert "--tracker" not in caplog.text


def test_mlflow_takes_the_store_and_experiment_of_the_environment(home, tmp_path, monkeypatch):
    needs("mlflow")
    from mlflow import MlflowClient

    uri = f"sqlite:///{tmp_path / 'shared.db'}"
    monkeypatch.chdir(tmp_path)  # where MLflow keeps the files of such a store
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "ours")
    fold = fold_with(home, "mlflow")
    assert MlflowClient(uri).get_experiment_by_name("ours") is not None
    assert not (fold.parent / "mlflow").exists()


@pytest.mark.parametrize("name", ["dice/tumour (core)", "Größe", "a-b_c.d e/f:g"])
def test_names_keep_what_mlflow_allows(name):
    valid = needs("mlflow.utils.validation")
    valid._validate_metric_name(allowed(name))
    if name.isascii() and "(" not in name:
        assert allowed(name) == name


@pytest.mark.parametrize("name", ["tensorboard", "wandb", "mlflow"])
def test_a_missing_package_is_named_with_its_extra(name, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(UserError, match=rf'--tracker {name} needs the package {name}; pip install "unetrpp\[{name}\]"'):
        require_tracker(name)
    with pytest.raises(
        UserError, match="tracker 'comet' is not one of mlflow, tensorboard, wandb; install the package"
    ):
        require_tracker("comet")
