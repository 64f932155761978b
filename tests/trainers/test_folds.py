"""A whole `unetrpp_train` on stored balls: all folds, then resumed, extended and refused."""

import inspect
import json
import os
import shutil
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
import torch

from tests.helpers.model import fingerprint, make_model
from tests.helpers.tiny import PATCH, ball, configuration, replace_ball, workspace_of_balls
from unetrpp.core.errors import UserError
from unetrpp.core.files import read_json, read_json_lines, write_json
from unetrpp.core.lock import locked
from unetrpp.dataset.splits import Splits
from unetrpp.networks.build import NETWORKS
from unetrpp.networks.design import unet_architecture
from unetrpp.networks.unet import UNet
from unetrpp.plans.architecture import Architecture
from unetrpp.plans.plans import Plans
from unetrpp.trainers.config import TrainingConfig
from unetrpp.trainers.fold_process import process_lock
from unetrpp.trainers.folds import train
from unetrpp.trainers.train import build_parser, main
from unetrpp.trainers.trainer import Trainer


@pytest.fixture
def workspace(tmp_path):
    return workspace_of_balls(tmp_path)


def train_balls(workspace, fold=None, **changed):
    options: dict[str, Any] = {"epochs": 2, "iterations": 4, "plans_name": "unet", "device": "cpu"} | changed
    return train("balls", "3d_fullres", fold, workspace=workspace.root, **options)


def test_every_fold_is_trained_validated_and_summarised(workspace):
    model = workspace.model("balls", "unet", "3d_fullres")
    trained = train_balls(workspace)
    assert (trained.path, trained.folds()) == (model, ["0", "1", "2", "3"])
    result = json.loads((model / "crossval_summary.json").read_text())
    assert [fold["cases"] for fold in result["folds"]] == [1, 1, 1, 1]
    assert len(result["summary"]["metric_per_case"]) == 4
    for k in range(4):
        assert len(list((model / f"fold_{k}" / "validation").glob("*.nii.gz"))) == 1
        assert read_json(model / f"fold_{k}" / "training.json", TrainingConfig).steps == 8
    before = {p: p.stat().st_mtime_ns for p in model.rglob("*.pt")}
    train_balls(workspace)
    assert before == {p: p.stat().st_mtime_ns for p in model.rglob("*.pt")}


def test_extending_and_overwriting(workspace):
    train_balls(workspace, "0")
    fold = workspace.model("balls", "unet", "3d_fullres") / "fold_0"
    with pytest.raises(UserError, match="--continue"):
        train_balls(workspace, "0", epochs=3)
    train_balls(workspace, "0", epochs=3, iterations=None, continue_training=True)
    assert [json.loads(line)["epoch"] for line in (fold / "metrics.jsonl").read_text().splitlines()] == [1, 2, 3]
    train_balls(workspace, "0", epochs=1, overwrite=True)
    assert len((fold / "metrics.jsonl").read_text().splitlines()) == 1


def test_a_fold_is_trained_by_one_process_at_a_time(workspace):
    train_balls(workspace, "0", epochs=1)
    model = workspace.model("balls", "unet", "3d_fullres")
    before = tree(model)
    with locked(model / ".fold_0.lock", "fold 0 is being trained", "wait"):
        for options in ({"fold": "0", "epochs": 1}, {"fold": "0", "overwrite": True}, {"fold": "0-1", "epochs": 1}):
            with pytest.raises(
                UserError, match=rf"fold 0 is being trained by process {os.getpid()} on .*; wait for it"
            ):
                train_balls(workspace, **options)
            assert tree(model) == before
        train_balls(workspace, "1", epochs=1)
    train_balls(workspace, "0", epochs=1)
    assert not list(model.glob(".fold*"))


def tree(folder):
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file() and path.suffix != ".lock"}


def test_too_little_memory_is_reported_in_one_sentence(workspace, monkeypatch):
    def starved(trainer, samples):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")

    monkeypatch.setattr(Trainer, "step", starved)
    with pytest.raises(
        UserError, match="fold 0: a batch of 2 patches of 8 x 16 x 16 needs more memory than cpu has left"
    ):
        train_balls(workspace, "0")


