"""Choosing between two tiny models: scores, the pair, inference.json, and predict --best."""

import errno
import json
import re
import shutil

import numpy as np
import pytest
import SimpleITK as sitk

from tests.helpers.model import GEOMETRY, change_plans, other_grid
from tests.helpers.nifti import shear
from tests.helpers.tiny import LABELS
from tests.helpers.validated import validated_workspace
from unetrpp.cli.find_best import main
from unetrpp.cli.predict import main as predict
from unetrpp.dataset.cases import image_ids, read_dataset
from unetrpp.evaluation.cross_validation import CrossValidation, evaluate_model
from unetrpp.evaluation.evaluate import evaluate_pairs
from unetrpp.evaluation.find_best import select_best
from unetrpp.evaluation.ranking import rank, reasons
from unetrpp.evaluation.summary import CaseScores, summarize
from unetrpp.inference.folder import lock_of
from unetrpp.inference.postprocessing import NOTHING
from unetrpp.inference.selection import find_selection, read_selection
from unetrpp.io.geometry import Geometry
from unetrpp.io.images import read_label, write_segmentation
from unetrpp.report.model_report import write_report


@pytest.fixture(scope="module")
def workspace(tmp_path_factory):
    return validated_workspace(tmp_path_factory.mktemp("workspace"))


@pytest.fixture
def copy(workspace, tmp_path):
    """Results and raw dataset, to be changed."""
    shutil.copytree(workspace, tmp_path / "copy")
    return tmp_path / "copy" / "results" / "balls", read_dataset(tmp_path / "copy" / "raw" / "balls", "balls")


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


def test_a_comparison_on_some_folds_only_is_warned_of(workspace, tmp_path, caplog):
    results = tmp_path / "results"
    shutil.copytree(workspace / "results" / "balls", results)
    raw = read_dataset(workspace / "raw" / "balls", "balls")
    select_best(results, raw, pairs=False)
    assert "training cases" not in caplog.text
    for model in ("unet__3d_fullres", "unetrpp__3d_fullres"):
        shutil.rmtree(results / model / "fold_1")
    select_best(results, raw, pairs=False)
    assert "the scores cover 1 of 2 training cases" in caplog.text


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


def test_a_pair_is_predicted_again_where_an_image_changed(copy):
    results, raw = copy
    select_best(results, raw)
    (pair,) = (results / "ensembles").iterdir()
    files = [pair / f"fold_{k}" / "validation" / f"case_{k}.nii.gz" for k in (0, 1)]
    before = [file.stat().st_mtime_ns for file in files]
    (path,) = raw.cases[1].images
    image = sitk.ReadImage(str(path))
    sitk.WriteImage(image + 1, str(path))
    select_best(results, raw)
    assert [new.stat().st_mtime_ns > old for new, old in zip(files, before, strict=True)] == [False, True]


def test_a_pair_is_predicted_where_training_repaired_an_image(copy):
    """Preprocessed with --fix."""
    results, raw = copy
    shear(raw.cases[0].images[0], 0.01)
    assert len(select_best(results, raw).candidates) == 3


def test_the_choice_is_found_beside_copied_results_alone(workspace, tmp_path):
    home = tmp_path / "elsewhere"
    assert main(["balls", "--workspace", str(workspace), "--no-pairs"]) == 0
    shutil.copytree(workspace / "results", home / "results")
    selection, models = find_selection("balls", home)
    assert models == [home / "results" / "balls" / member for member in selection.members]


def test_what_a_killed_comparison_did_not_write_is_written(copy):
    """It was killed after the last prediction and before the table of volumes."""
    results, raw = copy
    select_best(results, raw)
    (pair,) = (results / "ensembles").iterdir()
    folder = pair / "fold_0" / "validation"
    names = sorted(path.name for path in folder.iterdir())
    (folder / "volumes.csv").unlink()
    lock_of(folder / "predictions.json").touch()
    select_best(results, raw)
    assert sorted(path.name for path in folder.iterdir()) == names


