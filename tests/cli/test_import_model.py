"""`unetrpp_import`: which options belong together, what is printed, and planning for a released checkpoint."""

import json
import shutil

import pytest

from tests.helpers.model import make_model
from tests.helpers.nnunet import write_model
from tests.helpers.raw_dataset import write_dataset
from tests.helpers.released import write_released_checkpoint
from unetrpp.cli import import_model
from unetrpp.export.model_zip import export_model
from unetrpp.model.folder import ModelFolder
from unetrpp.plans.plans import read_plans


def command(tmp_path, *arguments):
    return import_model.main([*map(str, arguments), "--workspace", str(tmp_path / "workspace")])


def test_a_zip_becomes_a_model_folder_of_the_workspace(tmp_path, capsys):
    archive = tmp_path / "model.zip"
    export_model(make_model(tmp_path, folds=1), archive)
    assert command(tmp_path, archive) == 0
    target = tmp_path / "workspace" / "results" / "balls" / "unetrpp__3d_fullres"
    assert capsys.readouterr().out == f"{target}\nnext: unetrpp_predict -i IMAGES -o OUT -m {target}\n"
    assert ModelFolder.open(target).folds() == ["0"]
    assert command(tmp_path, archive) == 0  # the same one is there already
    (target / "plans.json").write_text("another")
    assert command(tmp_path, archive) == 2
    assert "--overwrite" in capsys.readouterr().err
    assert command(tmp_path, archive, "--overwrite") == 0
    assert command(tmp_path, archive, "--overwrite", "--largest-gb", "1e-6") == 2
    assert "raise --largest-gb" in capsys.readouterr().err


def test_models_of_nnunet_become_model_folders_by_their_content(tmp_path, capsys):
    model = write_model(tmp_path)
    results = tmp_path / "workspace" / "results"
    assert command(tmp_path, model) == 0
    target = results / "Dataset007_Balls" / "nnUNetPlans__3d_fullres"
    assert capsys.readouterr().out == f"{target}\nnext: unetrpp_predict -i IMAGES -o OUT -m {target}\n"
    archive = shutil.make_archive(str(tmp_path / "model"), "zip", tmp_path, "Dataset007_Balls")
    assert command(tmp_path, archive, "--name", "Mine") == 0
    assert ModelFolder.open(results / "Mine" / "nnUNetPlans__3d_fullres").folds() == ["0"]
    ours = tmp_path / "ours.zip"
    export_model(make_model(tmp_path, folds=1), ours)
    assert command(tmp_path, ours, "--name", "Mine") == 0
    assert ModelFolder.open(results / "Mine" / "unetrpp__3d_fullres").folds() == ["0"]
    capsys.readouterr()
    assert command(tmp_path, archive, "--name", "../up") == 2
    assert "cannot be that of a folder" in capsys.readouterr().err
    (tmp_path / "note.txt").write_text("hello")
    shutil.make_archive(str(tmp_path / "other"), "zip", tmp_path, "note.txt")
    for other, message in (("other.zip", "holds no trained model: neither"), ("none", "does not exist")):
        assert command(tmp_path, tmp_path / other) == 2
        assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--preset", "acdc"], "--plans FILE or --dataset DATASET"),
        (["--preset", "acdc", "--plans", "x.json"], "final.model does not exist"),
        (["--plans", "x.json"], "add --preset"),
        (["--dataset", "Blocks"], "add --preset"),
        (["--configuration", "2d"], "add --preset"),
        (["--preset", "acdc", "--plans", "x.json", "--dataset", "x"], "not allowed with"),
        (["--preset", "brats"], "invalid choice"),
        (["--largest-gb", "0"], "must be above 0"),
    ],
)
def test_options_that_do_not_belong_together(tmp_path, capsys, arguments, message):
    try:
        code = command(tmp_path, tmp_path / "final.model", *arguments)
    except SystemExit as stop:
        code = stop.code
    assert code == 2
    assert message in capsys.readouterr().err


def test_the_options_reach_the_import_of_a_checkpoint(tmp_path, monkeypatch, capsys):
    given = {}
    monkeypatch.setattr(
        "unetrpp.export.released.import_released", lambda file, **options: given.update(options) or tmp_path
    )
    (tmp_path / "final.model").touch()
    options = ["--preset", "acdc", "--plans", "plans.json", "--configuration", "3d_lowres", "--overwrite"]
    assert command(tmp_path, tmp_path / "final.model", *options) == 0
    plans, workspace = given.pop("plans"), given.pop("workspace")
    assert (str(plans), workspace) == ("plans.json", tmp_path / "workspace")
    assert given == {"preset": "acdc", "configuration": "3d_lowres", "overwrite": True}


def test_planning_that_fails_ends_the_import_with_its_exit_code(tmp_path, monkeypatch):
    called = []

    def call(command):
        called.append(command)
        return 1

    monkeypatch.setattr(import_model, "call", call)
    write_dataset(tmp_path / "workspace" / "raw" / "Blocks")
    (tmp_path / "final.model").touch()
    assert command(tmp_path, tmp_path / "final.model", "--preset", "acdc", "--dataset", "Blocks") == 1
    assert called[0][:2] == ["plan_and_preprocess", "Blocks"]


def test_with_a_raw_dataset_it_is_planned(tmp_path, capsys):
    workspace, checkpoint = tmp_path / "workspace", tmp_path / "final.model"
    write_dataset(workspace / "raw" / "Blocks")
    assert command(tmp_path, checkpoint, "--preset", "acdc", "--dataset", "Blocks") == 2
    assert "final.model does not exist" in capsys.readouterr().err
    assert not (workspace / "preprocessed").exists()

    checkpoint.write_bytes(b"no checkpoint")
    assert command(tmp_path, checkpoint, "--preset", "acdc", "--dataset", "Blocks") == 2
    plans = read_plans(workspace / "preprocessed" / "Blocks" / "acdc.json")
    assert not list((workspace / "preprocessed" / "Blocks").glob("acdc_*"))  # nothing was preprocessed
    write_released_checkpoint(checkpoint, plans, "acdc")
    assert command(tmp_path, checkpoint, "--preset", "acdc", "--dataset", "Blocks") == 0
    target = workspace / "results" / "Blocks" / "released_acdc__3d_fullres"
    assert ModelFolder.open(target).configuration.architecture.out_channels == 3
    assert json.loads((target / "dataset.json").read_text())["labels"]["organ"] == 1
