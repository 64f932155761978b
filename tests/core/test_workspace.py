"""Finding datasets in the workspace."""

import os
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from unetrpp.core.errors import UserError
from unetrpp.core.workspace import Workspace, as_folder_name, is_folder_name, plain_name


@pytest.fixture
def workspace(tmp_path):
    for name in ("Hippocampus", "Dataset012_Heart", "Dataset120_Lung"):
        (tmp_path / "raw" / name).mkdir(parents=True)
        (tmp_path / "raw" / name / "dataset.json").write_text("{}")
    return Workspace(tmp_path)


@pytest.mark.parametrize(
    ("given", "found"),
    [("Hippocampus", "Hippocampus"), ("Dataset004_Hippocampus", "Hippocampus"),
     ("Heart", "Dataset012_Heart"), ("12", "Dataset012_Heart"), ("012", "Dataset012_Heart"),
     ("Dataset120_Lung", "Dataset120_Lung"), ("120", "Dataset120_Lung")],
)  # fmt: skip
def test_names_and_numbers(workspace, given, found):
    assert workspace.find_dataset(given) == found


def test_unknown_names_list_the_datasets(workspace):
    with pytest.raises(UserError, match="Hippocampus"):
        workspace.find_dataset("Liver")


def test_a_misspelt_name_gets_the_nearest_one(workspace):
    with pytest.raises(UserError, match="did you mean Dataset012_Heart"):
        workspace.find_dataset("heert")


def test_a_dataset_in_nnunets_raw_folder_is_found_there(workspace, tmp_path, monkeypatch):
    folder = tmp_path / "nnUNet_raw" / "Dataset007_Pancreas"
    folder.mkdir(parents=True)
    monkeypatch.setenv("nnUNet_raw", str(folder.parent))
    for name in ("7", "Pancreas", "Dataset007_Pancreas"):
        with pytest.raises(UserError, match=r"\$nnUNet_raw has it: plan with the path .*Dataset007_Pancreas"):
            workspace.find_dataset(name)


def test_a_dataset_of_which_there_are_only_models_is_said_to_have_those(workspace):
    (workspace.root / "results" / "Dataset101_Liver" / "nnUNetPlans__2d").mkdir(parents=True)
    with pytest.raises(UserError, match="Dataset101_Liver has only models of it; predict with -m"):
        workspace.find_dataset("101")


def test_a_path_is_accepted(workspace, tmp_path):
    inside = workspace.root / "raw" / "Dataset012_Heart"
    assert workspace.find_raw(str(inside)) == ("Dataset012_Heart", inside)
    outside = tmp_path / "nnUNet_raw" / "Dataset004_Hippocampus"
    outside.mkdir(parents=True)
    with pytest.raises(UserError, match=r"has no dataset\.json"):
        workspace.find_raw(str(outside))
    (outside / "dataset.json").write_text("{}")
    assert workspace.find_raw(str(outside)) == ("Dataset004_Hippocampus", outside)
    linked = workspace.root / "raw" / "Mine"
    linked.symlink_to(outside, target_is_directory=True)
    assert workspace.find_raw(str(linked)) == ("Mine", linked)


def test_a_dataset_without_its_raw_folder_is_refused(workspace):
    (workspace.root / "preprocessed" / "Dataset004_Brain").mkdir(parents=True)
    assert workspace.find_dataset("4") == "Dataset004_Brain"
    with pytest.raises(UserError, match="give the path of Dataset004_Brain's raw folder"):
        workspace.find_raw("4")


@pytest.mark.parametrize("name", ["a/b", "..", "splits", "dataset"])
def test_plans_never_overwrite_other_files(workspace, name):
    with pytest.raises(UserError, match="plans cannot be called"):
        workspace.plans("Hippocampus", name)


def test_the_variable_is_the_default(monkeypatch, tmp_path):
    monkeypatch.setenv("UNETRPP_WORKSPACE", str(tmp_path))
    assert Workspace.find(None).root == tmp_path