def test_all_cases_make_one_model_without_validation(workspace, caplog):
    caplog.set_level("INFO", "unetrpp")
    train_balls(workspace, "all")
    fold = workspace.model("balls", "unet", "3d_fullres") / "fold_all"
    assert (fold / "checkpoint_final.pt").exists()
    assert not (fold / "validation").exists()
    for line in read_json_lines(fold / "metrics.jsonl"):
        assert (line["validation_loss"], line["dice"], line["mean_dice"]) == (None, [None], None)
        assert line["train_loss"] > 0
    assert "training cases and no validation case" in caplog.text
    assert not [text for text in caplog.messages if "epoch" in text and ("Dice" in text or "validation" in text)]


def test_what_is_not_preprocessed_or_planned_is_refused(workspace):
    (workspace.store("balls", "unet", "3d_fullres") / "ball_2.json").unlink()
    with pytest.raises(UserError, match=r"1 of 4 cases is not preprocessed \(ball_2\)"):
        train_balls(workspace)
    with pytest.raises(UserError, match="the plans there are called unet"):
        train_balls(workspace, plans_name="other")


def test_other_plans_do_not_mix_with_trained_folds(workspace):
    train_balls(workspace, "0")
    path = workspace.plans("balls", "unet")
    plans = read_json(path, Plans)
    more = plans.configurations | {"2d": plans.configurations["3d_fullres"]}
    write_json(path, msgspec.structs.replace(plans, configurations=more))
    train_balls(workspace, "1")  # other configurations of the plans do not matter here
    changed = msgspec.structs.replace(plans.configurations["3d_fullres"], batch_size=3)
    write_json(path, msgspec.structs.replace(plans, configurations={"3d_fullres": changed}))
    with pytest.raises(UserError, match="was trained with another 3d_fullres"):
        train_balls(workspace, "2")


@pytest.mark.parametrize(("matrix_units", "precision"), [(True, "bf16"), (False, "fp32")])
def test_the_precision_follows_the_processor(workspace, monkeypatch, matrix_units, precision):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"amx_bf16": matrix_units}, raising=False)
    command = ["balls", "3d_fullres", "1", "-p", "unet", "--workspace", str(workspace.root), "--device", "cpu"]
    assert main([*command, "--epochs=1", "--iterations=1", "--no-mirroring", "--overwrite"]) == 0
    record = read_json(workspace.model("balls", "unet", "3d_fullres") / "fold_1" / "training.json", TrainingConfig)
    assert record.precision == precision


def test_the_command_trains_and_records_the_given_options(workspace, capsys):
    command = ["balls", "3d_fullres", "0", "-p", "unet", "--workspace", str(workspace.root), "--device", "cpu"]
    options = [
        "--epochs=1",
        "--iterations=2",
        "--lr=0.004",
        "--warmup=1",
        "--weight-decay=0.02",
        "--drop-path=0",
        "--ema=0.9",
        "--seed=7",
        "--precision=fp32",
        "--patience=3",
        "--max-hours=1",
        "--no-mirroring",
    ]
    assert main([*command, *options]) == 0
    following = capsys.readouterr().out.splitlines()[-1]
    assert following == (
        "next: unetrpp_train balls 3d_fullres -p unet --epochs 1 --iterations 2 --lr 0.004 --warmup 1 --weight-decay 0.02 "
        "--drop-path 0.0 --ema 0.9 --seed 7 --precision fp32 --max-hours 1.0 --patience 3 --device cpu --no-mirroring "
        f"--workspace {workspace.root}"
    )
    assert build_parser().parse_args(following.split()[2:]).fold is None  # so the other folds
    record = read_json(workspace.model("balls", "unet", "3d_fullres") / "fold_0" / "training.json", TrainingConfig)
    assert (record.epochs, record.iterations, record.learning_rate, record.seed) == (1, 2, 0.004, 7)
    assert (record.patience, record.max_hours, record.precision) == (3, 1.0, "fp32")
    assert (record.warmup, record.weight_decay, record.drop_path, record.ema) == (1, 0.02, 0.0, 0.9)
    assert main([*command, "--epochs=9"]) == 2
    assert main(["ball", *command[1:]]) == 2


