"""`unetrpp` says for every dataset of the workspace what to run next; what it names runs."""

import msgspec
import pytest

from tests.helpers.model import make_model
from tests.helpers.tiny import workspace_of_balls
from unetrpp.__main__ import main
from unetrpp.core.files import write_json
from unetrpp.core.workspace import Workspace
from unetrpp.inference.selection import FILE
from unetrpp.plans.plans import read_plans
from unetrpp.report.next_step import SELECTION, USUAL, again_command, next_command, next_steps, plan_command
from unetrpp.trainers.config import TrainingConfig
from unetrpp.trainers.recipe import config_for, new_config
from unetrpp.trainers.train import build_parser


@pytest.fixture
def workspace(tmp_path, monkeypatch):
    """Four balls, so four folds; it is the workspace that commands find by themselves."""
    monkeypatch.setenv("UNETRPP_WORKSPACE", str(tmp_path / "w"))
    return workspace_of_balls(tmp_path / "w")


def only(workspace):
    (line,) = next_steps(workspace)
    return line


def test_an_empty_workspace(tmp_path):
    assert "has no dataset yet: unetrpp_convert list" in only(Workspace(tmp_path / "none"))


def test_raw_then_planned_then_trained(workspace):
    (workspace.raw("new one")).mkdir(parents=True)
    unplanned = 'new one is not planned: unetrpp_plan_and_preprocess "new one"'
    planned = "balls is planned and not trained: unetrpp_train balls 3d_fullres -p unet"
    assert next_steps(workspace) == [planned, unplanned]
    assert (
        plan_command(workspace, "balls") == "unetrpp_plan_and_preprocess balls"
    )  # after a conversion, also where there are plans


def test_a_single_case_is_trained_as_the_fold_of_all_cases(tmp_path, monkeypatch):
    monkeypatch.setenv("UNETRPP_WORKSPACE", str(tmp_path / "w"))
    workspace = workspace_of_balls(tmp_path / "w", count=1)
    assert only(workspace) == "balls is planned and not trained: unetrpp_train balls 3d_fullres all -p unet"


@pytest.mark.parametrize(("folds", "told"), [(1, "1 of 4 folds is trained"), (3, "3 of 4 folds are trained")])
def test_unfinished_trainings_go_on(workspace, folds, told):
    model = workspace.model("balls", "unet", "3d_fullres")
    model.parent.mkdir(parents=True)
    make_model(model.parent, folds).rename(model)
    (model / "fold_3").mkdir()  # begun
    assert only(workspace) == f"balls, unet__3d_fullres: {told}: unetrpp_train balls 3d_fullres -p unet"


def test_the_other_folds_are_trained_as_the_first(workspace):
    model = workspace.model("balls", "unet", "3d_fullres")
    model.parent.mkdir(parents=True)
    make_model(model.parent, 1).rename(model)
    for config, options in [
        (TrainingConfig(fold=0, epochs=2, iterations=5), " --epochs 2 --iterations 5"),
        (TrainingConfig(fold=0, epochs=20), " --epochs 20"),
        (TrainingConfig(fold=0), ""),
        (TrainingConfig(fold=0, recipe="nnunet: as there", trainer="mine"), " --trainer mine --recipe nnunet"),
        (
            TrainingConfig(fold=0, pretrained="a/fold_0/checkpoint_final.pth"),
            " --pretrained a/fold_0/checkpoint_final.pth",
        ),
        (TrainingConfig(fold=0, pretrained=str(model / "fold_0" / "checkpoint_final.pt")), f" --pretrained {model}"),
    ]:
        write_json(model / "fold_0" / "training.json", config)
        assert next_command(workspace, "balls") == f"unetrpp_train balls 3d_fullres -p unet{options}"
    write_json(model / "fold_0" / "training.json", TrainingConfig(fold=0, epochs=2, iterations=5))
    typed = next_command(workspace, "balls", {model.name: " --lr 0.001 --epochs 2 --no-mirroring"})
    assert typed == "unetrpp_train balls 3d_fullres -p unet --iterations 5 --lr 0.001 --epochs 2 --no-mirroring"
    assert {name: getattr(TrainingConfig(fold=0), name) for name in USUAL} == USUAL


