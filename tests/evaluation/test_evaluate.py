"""Folders against folders: scores, undefined cases, errors by case, and the files written."""

import csv
import json
import os
from unicodedata import normalize

import numpy as np
import pytest

from unetrpp.core.errors import UserError
from unetrpp.dataset.labels import LabelScheme
from unetrpp.evaluation.evaluate import evaluate, evaluate_folder
from unetrpp.evaluation.metrics import MetricOptions
from unetrpp.evaluation.summary import as_table, write_summary
from unetrpp.io.geometry import Geometry
from unetrpp.io.images import write_segmentation

SCHEME = LabelScheme(names=("background", "a", "b"), values=(0, 1, 2))
GEOMETRY = Geometry(shape_zyx=(4, 5, 6), spacing_zyx_mm=(2.0, 1.0, 1.0), origin_xyz_mm=(3, 2, 1))


def write(folder, case, voxels_a, voxels_b, *, geometry=GEOMETRY):
    array = np.zeros(geometry.shape_zyx, np.uint8)
    array[0].flat[:voxels_a] = 1
    array[2].flat[:voxels_b] = 2
    write_segmentation(folder / f"{case}.nii.gz", array, geometry)


@pytest.fixture
def folders(tmp_path):
    predictions, references = tmp_path / "predictions", tmp_path / "references"
    for case, (ours, theirs) in {"c1": ((4, 6), (8, 6)), "c2": ((4, 0), (4, 0)), "c3": ((2, 0), (2, 5))}.items():
        write(predictions, case, *ours)
        write(references, case, *theirs)
    return predictions, references


def test_summary_of_two_folders(folders, tmp_path):
    summary, errors = evaluate_folder(
        folders[0], folders[1], SCHEME, ".nii.gz", options=MetricOptions(distances=True), processes=1
    )
    assert not errors
    assert summary.mean["1"]["Dice"] == pytest.approx((2 * 4 / 12 + 1 + 1) / 3)
    assert summary.mean["2"]["Dice"] == pytest.approx((1 + 0) / 2)  # undefined in c2, missed in c3
    assert summary.foreground_mean["Dice"] == pytest.approx((8 / 9 + 1 / 2) / 2)
    counts = summary.counts["2"]
    assert (counts.cases, counts.undefined, counts.missed, counts.invented) == (3, 1, 1, 0)
    assert summary.mean["2"]["HD95"] == 0
    assert summary.mean["2"]["HD95_or_diagonal"] == pytest.approx(np.sqrt(8**2 + 5**2 + 6**2) / 2)
    write_summary(tmp_path, summary)
    content = json.loads((tmp_path / "summary.json").read_text())
    assert {"foreground_mean", "mean", "metric_per_case"} <= content.keys()  # nnU-Net's
    assert content["metric_per_case"][1]["metrics"]["2"]["Dice"] is None
    rows = list(csv.DictReader((tmp_path / "summary.csv").read_text().splitlines()))
    assert [(r["case"], r["class"], r["Dice"]) for r in rows[2:4]] == [("c2", "a", "1"), ("c2", "b", "")]
    assert "a" in as_table(summary)


def test_names_are_paired_whatever_their_unicode_form(tmp_path):
    predictions, references = tmp_path / "predictions", tmp_path / "references"
    write(predictions, normalize("NFD", "Müller"), 4, 6)
    write(references, normalize("NFC", "Müller"), 4, 6)
    summary, errors = evaluate_folder(predictions, references, SCHEME, ".nii.gz", processes=1)
    assert not errors
    assert [case.case for case in summary.metric_per_case] == [normalize("NFC", "Müller")]
    write(predictions, normalize("NFC", "Müller"), 4, 6)
    with pytest.raises(UserError, match="two files Müller, whose names differ only in the Unicode form"):
        evaluate_folder(predictions, references, SCHEME, ".nii.gz", processes=1)


