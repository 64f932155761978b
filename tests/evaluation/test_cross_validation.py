"""The cross-validation of a model folder: pooled cases against one summary of all, and means over folds."""

import json
import shutil

import numpy as np
import pytest

from tests.helpers.model import make_model
from unetrpp.core.errors import UserError
from unetrpp.dataset.labels import LabelScheme
from unetrpp.evaluation import cross_validation
from unetrpp.evaluation.cross_validation import (
    cross_validation_of,
    evaluate_model,
    fold_table,
    pool_folds,
    update_cross_validation,
)
from unetrpp.evaluation.metrics import OVERLAP_ONLY, MetricOptions, score_case
from unetrpp.evaluation.summary import CaseScores, summarize, write_summary
from unetrpp.io.geometry import Geometry
from unetrpp.model.folder import ModelFolder
from unetrpp.report.model_report import model_page

SCHEME = LabelScheme(names=("background", "ball"), values=(0, 1))
GEOMETRY = Geometry(shape_zyx=(1, 1, 10), spacing_zyx_mm=(1.0, 1.0, 1.0))


def scores(case, hits, options=OVERLAP_ONLY):
    """Scores of a row of ten voxels, of which the prediction has the first ``hits``; Dice is 2 hits / (10 + hits)."""
    predicted = (np.arange(10) < hits).astype(int).reshape(1, 1, 10)
    metrics = score_case(predicted, np.ones((1, 1, 10), int), GEOMETRY, SCHEME, options=options)
    return CaseScores(case=case, prediction_file=f"{case}.nii.gz", reference_file=f"{case}.nii.gz", metrics=metrics)


def validate(model, folds):
    for fold, cases in folds.items():
        write_summary(model / f"fold_{fold}" / "validation", summarize([scores(*case) for case in cases], SCHEME))


def test_cases_are_pooled_and_folds_averaged(tmp_path):
    model = make_model(tmp_path, folds=3)  # fold 2 is not validated
    folds = {0: [("c1", 10)], 1: [("c3", 0), ("c2", 5)]}
    validate(model, folds)
    (model / "fold_all").mkdir()
    result = evaluate_model(model)
    assert [(fold.fold, fold.cases) for fold in result.folds] == [(0, 1), (1, 2)]
    assert [(case.case, case.fold) for case in result.summary.metric_per_case] == [("c1", 0), ("c2", 1), ("c3", 1)]
    whole = summarize([scores(*case) for cases in folds.values() for case in cases], SCHEME)
    assert result.summary.mean == whole.mean
    dice = {"c1": 1, "c2": 10 / 15, "c3": 0}
    assert result.summary.mean["1"]["Dice"] == pytest.approx(sum(dice.values()) / 3)
    assert result.mean_over_folds["Dice"] == pytest.approx((dice["c1"] + (dice["c2"] + dice["c3"]) / 2) / 2)


def test_the_files_and_the_table(tmp_path):
    model = make_model(tmp_path, folds=2)
    validate(model, {0: [("c1", 10)], 1: [("c2", 5)]})
    result = evaluate_model(model)
    assert json.loads((model / "crossval_summary.json").read_text())["folds"][1]["fold"] == 1
    header, first, second = (model / "crossval_summary.csv").read_text().splitlines()
    assert header.startswith("case,fold,label,class,Dice")
    assert (first.split(",")[:5], second.split(",")[:5]) == (
        ["c1", "0", "1", "ball", "1"],
        ["c2", "1", "1", "ball", "0.666667"],
    )
    lines = fold_table(result).splitlines()
    assert [line.split() for line in lines[1:4]] == [
        ["0", "1", "1.000", "1.000"],
        ["1", "1", "0.667", "0.667"],
        ["mean", "0.833", "0.833"],
    ]


def test_a_case_that_two_folds_hold_out_counts_once(tmp_path, caplog):
    caplog.set_level("INFO")
    model = make_model(tmp_path, folds=2)
    validate(model, {0: [("c1", 10)], 1: [("c1", 5), ("c2", 0)]})
    result = pool_folds(model, SCHEME)
    assert [(case.case, case.fold) for case in result.summary.metric_per_case] == [("c1", 0), ("c2", 1)]
    assert result.summary.mean["1"]["Dice"] == pytest.approx((1 + 0) / 2)
    assert [fold.cases for fold in result.folds] == [1, 2]
    assert "several folds hold out c1; only the score of the first of these folds counts" in caplog.text


