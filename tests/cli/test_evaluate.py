"""The command: two folders, a model's cross-validation, and its exit codes."""

import json
import shutil

import msgspec
import numpy as np
import pytest
import SimpleITK as sitk

from tests.helpers.model import make_model, write_images
from unetrpp.cli.evaluate import error_lines, main
from unetrpp.cli.predict import main as predict
from unetrpp.core.parallel import CaseError
from unetrpp.dataset.labels import LabelScheme
from unetrpp.dataset_conversion.convert import main as convert
from unetrpp.evaluation.cross_validation import evaluate_model
from unetrpp.evaluation.evaluate import evaluate as evaluate_folders
from unetrpp.evaluation.evaluate import evaluate_folder
from unetrpp.evaluation.summary import Summary, write_summary
from unetrpp.io.geometry import Geometry
from unetrpp.io.images import write_segmentation

GEOMETRY = Geometry(shape_zyx=(3, 6, 6), spacing_zyx_mm=(1.0, 1.0, 1.0))


def write(folder, case, columns):
    array = np.zeros(GEOMETRY.shape_zyx, np.uint8)
    array[:, :, :columns] = 1
    write_segmentation(folder / f"{case}.nii.gz", array, GEOMETRY)


@pytest.fixture
def dataset(tmp_path):
    """raw/ with dataset.json and labelsTs, and predictions/."""
    for case, ours, theirs in (("a", 2, 2), ("b", 1, 3)):
        write(tmp_path / "predictions", case, ours)
        write(tmp_path / "raw" / "labelsTs", case, theirs)
    content = {"channel_names": {"0": "MRI"}, "labels": {"background": 0, "ball": 1}, "file_ending": ".nii.gz"}
    (tmp_path / "raw" / "dataset.json").write_text(json.dumps(content))
    return tmp_path


def evaluate(*arguments):
    return main([str(a) for a in arguments])


def test_folders(dataset, capsys):
    assert evaluate(dataset / "predictions", dataset / "raw" / "labelsTs", "--processes", 1, "--distances") == 0
    out = capsys.readouterr().out
    assert "ball" in out
    assert "HD95" in out
    summary = json.loads((dataset / "predictions" / "summary.json").read_text())
    assert summary["foreground_mean"]["Dice"] == pytest.approx((1 + 0.5) / 2)
    assert out.splitlines()[-1] == f"every case and class: {dataset / 'predictions' / 'summary.json'} and summary.csv"
    assert (dataset / "predictions" / "summary.csv").exists()


def test_the_call_from_python_is_that_of_the_command(dataset):
    predictions, references = dataset / "predictions", dataset / "raw" / "labelsTs"
    assert evaluate(predictions, references, "--processes", 1, "--distances", "--tolerance", 2) == 0
    written = (predictions / "summary.json").read_bytes()
    summary, errors = evaluate_folders(f"{predictions}", f"{references}", processes=1, distances=True, tolerance=2)
    assert (predictions / "summary.json").read_bytes() == written
    assert summary == msgspec.json.decode(written, type=Summary)
    assert errors == []


def test_a_missing_prediction_is_named_and_exits_with_1(dataset, capsys):
    (dataset / "predictions" / "b.nii.gz").unlink()
    references = dataset / "raw" / "labelsTs"
    assert evaluate(dataset / "predictions", references, "--processes", 1) == 1
    assert capsys.readouterr().err.startswith("b  ")
    assert evaluate(dataset / "predictions", references, "--processes", 1, "--predicted-only") == 0


def test_the_scores_are_over_the_cases_that_could_be_scored(dataset, capsys):
    predictions, references = dataset / "predictions", dataset / "raw" / "labelsTs"
    (predictions / "b.nii.gz").write_bytes(b"")
    assert evaluate(predictions, references, "--processes", 1) == 1
    out, err = capsys.readouterr()
    assert "ball" in out
    assert err.splitlines()[-1] == "1 of 2 cases is scored, the means are over these"
    assert json.loads((predictions / "summary.json").read_text())["foreground_mean"]["Dice"] == 1


def test_where_nothing_can_be_scored_nothing_is_written_and_nothing_older_stays(dataset, capsys):
    predictions, references = dataset / "predictions", dataset / "raw" / "labelsTs"
    assert evaluate(predictions, references, "--processes", 1) == 0
    before = sorted(path.name for path in predictions.iterdir())
    capsys.readouterr()
    for case in "ab":
        (predictions / f"{case}.nii.gz").write_bytes(b"")
    assert (
        evaluate(predictions, references, "--processes", 1, "--protocol", "brats") == 2
    )  # refused, so nothing changes
    assert sorted(path.name for path in predictions.iterdir()) == before
    capsys.readouterr()
    assert evaluate(predictions, references, "--processes", 1) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert err.splitlines()[-1] == "0 of 2 cases are scored, so no summary is written"
    assert sorted(path.name for path in predictions.iterdir()) == ["a.nii.gz", "b.nii.gz"]


