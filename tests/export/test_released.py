"""`unetrpp_import FILE --preset`: a released checkpoint becomes a model folder that predicts."""

import json

import numpy as np
import pytest
import torch

from tests.helpers.model import GEOMETRY, make_model, write_images
from tests.helpers.raw_dataset import write_dataset
from unetrpp.cli.import_model import main
from unetrpp.export.released import with_preset
from unetrpp.inference.predictor import Predictor
from unetrpp.model.folder import ModelFolder
from unetrpp.networks.build import build_network
from unetrpp.networks.released import official_name
from unetrpp.plans.plans import read_plans


def released(path, plans, preset_name, configuration="3d_fullres"):
    """A checkpoint of the published network for these plans, under the released names."""
    torch.manual_seed(0)
    changed = with_preset(plans, preset_name, configuration, path)
    architecture = changed.configurations[configuration].architecture
    state = build_network(architecture).state_dict()
    theirs = {f"module.{official_name(name, architecture.projection)}": value for name, value in state.items()}
    torch.save({"epoch": 1000, "state_dict": theirs, "best_stuff": (np.float64(0.9),)}, path)
    return path


@pytest.fixture
def model(tmp_path):
    return make_model(tmp_path / "balls", folds=0)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    folder = tmp_path_factory.mktemp("released")
    plans = read_plans(make_model(folder, folds=0) / "plans.json")
    return released(folder / "final.model", plans, "acdc")


def command(tmp_path, checkpoint, *arguments):
    return main([str(checkpoint), "--workspace", str(tmp_path / "workspace"), *map(str, arguments)])


def test_with_plans_it_predicts(tmp_path, model, checkpoint, capsys):
    assert command(tmp_path, checkpoint, "--preset", "acdc", "--plans", model / "plans.json") == 0
    target = tmp_path / "workspace" / "results" / "balls" / "released_acdc__3d_fullres"
    assert capsys.readouterr().out.strip() == str(target)
    made = ModelFolder.open(target)
    assert made.folds() == ["all"]
    assert made.configuration.patch == (16, 160, 160)
    assert made.configuration.architecture.spatial_layout == "released"
    assert "final.model" in made.configuration.decisions[0].why
    image = write_images(tmp_path / "images", 1)[0]
    segmentation = Predictor(target, device="cpu", mirroring=False)(image)
    assert segmentation.array.shape == GEOMETRY.shape_zyx

    assert command(tmp_path, checkpoint, "--preset", "acdc", "--plans", model / "plans.json") == 2
    assert "--overwrite" in capsys.readouterr().err
    assert command(tmp_path, checkpoint, "--preset", "acdc", "--plans", model / "plans.json", "--overwrite") == 0


def test_with_a_raw_dataset_it_is_planned(tmp_path, capsys):
    workspace = tmp_path / "workspace"
    write_dataset(workspace / "raw" / "Blocks")
    assert command(tmp_path, tmp_path / "none.model", "--preset", "acdc", "--dataset", "Blocks") == 2
    assert "none.model does not exist" in capsys.readouterr().err
    assert not (workspace / "preprocessed").exists()

    (tmp_path / "final.model").write_bytes(b"no checkpoint")
    assert command(tmp_path, tmp_path / "final.model", "--preset", "acdc", "--dataset", "Blocks") == 2
    plans = read_plans(workspace / "preprocessed" / "Blocks" / "acdc.json")
    assert not list((workspace / "preprocessed" / "Blocks").glob("acdc_*"))  # nothing was preprocessed
    released(tmp_path / "final.model", plans, "acdc")
    assert command(tmp_path, tmp_path / "final.model", "--preset", "acdc", "--dataset", "Blocks") == 0
    target = workspace / "results" / "Blocks" / "released_acdc__3d_fullres"
    assert ModelFolder.open(target).configuration.architecture.out_channels == 3
    assert json.loads((target / "dataset.json").read_text())["labels"]["organ"] == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--preset", "acdc"], "--plans FILE or --dataset DATASET"),
        (["--plans", "x.json"], "add --preset"),
        (["--preset", "synapse", "--plans", "PLANS"], "choose another"),
        (["--preset", "acdc", "--plans", "PLANS", "--configuration", "2d"], "2d"),
        (["--preset", "acdc", "--plans", "PLANS", "--dataset", "x"], "not allowed with"),
    ],
)
def test_what_is_missing_or_does_not_fit_is_said(tmp_path, model, checkpoint, capsys, arguments, message):
    arguments = [str(model / "plans.json") if a == "PLANS" else a for a in arguments]
    try:
        code = command(tmp_path, checkpoint, *arguments)
    except SystemExit as stop:
        code = stop.code
    assert code == 2
    assert message in capsys.readouterr().err


def test_plans_without_their_records(tmp_path, model, checkpoint, capsys):
    (model / "fingerprint.json").unlink()
    assert command(tmp_path, checkpoint, "--preset", "acdc", "--plans", model / "plans.json") == 2
    assert "no fingerprint.json" in capsys.readouterr().err
    assert not list((tmp_path / "workspace").rglob("*.pt"))
