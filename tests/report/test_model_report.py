"""The model report for few and many classes and cases, for one fold, for the fold "all", and for photographs."""

import json

import msgspec
import pytest

from tests.helpers.fingerprints import case_fingerprint
from tests.helpers.html import require_self_contained
from tests.helpers.model import make_model, make_model_2d
from tests.helpers.scores import cross_validation, label_scheme
from unetrpp.core.files import write_json
from unetrpp.dataset.labels import LabelScheme, Region
from unetrpp.model.folder import ModelFolder
from unetrpp.report.model_report import draw_cases, draw_spread, model_page, write_report
from unetrpp.report.viewer import page_script


def opened(folder, classes: int, cases: int, *, flat: bool = False) -> ModelFolder:
    """A model of a dataset of ``cases`` cases and ``classes`` classes."""
    model = ModelFolder.open(make_model_2d(folder) if flat else make_model(folder, folds=1))
    shape = (1, 64, 64) if flat else (20, 64, 64)
    measured = tuple(case_fingerprint(f"case_{i}", shape=shape) for i in range(cases))
    write_json(model.path / "fingerprint.json", msgspec.structs.replace(model.fingerprint, cases=measured))
    plans = msgspec.structs.replace(model.plans, labels=label_scheme(classes))
    return ModelFolder(model.path, plans, model.configuration_name)


@pytest.mark.parametrize(
    ("classes", "cases"), [(1, 1), (4, 44), (37, 8), pytest.param(120, 1000, marks=pytest.mark.slow)]
)
def test_pages_stay_small_and_whole(tmp_path, classes, cases):
    content = model_page(opened(tmp_path, classes, cases), cross_validation(classes, cases), ())
    page = require_self_contained(content, page_script())
    assert f"validated cases {cases} of {cases}" in page.text
    assert "Every case was predicted once" in page.text
    assert len(content) < 2_500_000  # of which 1.7 MB are a heat map of random numbers
    if cases > 15:
        assert f"All {cases} cases" in page.text
    assert sum("case_" in cell for table in page.tables for row in table for cell in row) == cases


def test_the_pictures_grow_with_the_classes():
    heights = [draw_spread(cross_validation(classes, 9).summary).get_figheight() for classes in (1, 4, 37)]
    assert heights[0] < heights[1] < heights[2]
    assert heights[2] > 8
    heat = draw_cases(cross_validation(37, 9).summary)
    assert heat is not None
    assert heat.get_figheight() > 7
    assert draw_cases(cross_validation(1, 9).summary) is None
    assert draw_cases(cross_validation(37, 1).summary) is None


def test_one_fold_of_several_is_said(tmp_path):
    page = require_self_contained(
        model_page(opened(tmp_path, 2, 44), cross_validation(2, 9, folds=1), ()), page_script()
    )
    assert "9 of 44 cases so far (fold 0)" in page.text
    assert "Every case was predicted" not in page.text


@pytest.mark.parametrize("cases", [1, 8])
def test_the_fold_all_alone_has_a_report_without_scores(tmp_path, cases):
    model = opened(tmp_path, 2, cases)
    (model.path / "fold_0").rename(model.path / "fold_all")
    epoch: dict[str, object] = {
        "epoch": 1,
        "train_loss": 0.5,
        "validation_loss": None,
        "dice": [],
        "mean_dice": None,
        "seconds": 60,
    }
    (model.path / "fold_all" / "metrics.jsonl").write_text(json.dumps(epoch) + "\n")
    page = require_self_contained(write_report(model.path, workspace=tmp_path).read_text(), page_script())
    assert "trained on every case, so no case is left to score it on" in page.text
    assert ("Train the numbered folds" in page.text) == (cases > 1)
    assert "unetrpp_evaluate" in page.text
    assert ["all", "1", "0.500", "-", "-", "0.02"] in page.tables[0]
    assert not any(what in page.text for what in ("Cross-validation", "95% CI", "validated cases", "case by case"))


def test_photographs_have_pixels(tmp_path):
    page = require_self_contained(
        model_page(opened(tmp_path, 1, 6, flat=True), cross_validation(1, 6), ()), page_script()
    )
    assert ["pixels", "as they are"] in [row for table in page.tables for row in table]
    assert " mm" not in page.text


def test_regions_are_called_so(tmp_path):
    model = opened(tmp_path, 2, 1)
    regions = (Region(name="whole", members=(1, 2), value=1), Region(name="core", members=(2,), value=2))
    labels = LabelScheme(names=("background", "edema", "core"), values=(0, 1, 2), regions=regions)
    changed = ModelFolder(model.path, msgspec.structs.replace(model.plans, labels=labels), model.configuration_name)
    rows = [
        row for table in require_self_contained(model_page(changed, None, ()), page_script()).tables for row in table
    ]
    assert ["regions", "whole and core"] in [list(row) for row in rows]
