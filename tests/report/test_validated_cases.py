"""The cases of a cross-validation: their columns, which of many get a picture, and what is missing."""

import json
import shutil
from dataclasses import replace
from itertools import pairwise

import msgspec
import pytest

from tests.helpers.html import Page
from tests.helpers.model import give_own_attention
from tests.helpers.pictures import unpacked
from tests.helpers.scores import cross_validation
from tests.helpers.validated import validated_workspace
from unetrpp.cli.report import main
from unetrpp.evaluation.cross_validation import pool_folds
from unetrpp.io.images import read_label, write_segmentation
from unetrpp.model.folder import ModelFolder
from unetrpp.report.model_report import write_report
from unetrpp.report.shown_cases import raw_cases, shown_cases
from unetrpp.report.validated_cases import NO_IMAGE, NO_PREDICTION, case_viewer, spread, validation_columns


@pytest.fixture(scope="module")
def workspace(tmp_path_factory):
    return validated_workspace(tmp_path_factory.mktemp("workspace"))


@pytest.fixture
def model(workspace):
    return ModelFolder.open(workspace / "results" / "balls" / "unetrpp__3d_fullres")


def summary_of(model: ModelFolder):
    return pool_folds(model.path, model.plans.labels).summary


def test_every_case_has_its_scores_its_volume_and_a_picture(workspace, model):
    shown = case_viewer(model, summary_of(model), raw_cases(model, workspace))
    assert [column.heading for column in shown.table.columns] == ["fold", "Dice ball", "ball (ml)", "warnings"]
    assert sorted(shown.table.cases) == ["case_0", "case_1"]
    for case in ("case_0", "case_1"):
        scores = next(each for each in summary_of(model).metric_per_case if each.case == case)
        fold, dice, volume, _ = dict(shown.table.rows())[case]
        prediction = read_label(model.path / f"fold_{case[-1]}" / "validation" / f"{case}.nii.gz")
        assert (fold.text, dice.value) == (case[-1], scores.metrics["1"]["Dice"])
        assert volume.value == pytest.approx((prediction.array == 1).sum() * 1.5 * 0.9 * 0.9 / 1000)
        arrays = unpacked(shown.pictures.embedded[case])
        assert arrays["prediction"].sum() == prediction.array.sum()
        reference = read_label(workspace / "raw" / "balls" / "labelsTr" / f"{case}.nii.gz")
        assert arrays["reference"].sum() == reference.array.sum()


def test_without_an_image_or_a_prediction_the_row_stays_and_the_page_says_why(workspace, model, tmp_path):
    cases = raw_cases(model, workspace)
    prediction = model.path / "fold_0" / "validation" / "case_0.nii.gz"
    prediction.rename(tmp_path / "kept.nii.gz")
    try:
        shown = case_viewer(model, summary_of(model), [case for case in cases if case.id == "case_0"])
    finally:
        (tmp_path / "kept.nii.gz").rename(prediction)
    assert shown.pictures.missing == {"case_0": NO_PREDICTION, "case_1": NO_IMAGE}
    assert len(shown.table.cases) == 2
    assert shown.coverage == "This page holds no pictures of cases."


def test_maps_are_those_of_the_fold_that_held_the_case_out(workspace, model):
    give_own_attention(model.path, 0, {"gate@0": 1.5})
    arguments = [str(model.path), "--workspace", str(workspace), "--maps", "--device", "cpu"]
    assert main(arguments) == 0
    page = Page((model.path / "report.html").read_text())
    settings = json.loads(next(content for kind, content in page.scripts if kind == "application/json"))
    maps = {case["name"]: [each["name"] for each in case["picture"]["maps"]] for case in settings["cases"]}
    assert maps == {"case_0": ["entropy", "gate@0"], "case_1": ["entropy"]}
    again = write_report(model.path, workspace=workspace, maps=True, device="cpu")
    assert Page(again.read_text()).scripts == page.scripts


def test_maps_need_the_networks(workspace, model, capsys):
    checkpoint = model.path / "fold_1" / "checkpoint_final.pt"
    checkpoint.rename(checkpoint.with_suffix(".kept"))
    try:
        assert main([str(model.path), "--workspace", str(workspace), "--maps"]) == 2
    finally:
        checkpoint.with_suffix(".kept").rename(checkpoint)
    assert "fold 1" in capsys.readouterr().err


@pytest.mark.parametrize("classes", [1, 5, 6, 37])
def test_few_classes_have_a_column_and_of_many_the_lowest(classes):
    summary = cross_validation(classes, cases=3).summary
    headings = [column.heading for column in validation_columns(summary, {}, {})]
    named = [f"Dice class {i + 1}" for i in range(classes)]
    scores = named if classes <= 5 else ["lowest class", "Dice of this class"]
    assert headings == ["fold", *["mean Dice"] * (classes > 1), *scores, "warnings"]


def test_of_many_cases_the_lowest_and_an_even_share_of_the_others_get_a_picture():
    ranked = cross_validation(1, cases=100).summary.metric_per_case
    order = spread(ranked)
    assert sorted(case.case for case in order) == sorted(case.case for case in ranked)
    places = [ranked.index(case) for case in order[:40]]
    assert places[:20] == list(range(20))
    assert places[-1] == 99
    gaps = [b - a for a, b in pairwise(places[20:])]
    assert set(gaps) <= {4, 5}
    assert spread(ranked[:40]) == list(ranked[:40])


def test_the_raw_dataset_is_looked_up_where_the_model_lies(workspace, model, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert [case.id for case in raw_cases(model, None)] == [case.id for case in raw_cases(model, workspace)]
    copy = tmp_path / "copy" / model.path.name
    shutil.copytree(model.path, copy)
    assert raw_cases(ModelFolder.open(copy), None) == ()
    monkeypatch.setenv("UNETRPP_WORKSPACE", str(workspace))
    assert len(raw_cases(ModelFolder.open(copy), None)) == len(raw_cases(model, workspace))


def test_a_prediction_on_another_grid_than_the_image_has_no_picture(workspace, model, tmp_path, caplog):
    (case, *_) = raw_cases(model, workspace)
    assert case.label is not None
    volume = read_label(case.label)
    cut = msgspec.structs.replace(
        volume.geometry, shape_zyx=(volume.geometry.shape_zyx[0] - 1, *volume.geometry.shape_zyx[1:])
    )
    write_segmentation(tmp_path / "cut.nii.gz", volume.array[0, 1:], cut)
    changed = {case.id: replace(case, images=(tmp_path / "cut.nii.gz",))}
    assert list(shown_cases(model, summary_of(model), changed)) == []
    assert f"{case.id} has no picture: " in caplog.text
    assert "are on different grids" in caplog.text