@pytest.mark.parametrize("fold", [0, 1])
def test_metrics_that_one_fold_lacks_are_left_out_and_named(tmp_path, fold, caplog):
    """As after `unetrpp_evaluate fold_0/validation REFERENCES --distances`."""
    model = make_model(tmp_path, folds=2)
    validate(model, {0: [("c1", 10)], 1: [("c2", 5)]})
    expected = pool_folds(model, SCHEME)
    case = ("c1", 10) if fold == 0 else ("c2", 5)
    rewritten = summarize([scores(*case, MetricOptions(distances=True))], SCHEME)
    write_summary(model / f"fold_{fold}" / "validation", rewritten)
    result = evaluate_model(model)
    assert "not every fold has HD95, " in caplog.text
    assert (result.folds, result.summary, result.mean_over_folds) == (
        expected.folds,
        expected.summary,
        expected.mean_over_folds,
    )
    assert "HD95" not in fold_table(result)
    assert model_page(ModelFolder.open(model), result, [])


def test_scores_of_other_classes_and_damaged_ones_are_named(tmp_path):
    model = make_model(tmp_path, folds=2)
    validate(model, {0: [("c1", 10)], 1: [("c2", 5)]})
    with pytest.raises(
        UserError, match="has the classes ball, but the model has liver; delete it and run unetrpp_train"
    ):
        pool_folds(model, LabelScheme(names=("background", "liver"), values=(0, 1)))
    (model / "fold_1" / "validation" / "summary.json").write_bytes(b"{")
    with pytest.raises(UserError, match="delete it and run unetrpp_train again, which scores the fold again"):
        pool_folds(model, SCHEME)


def test_a_model_without_validation_is_refused(tmp_path):
    model = make_model(tmp_path, folds=2)
    with pytest.raises(UserError, match="no validated fold; train one"):
        evaluate_model(model)
    (model / "fold_0").rename(model / "fold_all")
    repair = (
        "predict other cases that have labels and score them .*, or train a fold .*, which takes a dataset of two cases"
    )
    with pytest.raises(UserError, match=f"no validated fold: fold_all was trained on every case, .*; {repair}"):
        evaluate_model(model)


@pytest.mark.parametrize("change", ["another fold is scored", "a fold starts again"])
def test_folds_that_end_and_start_meanwhile_are_seen(tmp_path, monkeypatch, change):
    """Folds of a model may be trained by several commands."""
    model = make_model(tmp_path, folds=2)
    validate(model, {0: [("c1", 10)]} | ({} if change == "another fold is scored" else {1: [("c2", 5)]}))
    pool, calls = pool_folds, []

    def meanwhile(folder, scheme):
        calls.append(folder)
        if len(calls) > 1:
            return pool(folder, scheme)
        if change == "another fold is scored":
            result = pool(folder, scheme)
            validate(model, {1: [("c2", 5)]})
            return result
        shutil.rmtree(model / "fold_1")
        raise UserError("summary.json does not exist")

    monkeypatch.setattr(cross_validation, "pool_folds", meanwhile)
    assert update_cross_validation(model, SCHEME) == pool(model, SCHEME)
    written = json.loads((model / "crossval_summary.json").read_text())
    assert [fold["fold"] for fold in written["folds"]] == ([0, 1] if change == "another fold is scored" else [0])
    assert len(calls) == 2


def test_the_cross_validation_follows_its_folds(tmp_path):
    model = make_model(tmp_path, folds=2)
    path = model / "crossval_summary.json"
    validate(model, {0: [("c1", 10)], 1: [("c2", 5)]})
    update_cross_validation(model, SCHEME)
    first = json.loads(path.read_text())
    stamp = path.stat().st_mtime_ns
    update_cross_validation(model, SCHEME)
    assert path.stat().st_mtime_ns == stamp
    validate(model, {1: [("c2", 0)]})
    assert cross_validation_of(model, SCHEME) == pool_folds(model, SCHEME)  # not what the file says
    update_cross_validation(model, SCHEME)
    second = json.loads(path.read_text())
    assert first["made_from"] != second["made_from"]
    assert second["mean_over_folds"]["Dice"] == pytest.approx((1 + 0) / 2)
    for fold in (0, 1):
        (model / f"fold_{fold}" / "validation" / "summary.json").unlink()
    assert cross_validation_of(model, SCHEME) is not None  # an imported model has the file alone
    update_cross_validation(model, SCHEME)
    assert not list(model.glob("crossval_summary.*"))
    assert cross_validation_of(model, SCHEME) is None