def test_a_pair_of_different_splits_is_left_out_and_the_models_are_compared(copy):
    results, raw = copy
    first, second = (results / "unet__3d_fullres" / f"fold_{fold}" for fold in (0, 1))
    first.rename(results / "moved")
    second.rename(first)
    (results / "moved").rename(second)
    selection = select_best(results, raw)
    assert {c.members for c in selection.candidates} == {("unet__3d_fullres",), ("unetrpp__3d_fullres",)}
    (pair, why), *others = selection.left_out.items()
    assert (pair, others) == ("unet__3d_fullres + unetrpp__3d_fullres", [])
    assert "was trained on it; train both with the same splits.json" in why


def test_a_pair_is_averaged_whatever_spacing_and_axis_order(copy):
    results, raw = copy
    other_grid(results / "unet__3d_fullres", (1.2, 0.8, 2.0), (2, 0, 1))
    selection = select_best(results, raw)
    assert len(selection.candidates) == 3
    assert selection.left_out == {}


def test_a_pair_of_other_channels_is_left_out(copy):
    results, raw = copy
    change_plans(results / "unet__3d_fullres", channel_names=("CT",))
    selection = select_best(results, raw)
    assert len(selection.candidates) == 2
    assert "differ in their channel_names" in selection.left_out["unet__3d_fullres + unetrpp__3d_fullres"]


def test_a_case_that_several_folds_hold_out_counts_once(copy):
    results, raw = copy
    for model in ("unet__3d_fullres", "unetrpp__3d_fullres"):
        shutil.copytree(results / model / "fold_0", results / model / "fold_2")  # holds out case_0 as fold 0 does
    selection = select_best(results, raw)
    assert [c.cases for c in selection.candidates] == [2, 2, 2]
    pair = results / "ensembles" / "unet__3d_fullres+unetrpp__3d_fullres"
    assert sorted(path.name for path in pair.glob("fold_*")) == ["fold_0", "fold_1"]
    assert evaluate_model(results / "unet__3d_fullres").summary.counts["1"].cases == 2
    assert write_report(results / "unet__3d_fullres").is_file()


def test_a_full_disk_ends_the_comparison_and_leaves_no_pair_out(copy, monkeypatch):
    def full(*arguments):
        raise OSError(errno.ENOSPC, "No space left on device")

    shutil.rmtree(copy[0] / "ensembles", ignore_errors=True)
    (copy[0] / "inference.json").unlink(missing_ok=True)
    monkeypatch.setattr("unetrpp.inference.stream.volumes_ml", full)
    with pytest.raises(OSError, match=r"No space left on device: 'unet__3d_fullres \+ unetrpp__3d_fullres, case_\d'"):
        select_best(*copy)
    assert not (copy[0] / "inference.json").exists()


def test_what_a_pair_predicted_for_earlier_splits_is_removed(copy):
    results, raw = copy
    select_best(results, raw)
    (pair,) = (results / "ensembles").iterdir()
    shutil.copytree(pair / "fold_0", pair / "fold_2")
    (pair / "fold_1" / "validation" / "predictions.json").write_bytes(b"{")
    selection = select_best(results, raw)
    assert sorted(path.name for path in pair.glob("fold_*")) == ["fold_0", "fold_1"]
    assert [c.cases for c in selection.candidates] == [2, 2, 2]
    assert selection.left_out == {}


def test_a_corrected_label_is_scored_again(copy):
    results, raw = copy
    before = select_best(results, raw)
    label = raw.cases[0].label
    assert label is not None
    volume = read_label(label)
    write_segmentation(label, np.roll(volume.array[0], 4, axis=2), volume.geometry)
    after = select_best(results, raw)
    assert after.made_from != before.made_from
    for candidate in after.candidates:
        folder = results / (
            candidate.name if len(candidate.members) == 1 else "ensembles/" + "+".join(candidate.members)
        )
        pairs = {f"case_{k}": (folder / f"fold_{k}/validation/case_{k}.nii.gz", raw.cases[k].label) for k in (0, 1)}
        expected, errors = evaluate_pairs(pairs, LABELS, processes=1)
        assert not errors
        assert candidate.mean["1"]["Dice"] == pytest.approx(expected.mean["1"]["Dice"])
    assert evaluate_model(results / after.candidates[0].members[0])


