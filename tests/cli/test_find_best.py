"""`unetrpp_find_best`: the table, the file that predict --best follows, and requests that are refused."""

import json

import pytest

from tests.helpers.validated import validated_workspace
from unetrpp.cli.find_best import main
from unetrpp.evaluation.find_best import find_best


@pytest.fixture(scope="module")
def workspace(tmp_path_factory):
    return validated_workspace(tmp_path_factory.mktemp("workspace"))


def command(workspace, *arguments):
    return main([*arguments, "--workspace", str(workspace)])


def test_single_models_are_compared_without_predicting(workspace, capsys):
    results = workspace / "results" / "balls"
    assert command(workspace, "balls", "--no-pairs") == 0
    header, *lines = capsys.readouterr().out.splitlines()
    assert header.split() == ["candidate", "cases", "mean", "Dice"]
    assert {line.split()[0] for line in lines[:2]} == {"unet__3d_fullres", "unetrpp__3d_fullres"}
    assert lines[-2:] == [
        f"written to {results / 'inference.json'}",
        f"next: unetrpp_predict -i IMAGES -o OUT --best balls --workspace {workspace}",
    ]
    written = json.loads((results / "inference.json").read_text())
    assert [c["members"] for c in written["candidates"]] == [[line.split()[0]] for line in lines[:2]]
    assert not (results / "ensembles").exists()


def test_the_call_from_python_is_that_of_the_command(workspace):
    path = workspace / "results" / "balls" / "inference.json"
    assert command(workspace, "balls", "--no-pairs") == 0
    before = path.read_bytes()
    path.unlink()
    selection, written = find_best("balls", workspace=workspace, pairs=False)
    assert written == path
    assert path.read_bytes() == before
    assert selection.members == selection.candidates[0].members


def test_an_unknown_dataset_and_one_without_models_are_refused(workspace, tmp_path, capsys):
    assert command(workspace, "bolls") == 2
    assert "did you mean balls?" in capsys.readouterr().err
    assert command(tmp_path, str(workspace / "raw" / "balls")) == 2
    assert "has no model whose folds are all validated" in capsys.readouterr().err