def test_the_call_from_python_has_the_options_of_the_command_and_their_defaults(workspace):
    parser, parameters = build_parser(), inspect.signature(train).parameters
    options = vars(parser.parse_args(["balls", "3d_fullres"]))
    del options["debug"], options["json"]
    required = {"dataset", "configuration"}
    assert set(options) == set(parameters)
    assert {name: value for name, value in options.items() if name not in required} == {
        name: parameter.default for name, parameter in parameters.items() if name not in required
    }
    flags = {flag.removeprefix("--").replace("-", "_") for action in parser._actions for flag in action.option_strings}
    assert set(options) - flags == {"dataset", "configuration", "fold", "mirroring", "continue_training"}
    with pytest.raises(UserError, match="give only one of them"):
        train_balls(workspace, continue_training=True, overwrite=True)


@pytest.mark.parametrize("option", [{"epochs": 0}, {"lr": -1.0}, {"optimizer": "adam"}, {"seed": -1}, {"ema": 1.0}])
def test_impossible_options_from_python_are_refused(workspace, option):
    with pytest.raises(UserError, match="impossible training option"):
        train_balls(workspace, "0", **option)
    assert not (workspace.model("balls", "unet", "3d_fullres") / "fold_0").exists()


def test_edited_splits_are_not_mixed_into_a_started_fold(workspace):
    train_balls(workspace, "0")
    path = workspace.preprocessed("balls") / "splits.json"
    splits = read_json(path, Splits)
    write_json(path, msgspec.structs.replace(splits, folds=splits.folds[1:] + splits.folds[:1]))
    with pytest.raises(UserError, match=r"the cases of fold 0 in splits\.json are not those"):
        train_balls(workspace, "0")


def test_a_fold_that_was_never_started_cannot_be_extended(workspace):
    with pytest.raises(UserError, match="never started"):
        train_balls(workspace, "0", continue_training=True)


def test_limits_are_those_of_the_command_that_extends(workspace):
    train_balls(workspace, "0", patience=1)
    train_balls(workspace, "0", epochs=3, iterations=None, continue_training=True)
    folder = workspace.model("balls", "unet", "3d_fullres") / "fold_0"
    assert read_json(folder / "training.json", TrainingConfig).patience is None


@pytest.mark.parametrize("flag", ["--lr=0", "--lr=-1", "--seed=-1", "--max-hours=0", "--epochs=0"])
def test_impossible_numbers_are_usage_errors(workspace, flag):
    with pytest.raises(SystemExit) as stop:
        main(["balls", "3d_fullres", "--workspace", str(workspace.root), flag])
    assert stop.value.code == 2


def test_a_validation_has_one_mirroring(workspace):
    train_balls(workspace, "0", mirroring=False)
    folder = workspace.model("balls", "unet", "3d_fullres") / "fold_0" / "validation"
    (prediction,) = folder.glob("*.nii.gz")
    (folder / "summary.json").unlink()  # as if it had been interrupted
    stamp = prediction.stat().st_mtime_ns
    train_balls(workspace, "0", mirroring=False)
    assert (folder / "summary.json").exists()
    assert prediction.stat().st_mtime_ns == stamp
    train_balls(workspace, "0")
    assert prediction.stat().st_mtime_ns > stamp
    assert json.loads((folder / "predictions.json").read_text())["settings"]["mirroring"] is True


def test_each_fold_may_learn_attention_or_not(workspace):
    command = ["balls", "3d_fullres", "0", "-p", "unet", "--workspace", str(workspace.root), "--device", "cpu"]
    short = ["--epochs=2", "--iterations=2", "--no-mirroring"]
    assert main([*command, *short, "--learn-attention"]) == 0
    fold = workspace.model("balls", "unet", "3d_fullres") / "fold_0"
    assert read_json(fold / "training.json", TrainingConfig).learn_attention
    own = read_json(fold / "architecture.json", Architecture)
    judgement = json.loads((fold / "metrics.jsonl").read_text().splitlines()[0])["judgement"]
    assert own.focal_gammas() == {v["module"]: v["gamma"] for v in judgement if v["kept"]}
    assert (fold / "validation" / "summary.json").exists()
    assert main([*command, "--learn-attention"]) == 0  # finished
    assert main([*command, *short]) == 0
    assert main([*command[:2], "1", *command[3:], *short]) == 0  # another fold without it
    assert main([*command[:2], "1", *command[3:], "--learn-attention"]) == 2
    assert main([*command[:2], "2", *command[3:], "--epochs=1", "--iterations=2", "--learn-attention"]) == 2