@pytest.mark.parametrize("changed", ["weights", "scores", "a member is gone", "folds", "an earlier release"])
def test_a_selection_counts_only_while_its_models_and_scores_are_the_same(workspace, tmp_path, changed, capsys):
    home = tmp_path / "workspace"
    shutil.copytree(workspace, home)
    results = home / "results" / "balls"
    best, images = ["--best", "balls", "--workspace", str(home)], home / "raw" / "balls" / "imagesTr"
    arguments = ["-i", str(images), "-o", str(tmp_path / "out"), *best, "--device", "cpu"]
    find = ["balls", "--workspace", str(home), "--no-pairs"]
    assert main(find) == 0
    selection = read_selection(results)
    (member,) = selection.members
    (loser,) = {"unet__3d_fullres", "unetrpp__3d_fullres"} - {member}
    shutil.copytree(results / member / "fold_0", results / member / "fold_all")  # is no part of the comparison
    shutil.rmtree(results / member / "fold_all" / "validation")
    assert predict(arguments) == 0
    evaluate_model(results / member, distances=True, processes=1)  # adds metrics, and changes nothing of the choice
    assert predict(arguments) == 0
    if changed == "weights":
        shutil.copy(results / loser / "fold_0/checkpoint_final.pt", results / member / "fold_0/checkpoint_final.pt")
    elif changed == "scores":
        summary = results / loser / "fold_0/validation/summary.json"
        summary.write_text(re.sub(r'"TP": (\d+)', r'"TP": 1\1', summary.read_text()))
    elif changed == "a member is gone":
        shutil.rmtree(results / member)
    elif changed == "folds":
        shutil.rmtree(results / member / "fold_1")
    else:
        content = json.loads((results / "inference.json").read_text())
        del content["made_from"], content["left_out"]
        (results / "inference.json").write_text(json.dumps(content))
    capsys.readouterr()
    assert predict(arguments) == 2
    assert "run unetrpp_find_best again, or give the models with -m" in capsys.readouterr().err
    assert main(find) == 0
    assert predict([*arguments, "--overwrite"]) == 0


def test_best_without_a_selection(tmp_path, capsys):
    (tmp_path / "raw" / "balls").mkdir(parents=True)
    arguments = ["-i", tmp_path, "-o", tmp_path / "out", "--best", "balls", "--workspace", tmp_path]
    assert predict([str(a) for a in arguments]) == 2
    assert "run unetrpp_find_best" in capsys.readouterr().err


def test_a_model_whose_dice_is_undefined_comes_last_and_is_named_so():
    """Not with a Dice of 0, which a model may really have."""

    def scored(dice):
        metrics = {"1": {"Dice": dice, "n_pred": 0, "n_ref": int(dice is not None)}}
        case = CaseScores(case="a", fold=0, prediction_file="a", reference_file="a", metrics=metrics)
        return CrossValidation(folds=(), mean_over_folds={}, summary=summarize([case], LABELS))

    ranked = rank({("undefined",): scored(None), ("zero",): scored(0.0), ("good",): scored(0.5)})
    assert [(candidate.name, candidate.dice) for candidate in ranked] == [
        ("good", 0.5),
        ("zero", 0.0),
        ("undefined", None),
    ]
    assert reasons(ranked[1:], NOTHING, LABELS)[:2] == (
        "zero: mean Dice 0.0000 over 1 case",
        "next best undefined: undefined",
    )
    assert "neither references nor predictions have any foreground" in reasons(ranked[2:], NOTHING, LABELS)[0]