def test_a_name_that_is_not_utf_8_is_an_error_of_its_case(folders, tmp_path):
    for folder in folders:
        (folder / "c1.nii.gz").rename(folder / os.fsdecode(b"M\xfcller.nii.gz"))
    summary, errors = evaluate_folder(folders[0], folders[1], SCHEME, ".nii.gz", processes=1)
    assert [case.case for case in summary.metric_per_case] == ["c2", "c3"]
    assert [error.message for error in errors] == [
        "the file name is not UTF-8; rename the prediction and the reference"
    ]
    write_summary(tmp_path, summary)


def test_folders_whose_names_are_not_utf_8_are_scored(folders, tmp_path):
    above = tmp_path / os.fsdecode(b"f\xfcnf")
    above.mkdir()
    moved = [folder.rename(above / folder.name) for folder in folders]
    summary, errors = evaluate_folder(moved[0], moved[1], SCHEME, ".nii.gz", processes=1)
    assert not errors
    write_summary(moved[0], summary)
    assert "f\\\\xfcnf/predictions/c1.nii.gz" in (moved[0] / "summary.json").read_text()


def test_every_case_at_fault_is_named_and_the_others_are_scored(folders):
    predictions, references = folders
    (predictions / "c1.nii.gz").unlink()
    write(predictions, "c2", 4, 0, geometry=Geometry(shape_zyx=(4, 5, 6), spacing_zyx_mm=(2.0, 1.0, 1.0)))
    summary, errors = evaluate_folder(predictions, references, SCHEME, ".nii.gz", processes=1)
    assert [error.case for error in errors] == ["c1", "c2"]
    assert "no prediction in" in errors[0].message
    assert "different grids" in errors[1].message
    assert [case.case for case in summary.metric_per_case] == ["c3"]
    summary, errors = evaluate_folder(predictions, references, SCHEME, ".nii.gz", predicted_only=True, processes=1)
    assert [error.case for error in errors] == ["c2"]


def test_a_prediction_without_reference_and_empty_folders_are_refused(folders, tmp_path):
    predictions, references = folders
    write(predictions, "extra", 1, 1)
    with pytest.raises(UserError, match=r"extra.nii.gz .* has no reference"):
        evaluate_folder(predictions, references, SCHEME, ".nii.gz")
    with pytest.raises(UserError, match="is not a folder"):
        evaluate_folder(tmp_path / "nowhere", references, SCHEME, ".nii.gz")
    with pytest.raises(UserError, match="nothing to score"):
        evaluate_folder(predictions, references, SCHEME, ".png", predicted_only=True)


def test_images_that_are_not_compared_are_named(folders):
    predictions, references = folders
    (predictions / "c1.nii.gz").rename(predictions / "c1.NII.GZ")
    write_segmentation(references / "c4.nrrd", np.zeros(GEOMETRY.shape_zyx, np.uint8), GEOMETRY)
    for name in (".DS_Store", "notes.txt", "c2.npz", "Thumbs.db"):
        (predictions / name).write_bytes(b"x" * 200)
    summary, errors = evaluate_folder(predictions, references, SCHEME, ".nii.gz", processes=1)
    assert [scores.case for scores in summary.metric_per_case] == ["c2", "c3"]
    assert [error.case for error in errors] == ["c1", "c1.NII.GZ", "c4.nrrd"]
    assert "does not end in .nii.gz" in errors[1].message
    _, errors = evaluate_folder(predictions, references, SCHEME, ".nii.gz", predicted_only=True, processes=1)
    assert [error.case for error in errors] == ["c1.NII.GZ"]


def test_an_unknown_label_is_an_error_of_its_case(folders):
    _, references = folders
    narrow = LabelScheme(names=("background", "a"), values=(0, 1))
    _, errors = evaluate_folder(references, references, narrow, ".nii.gz", processes=1)
    assert {error.case for error in errors} == {"c1", "c3"}
    assert "label 2" in errors[0].message