def test_scores_do_not_outlive_the_predictions(dataset, capsys):
    predictions, references = dataset / "predictions", dataset / "raw" / "labelsTs"
    assert evaluate(predictions, references, "--processes", 1) == 0
    (predictions / "b.nii.gz").unlink()
    (predictions / "a.nii.gz").rename(predictions / "c.nii.gz")
    (predictions / "notes.txt").touch()
    assert evaluate(predictions, dataset / "predictions", "--dataset-json", dataset / "raw" / "dataset.json") == 0
    (predictions / "c.nii.gz").rename(dataset / "c.nii.gz")
    assert evaluate(predictions, references) == 2
    assert "nothing to score" in capsys.readouterr().err
    assert [path.name for path in predictions.iterdir()] == ["notes.txt"]


def test_scores_stay_where_the_wrong_references_are_given(dataset, capsys):
    predictions, references = dataset / "predictions", dataset / "raw" / "labelsTs"
    assert evaluate(predictions, references, "--processes", 1) == 0
    written = (predictions / "summary.json").read_bytes()
    write(dataset / "other", "x", 2)
    assert evaluate(predictions, dataset / "other", "--dataset-json", dataset / "raw" / "dataset.json") == 2
    assert "has no reference" in capsys.readouterr().err
    assert (predictions / "summary.json").read_bytes() == written


def test_cases_with_the_same_error_share_a_line():
    errors = [CaseError(case, "evaluating", "is odd" if case == "c" else "has no prediction") for case in "abcdefgh"]
    assert error_lines(errors) == ["a, b, d, e, f and 2 more  has no prediction", "c  is odd"]


def test_maps_next_to_predictions_are_not_scored(tmp_path):
    model = make_model(tmp_path / "model")
    write_images(tmp_path / "images", 1)
    out, references = tmp_path / "out", tmp_path / "references"
    images = ["-i", str(tmp_path / "images"), "-o", str(out), "-m", str(model), "--device", "cpu", "--no-mirroring"]
    assert predict([*images, "--uncertainty", "--probabilities"]) == 0
    references.mkdir()
    shutil.copy(out / "case_0.nii.gz", references)
    assert len(list(out.glob("*.nii.gz"))) > 3
    assert evaluate(out, references, "--dataset-json", model / "dataset.json", "--processes", 1) == 0


def test_predictions_are_scored_where_no_dataset_json_is_named(tmp_path, capsys):
    """From conversion to scores: references that number objects, held out, and labels of predictions.json or the model."""
    model, source = make_model(tmp_path / "model"), tmp_path / "source"
    write_images(source / "images", 3)
    for path in sorted((source / "images").iterdir()):
        case = path.name.removesuffix("_0000.nii.gz")
        image = sitk.ReadImage(str(path))
        objects = sitk.GetImageFromArray(np.random.default_rng(0).integers(0, 40, sitk.GetArrayFromImage(image).shape))
        objects.CopyInformation(image)
        (source / "labels").mkdir(exist_ok=True)
        sitk.WriteImage(sitk.Cast(objects, sitk.sitkUInt16), str(source / "labels" / f"{case}.nii.gz"))
    where = ["--images", "images/{case}_0000.nii.gz", "--labels", "labels", "--workspace", str(tmp_path / "w")]
    classes = ["--channel", "MRI", "--label", "ball=1", "--foreground-from-instances", "--hold-out", "2"]
    assert convert(["folder", str(source), *where, *classes, "--processes", "1"]) == 0
    raw, out, numbered = tmp_path / "w/raw/source", tmp_path / "out", tmp_path / "numbered"
    files = ["-i", str(raw / "imagesTs"), "-o", str(out), "-m", str(model)]
    assert predict([*files, "--device", "cpu", "--no-mirroring"]) == 0
    assert evaluate(out, raw / "labelsTs", "--processes", 1) == 0
    expected = json.loads((out / "summary.json").read_text())["foreground_mean"]["Dice"]
    capsys.readouterr()
    numbered.mkdir()
    for path in (raw / "labelsTs").iterdir():
        shutil.copy(source / "labels" / path.name, numbered)
    assert evaluate(out, numbered, "--processes", 1) == 1  # labels of predictions.json
    assert (
        "holds labels 2, 3, 4, 5, 6, ... (38 values), which are not in dataset.json (0, 1)" in capsys.readouterr().err
    )
    for more in ((), ("--dataset-json", model)):
        assert evaluate(out, numbered, "--foreground-from-instances", "--processes", 1, *more) == 0
        assert "summary.json and summary.csv" in capsys.readouterr().out
        assert json.loads((out / "summary.json").read_text())["foreground_mean"]["Dice"] == expected
    assert evaluate(numbered, out, "--processes", 1) == 2  # nnU-Net's order
    assert f"{out} holds predictions, which come first, before the references" in capsys.readouterr().err
    (out / "predictions.json").unlink()
    assert evaluate(out, numbered, "--processes", 1) == 2
    assert "give --dataset-json (a dataset.json, or the model folder)" in capsys.readouterr().err


