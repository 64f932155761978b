"""The package of docs/extending.md, installed as it stands, plans, trains and predicts."""

import json
import re
import tomllib
from pathlib import Path

import pytest

from tests.helpers.packages import install
from tests.helpers.raw_dataset import write_dataset
from unetrpp.cli.predict import main as predict
from unetrpp.planners.plan_and_preprocess import main as plan
from unetrpp.trainers.train import main as train

PAGE = Path(__file__).parent.parent / "docs" / "extending.md"


@pytest.fixture
def installed(tmp_path, monkeypatch):
    """What pip makes of the page's two files."""
    blocks = dict(re.findall(r"```(toml|python)\n(.*?)```", PAGE.read_text(encoding="utf8"), flags=re.DOTALL))
    groups = tomllib.loads(blocks["toml"])["project"]["entry-points"].items()
    points = [f"[{group}]\n" + "".join(f"{k} = {v}\n" for k, v in named.items()) for group, named in groups]
    site = tmp_path / "site"
    site.mkdir()
    (site / "my_ideas.py").write_text(blocks["python"])
    install(site, monkeypatch, "\n".join(points))


@pytest.mark.slow
@pytest.mark.usefixtures("installed")
def test_the_page_runs(tmp_path):
    raw, home = tmp_path / "Balls", ["--workspace", str(tmp_path / "workspace")]
    write_dataset(raw, 3)
    assert plan([str(raw), "--planner", "two_convolutions", "--processes", "1", *home]) == 0
    plans = json.loads((tmp_path / "workspace" / "preprocessed" / "Balls" / "two_convolutions.json").read_text())
    assert plans["planner"] == "two_convolutions"
    short = ["--epochs", "1", "--iterations", "2", "--no-mirroring", "--threads", "1", "--device", "cpu"]
    own = ["-p", "two_convolutions", "--trainer", "adam", "--tracker", "lines"]
    assert train(["Balls", "3d_fullres", "0", *own, *short, *home]) == 0
    model = tmp_path / "workspace" / "results" / "Balls" / "two_convolutions__3d_fullres"
    assert json.loads((model / "fold_0" / "training.json").read_text())["trainer"] == "adam"
    epoch, scores = (model / "fold_0" / "lines.txt").read_text(encoding="utf8").splitlines()
    assert epoch.startswith("1 {'train_loss': ")
    assert scores.startswith("{'validation/Dice': ")
    again = ["Balls", "3d_fullres", "0", "-p", "two_convolutions", "--trainer", "standard", *short, *home]
    assert train(again) == 2  # a fold keeps its trainer
    assert predict(["-i", str(raw / "imagesTr"), "-o", str(tmp_path / "out"), "-m", str(model), "--device", "cpu"]) == 0
    assert len(list((tmp_path / "out").glob("*.nii.gz"))) == 3


@pytest.mark.slow
@pytest.mark.usefixtures("installed")
def test_classes_that_are_typed_but_not_registered(tmp_path, capsys):
    raw, home = tmp_path / "Balls", ["--workspace", str(tmp_path / "workspace")]
    write_dataset(raw, 3)
    assert plan([str(raw), "--planner", "my_ideas:TwoConvolutionsPlanner", "--processes", "1", *home]) == 0
    typed = ["--trainer", "my_ideas:AdamTrainer"]
    run = ["Balls", "3d_fullres", "0", "-p", "TwoConvolutionsPlanner", "--no-mirroring", "--threads", "1", *home]
    assert train([*run, *typed, "--epochs", "1", "--iterations", "2"]) == 0
    capsys.readouterr()
    assert train([*run, "--continue", "--epochs", "2"]) == 2  # from training.json alone no code is run
    assert "give --trainer my_ideas:AdamTrainer again" in capsys.readouterr().err
    assert train([*run, *typed, "--continue", "--epochs", "2"]) == 0