def test_instances_of_references_count_as_the_one_class(tmp_path):
    predictions, references = tmp_path / "predictions", tmp_path / "references"
    numbers = np.random.default_rng(0).integers(0, 12, GEOMETRY.shape_zyx).astype(np.uint16)
    guess = np.random.default_rng(1).integers(0, 2, GEOMETRY.shape_zyx).astype(np.uint8)
    write_segmentation(predictions / "c.nii.gz", guess, GEOMETRY)
    write_segmentation(references / "c.nii.gz", numbers, GEOMETRY)
    scheme = LabelScheme(names=("background", "cell"), values=(0, 1), ignore_value=9)
    summary, errors = evaluate_folder(
        predictions, references, scheme, ".nii.gz", options=MetricOptions(instances=True), processes=1
    )
    assert not errors
    known, true = numbers != 9, (numbers > 0) & (numbers != 9)
    both = (guess == 1) & true & known
    dice = 2 * both.sum() / (((guess == 1) & known).sum() + true.sum())
    assert summary.mean["1"]["Dice"] == pytest.approx(dice)
    _, errors = evaluate_folder(predictions, references, scheme, ".nii.gz", processes=1)
    assert "holds labels 2, 3, 4, 5, 6, ... (9 values)" in errors[0].message
    assert "--foreground-from-instances" in errors[0].message
    with pytest.raises(UserError, match=r"is for one class, but there are 2 \(a and b\)"):
        evaluate_folder(predictions, references, SCHEME, ".nii.gz", options=MetricOptions(instances=True))


@pytest.mark.parametrize("scale", [1e-3, 1.0])
def test_grids_several_voxels_apart_are_no_match_at_any_scale(tmp_path, scale):
    """Six voxels of a micrometre are less than a hundredth of a millimetre."""
    spacing = (2.0 * scale, scale, scale)
    for folder, shift in (("predictions", 0.0), ("references", 6 * scale), ("rounded", 0.001 * scale)):
        origin = (shift, shift, 0.0)
        grid = Geometry(shape_zyx=(4, 5, 6), spacing_zyx_mm=spacing, origin_xyz_mm=origin)
        write(tmp_path / folder, "c1", 4, 6, geometry=grid)
    _, errors = evaluate_folder(tmp_path / "predictions", tmp_path / "references", SCHEME, ".nii.gz", processes=1)
    assert "different grids" in errors[0].message
    pair = tmp_path / "predictions", tmp_path / "rounded"
    summary, errors = evaluate_folder(*pair, SCHEME, ".nii.gz", processes=1, options=MetricOptions(distances=True))
    assert not errors
    assert summary.metric_per_case[0].metrics["1"]["volume_ref_ml"] == pytest.approx(4 * 2 * scale**3 / 1000, rel=1e-9)


@pytest.mark.parametrize("label", [1, 9])
def test_a_summary_of_another_program_is_kept(tmp_path, label):
    """Such as nnU-Net's in fold_0/validation; with label 9 no case can be scored."""
    predictions, references = tmp_path / "predictions", tmp_path / "references"
    write(references, "c", 4, 0)
    write_segmentation(predictions / "c.nii.gz", np.full(GEOMETRY.shape_zyx, label, np.uint8), GEOMETRY)
    (tmp_path / "dataset.json").write_text(
        '{"channel_names": {"0": "CT"}, "labels": {"background": 0, "a": 1, "b": 2}, "file_ending": ".nii.gz"}'
    )
    theirs = predictions / "summary.json"
    theirs.write_text('{"results": {"all": []}}')
    evaluate(predictions, references, dataset_json=tmp_path / "dataset.json", processes=1)
    assert (predictions / "summary_of_another_program.json").read_text() == '{"results": {"all": []}}'
    assert theirs.exists() == (label == 1)
    evaluate(predictions, references, dataset_json=tmp_path / "dataset.json", processes=1)
    assert (predictions / "summary_of_another_program.json").read_text() == '{"results": {"all": []}}'