def test_the_other_folds_get_every_option_of_the_first(workspace):
    """What the command says is parsed, and gives the same recipe."""
    model = workspace.model("balls", "unet", "3d_fullres")
    model.parent.mkdir(parents=True)
    make_model(model.parent, 1).rename(model)
    options: dict[str, object] = {
        "epochs": 20,
        "iterations": 9,
        "learning_rate": 1e-3,
        "optimizer": "adamw",
        "warmup": 7,
        "weight_decay": 0.02,
        "drop_path": 0.1,
        "ema": 0.99,
        "seed": 3,
        "precision": "fp32",
        "max_hours": 2.0,
        "patience": 5,
        "augmentation": "workers",
        "trainer": None,
    }
    for chosen in (
        options,
        {"learn_attention": True},
        {"recipe": "nnunet", "epochs": 3},
        {"optimizer": "sgd", "epochs": 3},
    ):
        config = new_config(0, chosen)
        write_json(model / "fold_0" / "training.json", config)
        words = next_command(workspace, "balls").split()
        parsed = vars(build_parser().parse_args(words[1:]))
        again = {name: parsed["lr" if name == "learning_rate" else name] for name in chosen}
        assert new_config(0, again) == config
    write_json(model / "fold_0" / "training.json", new_config(0, options))
    extended = config_for(model / "fold_0", 0, {"epochs": 30, "patience": 6}, continue_training=True)
    write_json(model / "fold_0" / "training.json", extended)
    command = next_command(workspace, "balls")
    assert "--epochs 30 " in command
    write_json(
        model / "fold_0" / "training.json", TrainingConfig(fold=0, epochs=2, iterations=5, recipe="nnunet: as there")
    )
    longer = config_for(model / "fold_0", 0, {"epochs": 3, "patience": 6}, continue_training=True)
    assert longer == TrainingConfig(fold=0, epochs=3, iterations=5, recipe="nnunet: as there", patience=6)
    write_json(model / "fold_0" / "training.json", longer)
    assert next_command(workspace, "balls").endswith("-p unet --epochs 3 --iterations 5 --patience 6 --recipe nnunet")
    repeated = config_for(model / "fold_0", 0, {"epochs": 3, "patience": 6}, continue_training=True)
    assert repeated == longer  # which leaves a finished fold as it is
    assert "--patience 6" in command
    assert "--max-hours" not in command


def test_trained_models_predict(workspace):
    results = workspace.root / "results" / "balls"
    results.mkdir(parents=True)
    make_model(results, 4).rename(results / "unet__3d_fullres")
    assert only(workspace) == f"balls is trained: unetrpp_predict -i IMAGES -o OUT -m {results / 'unet__3d_fullres'}"
    make_model(results, 1)  # imported: there are no plans of it here
    assert only(workspace).endswith("-m MODEL_FOLDER, or choose with unetrpp_find_best balls")
    (results / "inference.json").touch()
    assert only(workspace) == "balls is trained: unetrpp_predict -i IMAGES -o OUT --best balls"


def test_a_model_of_all_cases_is_trained(workspace):
    results = workspace.root / "results" / "balls"
    results.mkdir(parents=True)
    make_model(results, 1).rename(results / "unet__3d_fullres")
    (results / "unet__3d_fullres" / "fold_0").rename(results / "unet__3d_fullres" / "fold_all")
    assert only(workspace).startswith("balls is trained: ")


def test_another_workspace_is_named(workspace, monkeypatch):
    monkeypatch.delenv("UNETRPP_WORKSPACE")
    assert next_command(workspace, "balls") == f"unetrpp_train balls 3d_fullres -p unet --workspace {workspace.root}"


def test_it_knows_the_file_of_find_best():
    assert SELECTION == FILE


def test_the_command_prints_it_without_arguments_only(workspace, capsys):
    assert main([]) == 0
    assert capsys.readouterr().out.endswith(f"\nnext, in {workspace.root}:\n  {only(workspace)}\n")
    assert main(["--help"]) == 0
    assert "next, in" not in capsys.readouterr().out


def test_a_cascade_waits_for_its_first_stage(workspace):
    path = workspace.plans("balls", "unet")
    plans = read_plans(path)
    (configuration,) = plans.configurations.values()
    second = msgspec.structs.replace(configuration, first_stage="3d_lowres")
    plans = msgspec.structs.replace(plans, configurations={"3d_lowres": configuration, "3d_cascade": second})
    write_json(path, plans)
    workspace.store("balls", "unet", "3d_fullres").rename(workspace.store("balls", "unet", "3d_lowres"))
    workspace.store("balls", "unet", "3d_cascade").mkdir()
    assert only(workspace).endswith("not trained: unetrpp_train balls 3d_lowres -p unet")
    model = workspace.model("balls", "unet", "3d_lowres")
    model.parent.mkdir(parents=True)
    make_model(model.parent, 4).rename(model)
    (model / "fold_3" / "checkpoint_final.pt").unlink()
    assert only(workspace).endswith("3 of 4 folds are trained: unetrpp_train balls 3d_lowres -p unet")
    for fold in range(4):
        (model / f"fold_{fold}" / "validation").mkdir()
        write_json(model / f"fold_{fold}" / "validation" / "summary.json", {})
    assert next_command(workspace, "balls").endswith("unetrpp_train balls 3d_cascade -p unet")


def test_a_fold_is_trained_again_as_it_was(workspace, monkeypatch):
    fold = workspace.model("balls", "unet", "3d_fullres") / "fold_2"
    config = new_config(2, {"epochs": 20, "learning_rate": 0.02})
    write_json(fold / "training.json", config)
    command = again_command(workspace, "balls", plans="unet", configuration="3d_fullres", fold=2)
    assert command == "unetrpp_train balls 3d_fullres 2 -p unet --epochs 20 --lr 0.02 --overwrite"
    assert build_parser().parse_args(command.split()[1:]).epochs == 20
    monkeypatch.delenv("UNETRPP_WORKSPACE")
    assert (
        again_command(workspace, "balls", plans="unet", configuration="3d_fullres", fold=2)
        == f"{command} --workspace {workspace.root}"
    )
