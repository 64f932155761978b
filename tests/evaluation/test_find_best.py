"""Choosing between two tiny models: scores, the pair, inference.json, and predict --best."""

import json
import shutil

import pytest

from tests.helpers.model import GEOMETRY
from tests.helpers.validated import validated_workspace
from unetrpp.cli.find_best import main
from unetrpp.cli.predict import main as predict
from unetrpp.core.errors import UserError
from unetrpp.dataset.cases import image_ids, read_dataset
from unetrpp.evaluation.find_best import select_best
from unetrpp.io.geometry import Geometry
from unetrpp.io.images import read_label, write_segmentation


@pytest.fixture(scope="module")
def workspace(tmp_path_factory):
    return validated_workspace(tmp_path_factory.mktemp("workspace"))


def test_find_best_and_predict_with_it(workspace, tmp_path, capsys):
    assert main(["balls", "--workspace", str(workspace), "--device", "cpu"]) == 0
    assert "unet__3d_fullres + unetrpp__3d_fullres" in capsys.readouterr().out
    selection = json.loads((workspace / "results" / "balls" / "inference.json").read_text())
    dice = [c["foreground_mean"]["Dice"] for c in selection["candidates"]]
    assert len(dice) == 3
    assert dice == sorted(dice, reverse=True)
    assert selection["members"] == selection["candidates"][0]["members"]
    before, after = selection["dice_before_postprocessing"]["1"], selection["dice_after_postprocessing"]["1"]
    assert before == pytest.approx(dice[0])
    assert after >= before
    images = workspace / "raw" / "balls" / "imagesTr"
    out = tmp_path / "out"
    arguments = ["-i", images, "-o", out, "--best", "balls", "--workspace", workspace]
    assert predict([str(a) for a in arguments]) == 0
    settings = json.loads((out / "predictions.json").read_text())["settings"]
    assert [member["model"] for member in settings["members"]] == selection["members"]
    assert settings["postprocessing"] == selection["postprocessing"]
    assert settings["mirroring"] is selection["mirroring"] is False  # as validated
    raw = read_dataset(workspace / "raw" / "balls", "balls")
    assert sorted(p.name for p in out.glob("*.nii.gz")) == [f"{c}.nii.gz" for c in image_ids(images, raw.description)]


def test_models_validated_on_different_cases_are_refused(workspace, tmp_path):
    results = tmp_path / "results"
    shutil.copytree(workspace / "results" / "balls", results)
    summary = results / "unet__3d_fullres" / "fold_1" / "validation" / "summary.json"
    summary.write_text(summary.read_text().replace('"case": "case_1"', '"case": "case_7"'))
    with pytest.raises(UserError, match="validated on different cases"):
        select_best(results, read_dataset(workspace / "raw" / "balls", "balls"), pairs=False)


def test_a_model_with_an_unvalidated_fold_is_left_out(workspace, tmp_path):
    results = tmp_path / "results"
    shutil.copytree(workspace / "results" / "balls", results)
    raw = read_dataset(workspace / "raw" / "balls", "balls")
    (results / "unet__3d_fullres" / "fold_1" / "validation" / "summary.json").unlink()
    assert [c.members for c in select_best(results, raw).candidates] == [("unetrpp__3d_fullres",)]
    (results / "unetrpp__3d_fullres" / "fold_0" / "validation" / "summary.json").unlink()
    with pytest.raises(UserError, match="no model whose folds are all validated"):
        select_best(results, raw)


def test_a_comparison_on_some_folds_only_is_warned_of(workspace, tmp_path, caplog):
    results = tmp_path / "results"
    shutil.copytree(workspace / "results" / "balls", results)
    raw = read_dataset(workspace / "raw" / "balls", "balls")
    select_best(results, raw, pairs=False)
    assert "training cases" not in caplog.text
    for model in ("unet__3d_fullres", "unetrpp__3d_fullres"):
        shutil.rmtree(results / model / "fold_1")
    select_best(results, raw, pairs=False)
    assert "the scores are of 1 of 2 training cases" in caplog.text


def test_labels_repaired_for_training_are_the_references(workspace, tmp_path):
    home = tmp_path / "workspace"
    shutil.copytree(workspace, home)
    drawn = home / "raw" / "balls" / "labelsTr"
    shutil.copytree(drawn, home / "preprocessed" / "balls" / "labels")
    nowhere = Geometry(shape_zyx=GEOMETRY.shape_zyx, spacing_zyx_mm=(9.0, 9.0, 9.0))
    for path in drawn.iterdir():  # what --fix is for
        write_segmentation(path, read_label(path).array[0], nowhere)
    assert main(["balls", "--workspace", str(home), "--device", "cpu"]) == 0


def test_a_pair_is_predicted_again_only_where_a_member_changed(workspace, tmp_path):
    results = tmp_path / "results"
    shutil.copytree(workspace / "results" / "balls", results)
    raw = read_dataset(workspace / "raw" / "balls", "balls")
    select_best(results, raw)
    (pair,) = (results / "ensembles").iterdir()
    files = [pair / f"fold_{k}" / "validation" / f"case_{k}.nii.gz" for k in (0, 1)]
    before = [file.stat().st_mtime_ns for file in files]
    select_best(results, raw)
    assert [file.stat().st_mtime_ns for file in files] == before
    first, second = results / "unetrpp__3d_fullres", results / "unet__3d_fullres"
    retrained = second / "fold_1" / "checkpoint_final.pt"
    retrained.write_bytes((first / "fold_1" / "checkpoint_final.pt").read_bytes())
    select_best(results, raw)
    assert [new.stat().st_mtime_ns > old for new, old in zip(files, before, strict=True)] == [False, True]


def test_mirrored_and_plain_validations_are_not_compared(workspace, tmp_path):
    results = tmp_path / "results"
    shutil.copytree(workspace / "results" / "balls", results)
    raw = read_dataset(workspace / "raw" / "balls", "balls")
    record = results / "unet__3d_fullres" / "fold_1" / "validation" / "predictions.json"
    record.write_text(record.read_text().replace('"mirroring": false', '"mirroring": true'))
    with pytest.raises(UserError, match=r"with mirroring and .* without, so they cannot be compared"):
        select_best(results, raw)
    record.unlink()
    with pytest.raises(UserError, match="run unetrpp_train again to repeat the validation"):
        select_best(results, raw)


def test_best_without_a_selection(tmp_path, capsys):
    (tmp_path / "raw" / "balls").mkdir(parents=True)
    arguments = ["-i", tmp_path, "-o", tmp_path / "out", "--best", "balls", "--workspace", tmp_path]
    assert predict([str(a) for a in arguments]) == 2
    assert "run unetrpp_find_best" in capsys.readouterr().err