def test_a_fold_starts_from_another_training_and_records_it(workspace):
    write_json(workspace.preprocessed("balls") / "fingerprint.json", fingerprint())
    train_balls(workspace, "0")
    model = workspace.model("balls", "unet", "3d_fullres")
    options = ["-p", "unet", "--workspace", str(workspace.root), "--device", "cpu"]
    short = ["--epochs=1", "--iterations=1", "--lr=1e-9", "--optimizer=sgd"]
    start = ["balls", "3d_fullres", "1", *options, *short, "--overwrite", "--pretrained"]
    assert main([*start, str(model)]) == 2  # fold 0 was trained on the cases that fold 1 is validated on
    other = Path(shutil.copytree(model, workspace.root / "elsewhere" / model.name))
    foreign = (other / "fingerprint.json").read_text().replace('"inputs_digest": "none"', '"inputs_digest": "foreign"')
    (other / "fingerprint.json").write_text(foreign)
    assert main([*start, str(other)]) == 0
    record = read_json(model / "fold_1" / "training.json", TrainingConfig)
    assert record.pretrained == str(other / "fold_0" / "checkpoint_final.pt")
    assert json.loads((model / "fold_1" / "pretrained.json").read_text())["share"] == 1
    first, second = (torch.load(model / f"fold_{k}" / "checkpoint_final.pt")["network"] for k in (0, 1))
    for name, tensor in first.items():
        torch.testing.assert_close(second[name], tensor, rtol=0, atol=1e-6)
    assert main(["balls", "3d_fullres", "1", *options]) == 0  # finished: the option need not be repeated
    assert main(["balls", "3d_fullres", "0", *options, "--pretrained", str(model)]) == 2  # was started without


def test_each_fold_starts_from_the_same_fold_of_a_model_of_the_same_splits(workspace):
    write_json(workspace.preprocessed("balls") / "fingerprint.json", fingerprint())
    train_balls(workspace, "0-1", epochs=1, iterations=1)
    model = workspace.model("balls", "unet", "3d_fullres")
    other = Path(shutil.copytree(model, workspace.root / "elsewhere" / model.name))
    before = {path: path.stat().st_mtime_ns for path in model.rglob("*")}
    for pretrained in (other, model):  # was trained on fold 2's cases; would be deleted
        fold = "0-2" if pretrained == other else "0-1"
        with pytest.raises(UserError):
            train_balls(workspace, fold, epochs=1, iterations=1, pretrained=pretrained, overwrite=True)
    assert before == {path: path.stat().st_mtime_ns for path in model.rglob("*")}
    train_balls(workspace, "0-1", epochs=1, iterations=1, pretrained=other, overwrite=True)
    for k in (0, 1):
        record = read_json(model / f"fold_{k}" / "training.json", TrainingConfig)
        assert record.pretrained == str(other / f"fold_{k}" / "checkpoint_final.pt")
    train_balls(workspace, "0-1", epochs=1, iterations=1, pretrained=other)  # finished