def test_plain_names():
    assert plain_name("Task04_Hippocampus") == "Hippocampus"
    assert plain_name("Tasks_of_mine") == "Tasks_of_mine"


def test_a_path_that_is_not_utf_8_is_refused(tmp_path):
    with pytest.raises(UserError, match=r"f\\xfcnf, is not UTF-8; rename the folders"):
        Workspace.find(tmp_path / os.fsdecode(b"f\xfcnf"))


def test_the_dataset_of_a_model_or_of_plans_is_the_folder_that_holds_them(workspace, tmp_path, monkeypatch):
    model = workspace.model("Dataset012_Heart", "unetrpp", "3d_fullres")
    assert Workspace.dataset_of(model) == "Dataset012_Heart"
    assert Workspace.dataset_of(workspace.plans("Dataset012_Heart", "unetrpp")) == "Dataset012_Heart"
    model.mkdir(parents=True)
    monkeypatch.chdir(model)
    assert Workspace.dataset_of(Path()) == "Dataset012_Heart"
    assert Workspace.dataset_of(workspace.model("Unknown", "unetrpp", "3d_fullres")) is None
    assert Workspace.dataset_of(tmp_path / "copies" / "Dataset012_Heart" / "unetrpp__3d_fullres") is None


@pytest.mark.parametrize("name", [b".hidden", b"f\xfcnf", b"two\nlines"])
def test_a_folder_that_cannot_name_a_dataset_is_refused(workspace, tmp_path, name):
    folder = tmp_path / os.fsdecode(name)
    folder.mkdir()
    (folder / "dataset.json").write_text("{}")
    with pytest.raises(UserError, match="cannot be the name of a dataset; rename its folder"):
        workspace.find_raw(str(folder))
    (workspace.root / "raw" / folder.name).symlink_to(folder, target_is_directory=True)
    with pytest.raises(UserError, match="cannot be the name of a dataset; rename its folder"):
        workspace.find_raw(folder.name)


@given(st.text() | st.from_regex(r"(con|nul|com1|liver|c:)[ .]?[a-z]*", fullmatch=True))
def test_any_text_becomes_the_name_of_a_folder(text):
    name = as_folder_name(text)
    assert is_folder_name(name)
    assert as_folder_name(name) == name
    assert not set(name) & set('<>:"|?*')  # of Windows
    assert name[-1] not in " ."
    assert not {"CON", "NUL", "COM1"} & {name.upper(), name.split(".")[0].upper()}
    if re.fullmatch(r"[a-z][a-z _0-9-]*[a-z]", text) and text not in ("con", "prn", "aux", "nul"):
        assert name == text


def test_the_workspace_of_a_model_folder_however_high_it_lies(tmp_path):
    inside = Workspace(tmp_path.resolve()).model("Heart", "unetrpp", "2d")
    assert Workspace.of_model(inside).root == tmp_path.resolve()
    for folder in (Path("/models/mine"), Path("/mine"), Path("/")):
        assert Workspace.of_model(folder).root == Path("/")


@pytest.mark.skipif(os.name == "nt", reason="links need rights on Windows")
def test_the_workspace_of_a_model_whose_results_or_folder_are_links(tmp_path, monkeypatch):
    home = Workspace(tmp_path / "ws")
    (home.raw("Heart")).mkdir(parents=True)
    (tmp_path / "disk" / "Heart" / "unetrpp__2d").mkdir(parents=True)
    (home.root / "results").symlink_to(tmp_path / "disk")
    (tmp_path / "mine").symlink_to(home.model("Heart", "unetrpp", "2d"))
    assert Workspace.of_model(home.model("Heart", "unetrpp", "2d")) == home
    assert home.option == f" --workspace {home.root}"
    monkeypatch.setenv("UNETRPP_WORKSPACE", str(home.root))
    assert home.option == ""
    inside = home.model("Lung", "unetrpp", "2d")
    (home.root / "results").unlink()
    inside.mkdir(parents=True)
    (tmp_path / "other").symlink_to(inside)
    assert Workspace.of_model(tmp_path / "other").root == home.root.resolve()