def test_wrong_usage_exits_with_2(dataset, capsys):
    assert evaluate(dataset / "predictions") == 2
    assert "give PREDICTIONS and REFERENCES" in capsys.readouterr().err
    assert evaluate(dataset / "predictions", dataset / "predictions") == 2
    assert "dataset.json" in capsys.readouterr().err
    assert evaluate("--model", dataset) == 2
    assert "is not a model folder" in capsys.readouterr().err


@pytest.fixture
def model(dataset):
    """Two folds, each validated on one case of the dataset."""
    model = make_model(dataset, folds=2)
    scheme = LabelScheme(names=("background", "ball"), values=(0, 1))
    for fold, case in enumerate("ab"):
        validation = model / f"fold_{fold}" / "validation"
        validation.mkdir()
        (dataset / "predictions" / f"{case}.nii.gz").rename(validation / f"{case}.nii.gz")
        references = dataset / "raw" / "labelsTs"
        summary, _ = evaluate_folder(validation, references, scheme, ".nii.gz", predicted_only=True, processes=1)
        write_summary(validation, summary)
    return model


def test_cross_validation_of_a_model_folder(model, capsys):
    assert evaluate("--model", model) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[1].split() == ["0", "1", "1.000", "1.000"]
    assert lines[3].split() == ["mean", "0.750", "0.750"]
    assert lines[-2:] == [
        f"every case and class: {model / 'crossval_summary.json'} and crossval_summary.csv",
        f"next: unetrpp_report {model}",
    ]
    assert json.loads((model / "crossval_summary.json").read_text())["mean_over_folds"]["Dice"] == 0.75


def test_distances_of_a_model_are_scored_and_kept(model, capsys):
    assert evaluate("--model", model, "--distances", "--processes", 1) == 0
    out = capsys.readouterr().out
    assert "HD95 [mm]" in out
    assert "NSD [1 voxel]" in out
    summary = json.loads((model / "crossval_summary.json").read_text())["summary"]
    assert summary["mean"]["1"]["HD95"] == (0 + 2) / 2  # of b, 1 of 3 columns is found
    assert summary["distances"] == {"unit": "mm", "tolerance": None}
    assert evaluate("--model", model, "--distances", "--tolerance", 2) == 0
    assert "NSD [2 mm]" in capsys.readouterr().out
    assert evaluate("--model", model) == 0
    assert "NSD [2 mm]" in capsys.readouterr().out


def test_a_model_whose_references_are_gone_is_refused_before_anything_is_scored(dataset, model, capsys):
    labels = dataset / "raw" / "labelsTs"
    before = (model / "fold_0" / "validation" / "summary.json").read_bytes()
    (labels / "b.nii.gz").rename(dataset / "b.nii.gz")
    assert evaluate("--model", model, "--distances") == 2
    assert "b: its reference" in capsys.readouterr().err
    assert (model / "fold_0" / "validation" / "summary.json").read_bytes() == before


def test_references_are_found_in_the_workspace_after_it_was_moved(dataset, model):
    home = dataset / "workspace"
    (home / "results" / "balls").mkdir(parents=True)
    moved = model.rename(home / "results" / "balls" / "unetrpp__3d_fullres")
    (dataset / "raw" / "labelsTs").rename(home / "labels")
    (home / "preprocessed" / "balls").mkdir(parents=True)
    (home / "labels").rename(home / "preprocessed" / "balls" / "labels")
    assert evaluate_model(moved, distances=True, tolerance=1.5).summary.mean["1"]["HD95"] == 1


@pytest.mark.parametrize(
    ("arguments", "ignored"),
    [
        (["--model", "m", "--predicted-only"], "--predicted-only has no effect with --model; leave it out"),
        (["--model", "m", "--dataset-json", "d.json"], "--dataset-json has no effect with --model"),
        (["--model", "m", "--protocol", "brats"], "--protocol has no effect with --model"),
        (["--model", "m", "--processes", "2"], "--processes are for scoring the folds again"),
        (["--model", "m", "--tolerance", "2"], "--tolerance is that of the normalised surface distance"),
        (["--compare", "a", "b", "--distances", "--tolerance", "2"], "--distances and --tolerance have no effect"),
        (["--compare", "a", "b", "--processes", "2"], "--processes has no effect with --compare"),
        (["p", "r", "--tolerance", "2"], "add --distances, or leave --tolerance out"),
    ],
)
def test_options_without_effect_are_refused(dataset, model, arguments, ignored, capsys):
    named = {"m": model, "p": dataset / "predictions", "r": dataset / "raw" / "labelsTs"}
    before = sorted(dataset.rglob("*"))
    assert evaluate(*(named.get(argument, argument) for argument in arguments)) == 2
    assert ignored in capsys.readouterr().err
    assert sorted(dataset.rglob("*")) == before