def contents(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def test_a_refused_option_deletes_nothing(workspace):
    train_balls(workspace, "0-1")
    model = workspace.model("balls", "unet", "3d_fullres")
    before = contents(model)
    for option in ({"lr": -1.0}, {"epochs": 1, "learn_attention": True}):
        with pytest.raises(UserError):
            train_balls(workspace, "0-1", **option, overwrite=True)
    assert contents(model) == before


def refused_by_the_network(workspace, option, monkeypatch) -> dict[str, Any]:
    """The option, where the plans' network is a plain U-Net of eight channels."""
    if option == "pretrained":
        wide = unet_architecture(1, 2, PATCH, [(2, 2, 2)], kernels=[(3, 3, 3)] * 2, width=0.5)
        folder = workspace.root / "elsewhere"
        model = make_model(folder, 1, msgspec.structs.replace(configuration(), architecture=wide))
        write_json(workspace.preprocessed("balls") / "fingerprint.json", fingerprint())
        foreign = (
            (model / "fingerprint.json").read_text().replace('"inputs_digest": "none"', '"inputs_digest": "foreign"')
        )
        (model / "fingerprint.json").write_text(foreign)
        return {"pretrained": model}
    if option == "drop_path":
        return {"drop_path": 0.1}
    plans = read_json(workspace.plans("balls", "unet"), Plans)
    plan = plans.configurations["3d_fullres"]
    plan = msgspec.structs.replace(plan, architecture=msgspec.structs.replace(plan.architecture, network="ungated"))
    write_json(workspace.plans("balls", "unet"), msgspec.structs.replace(plans, configurations={"3d_fullres": plan}))
    monkeypatch.setitem(NETWORKS, "ungated", lambda architecture: UNet(architecture.with_focal({})))
    return {"learn_attention": True}


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("drop_path", "no residual branches to drop; leave out --drop-path"),
        ("learn_attention", "network 'ungated' does not hold the 3 focal modules"),
        ("pretrained", "none of its weights fits the network to be trained"),
    ],
)
def test_an_option_that_the_network_refuses_is_not_recorded(workspace, monkeypatch, option, message):
    given = refused_by_the_network(workspace, option, monkeypatch)
    model = workspace.model("balls", "unet", "3d_fullres")
    for fold in ("0", "0-1"):
        with pytest.raises(UserError, match=message):
            train_balls(workspace, fold, iterations=1, **given)
    assert not list(model.glob("fold*"))
    train_balls(workspace, "0", iterations=1)  # as the message says
    before = contents(model)
    with pytest.raises(UserError, match=message):
        train_balls(workspace, "0", iterations=1, **given, overwrite=True)
    assert contents(model) == before


def test_a_fold_is_not_extended_without_what_it_goes_on_from(workspace):
    train_balls(workspace, "0")
    fold = workspace.model("balls", "unet", "3d_fullres") / "fold_0"
    (fold / "checkpoint_latest.pt").write_bytes(b"not a checkpoint")
    before = contents(fold)
    with pytest.raises(UserError, match=r"checkpoint_latest\.pt cannot be read"):
        train_balls(workspace, "0", epochs=3, continue_training=True)
    assert contents(fold) == before


def test_folds_that_are_trained_again_leave_no_scores_meanwhile(workspace, monkeypatch):
    train_balls(workspace, "0-1")
    model = workspace.model("balls", "unet", "3d_fullres")

    def interrupted(trainer):
        raise KeyboardInterrupt

    monkeypatch.setattr(Trainer, "run", interrupted)
    with pytest.raises(KeyboardInterrupt):
        train_balls(workspace, "1", overwrite=True)
    assert [fold["fold"] for fold in json.loads((model / "crossval_summary.json").read_text())["folds"]] == [0]
    with pytest.raises(KeyboardInterrupt):
        train_balls(
            workspace, "0-1", overwrite=True, device="auto", devices=["cpu"]
        )  # one after the other, in this process
    assert not list(model.glob("crossval_summary.*"))
    assert not list(model.rglob("checkpoint_*"))


def test_a_fold_that_was_trained_on_other_files_is_named(workspace, caplog):
    train_balls(workspace, "0-1", epochs=1, iterations=1)
    held_out = read_json(workspace.preprocessed("balls") / "splits.json", Splits).folds[0].validation[0]
    image, label = ball(np.random.default_rng(int(held_out[-1])))
    train_balls(workspace, "0-1", epochs=1, iterations=1)
    assert "warning" not in caplog.text
    replace_ball(workspace, int(held_out[-1]), image, label | np.roll(label, 3, axis=2))
    for _ in range(2):  # as long as it has not been trained again
        caplog.clear()
        train_balls(workspace, "0-1", epochs=1, iterations=1)
        (warning,) = [message for message in caplog.messages if "warning" in message]
        assert "since fold 1 was trained, the files or the preprocessing of" in warning
        assert f"1 of 3 cases have changed ({held_out})" in warning
        again = "unetrpp_train balls 3d_fullres 1 -p unet --epochs 1 --iterations 1 --overwrite"
        assert warning.endswith(f"{again} --workspace {workspace.root}")
    caplog.clear()
    (workspace.model("balls", "unet", "3d_fullres") / "fold_1" / "checkpoint_final.pt").unlink()
    train_balls(workspace, "1", epochs=1, iterations=1)
    assert "since fold 1 was started, the files" in caplog.text
    caplog.clear()
    train_balls(workspace, "1", epochs=1, iterations=1, overwrite=True)
    assert "warning" not in caplog.text


def edit_description(workspace, **changes):
    path = workspace.preprocessed("balls") / "dataset.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"labels": {"background": 0, "cube": 1}}, "labels"),
        ({"channel_names": {"0": "MRI", "1": "T2"}}, "channels"),
        ({"file_ending": ".nrrd"}, "file ending"),
    ],
)
def test_plans_of_another_dataset_json_are_not_trained(workspace, changes, words):
    train_balls(workspace, "0", epochs=1, iterations=1)
    model = workspace.model("balls", "unet", "3d_fullres")
    before = contents(model)
    edit_description(workspace, **changes)
    for fold in ("0", "1"):
        with pytest.raises(UserError, match=f"was made for other {words} than dataset.json beside it has now"):
            train_balls(workspace, fold)
    assert contents(model) == before


def test_a_model_keeps_the_records_that_its_folds_were_trained_with(workspace):
    train_balls(workspace, "0", epochs=1, iterations=1)
    model = workspace.model("balls", "unet", "3d_fullres")
    shared = ["dataset.json", "fingerprint.json", "plans.json"]
    before = [(model / name).read_bytes() for name in shared]
    edit_description(workspace, numTraining=5)
    write_json(workspace.preprocessed("balls") / "fingerprint.json", fingerprint())
    train_balls(workspace, "1", epochs=1, iterations=1)
    assert [(model / name).read_bytes() for name in shared] == before
    (model / "fingerprint.json").unlink()
    description = json.loads((model / "dataset.json").read_text())
    (model / "dataset.json").write_text(json.dumps(description | {"labels": {"background": 0, "cube": 1}}))
    train_balls(workspace, "1", epochs=1, iterations=1)  # what a release left that replaced dataset.json
    assert json.loads((model / "dataset.json").read_text())["labels"] == {"background": 0, "ball": 1}
    assert (model / "fingerprint.json").exists()
    train_balls(workspace, "0-1", epochs=1, iterations=1, overwrite=True)
    assert json.loads((model / "dataset.json").read_text())["numTraining"] == 5


def test_folds_that_splits_no_longer_have_are_named(workspace, caplog):
    train_balls(workspace, "0-1", epochs=1, iterations=1)
    assert "which splits.json no longer has" not in caplog.text
    path = workspace.preprocessed("balls") / "splits.json"
    splits = read_json(path, Splits)
    write_json(path, msgspec.structs.replace(splits, folds=splits.folds[:1]))
    train_balls(workspace, "0", epochs=1, iterations=1)
    assert "has fold_1, which splits.json no longer has" in caplog.text


def test_cases_of_another_preprocessing_or_of_other_files_are_not_trained_on(workspace):
    path = workspace.plans("balls", "unet")
    plans = read_json(path, Plans)
    write_json(workspace.preprocessed("balls") / "fingerprint.json", fingerprint())
    image, label = ball(np.random.default_rng(0))
    replace_ball(workspace, 0, image, label)
    with pytest.raises(UserError, match=r"1 of 4 cases was preprocessed from files that have changed .* \(ball_0\)"):
        train_balls(workspace, "0")
    configuration = plans.configurations["3d_fullres"]
    other = msgspec.structs.replace(configuration.preprocessing, spacing_mm=(2.0, 2.0, 2.0))
    changed = msgspec.structs.replace(configuration, preprocessing=other)
    write_json(path, msgspec.structs.replace(plans, configurations={"3d_fullres": changed}))
    with pytest.raises(UserError, match="4 of 4 cases were preprocessed differently from these plans"):
        train_balls(workspace, "0")


def test_a_fold_whose_process_still_saves_is_not_started(workspace):
    """Its parent was killed, and with it the parent's lock."""
    model = workspace.model("balls", "unet", "3d_fullres")
    with process_lock(model, 0), pytest.raises(UserError, match="fold 0 is still being saved by process"):
        train_balls(workspace, "0", epochs=1)
    assert not list(model.glob("fold_*"))
    train_balls(workspace, "0", epochs=1)
