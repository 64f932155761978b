"""The report of a model: its numbers against a naive count, its pictures, and a model without its raw data."""

import json
import re

import numpy as np
import pytest

from tests.helpers.model import GEOMETRY, make_model
from tests.helpers.tiny import LABELS, ball
from unetrpp.cli.report import main
from unetrpp.core.files import write_json
from unetrpp.dataset.description import DatasetDescription, nnunet_json
from unetrpp.evaluation.cross_validation import pool_folds
from unetrpp.evaluation.evaluate import evaluate_pairs
from unetrpp.evaluation.summary import write_summary
from unetrpp.io.images import Volume, write_image, write_segmentation
from unetrpp.model.folder import ModelFolder
from unetrpp.report.model_report import write_report
from unetrpp.report.shown_cases import raw_cases, typical_cases


@pytest.fixture
def workspace(tmp_path):
    """Two folds of four cases; the prediction of case i misses the first i slices of the ball."""
    raw, model = tmp_path / "raw" / "balls", make_model(tmp_path / "results" / "balls")
    write_json(
        raw / "dataset.json",
        nnunet_json(DatasetDescription(name="balls", channel_names=("MRI",), labels=LABELS, file_ending=".nii.gz"), 8),
    )
    for fold in range(2):
        pairs = {}
        for i in range(4 * fold, 4 * fold + 4):
            image, label = ball(np.random.default_rng(i))
            reference = raw / "labelsTr" / f"case_{i}.nii.gz"
            prediction = model / f"fold_{fold}" / "validation" / f"case_{i}.nii.gz"
            write_image(raw / "imagesTr" / f"case_{i}_0000.nii.gz", Volume(image, GEOMETRY))
            write_segmentation(reference, label, GEOMETRY)
            missed = label.copy()
            missed[: label.any((1, 2)).argmax() + i] = 0
            write_segmentation(prediction, missed, GEOMETRY)
            pairs[f"case_{i}"] = (prediction, reference)
        write_summary(model / f"fold_{fold}" / "validation", evaluate_pairs(pairs, LABELS, processes=1)[0])
        epochs = [
            {
                "epoch": e,
                "train_loss": 1 / e,
                "validation_loss": 2 / e,
                "dice": [None],
                "mean_dice": None,
                "seconds": 900,
            }
            for e in (1, 2)
        ]
        (model / f"fold_{fold}" / "metrics.jsonl").write_text("".join(json.dumps(e) + "\n" for e in epochs))
    return tmp_path


def naive_dice(i):
    label = ball(np.random.default_rng(i))[1]
    left = label[label.any((1, 2)).argmax() + i :].sum()
    return 2 * left / (left + label.sum())


def test_the_page(workspace):
    model = workspace / "results" / "balls" / "unetrpp__3d_fullres"
    assert main([str(model), "--workspace", str(workspace)]) == 0
    page = (model / "report.html").read_text()
    cells = re.findall(r"<td[^>]*>([^<]*)</td>", page)
    means = [np.mean([naive_dice(i) for i in range(4 * fold, 4 * fold + 4)]) for fold in range(2)]
    rows = [cells[i : i + 4] for i in range(len(cells)) if cells[i : i + 2] in (["0", "4"], ["1", "4"])]
    assert rows == [[str(fold), "4", f"{mean:.3f}", f"{mean:.3f}"] for fold, mean in enumerate(means)]
    assert ["0", "2", "0.500", "1.000", "-", "0.50"] in [cells[i : i + 6] for i in range(len(cells))]  # training
    # The more slices are missed, the lower: three lowest, the middle, the highest, each with its picture.
    headings = re.findall(r"<h3>(case_.*?)</h3>", page)
    assert headings == [
        "case_7, among the lowest",
        "case_6, among the lowest",
        "case_5, among the lowest",
        "case_3, in the middle",
        "case_0, the highest",
    ]
    assert page.count("<img") == 7  # and those of all cases and of the learning curves
    assert f"Dice: ball {naive_dice(7):.3f}" in page
    assert "http" not in page.replace("http-equiv=", "")  # nothing is fetched


def test_few_cases_are_shown_once(workspace):
    model = workspace / "results" / "balls" / "unetrpp__3d_fullres"
    (model / "fold_1" / "validation" / "summary.json").unlink()
    shown = typical_cases(pool_folds(model, LABELS).summary)
    assert [(name, scores.case) for name, scores in shown] == [
        ("among the lowest", "case_3"),
        ("among the lowest", "case_2"),
        ("among the lowest", "case_1"),
        ("the highest", "case_0"),
    ]


def test_without_the_raw_data_the_pictures_are_missing(workspace, tmp_path, caplog):
    model = workspace / "results" / "balls" / "unetrpp__3d_fullres"
    (workspace / "raw").rename(tmp_path / "elsewhere")
    page = tmp_path / "page.html"
    assert main([str(model), "--workspace", str(workspace), "-o", str(page)]) == 0
    assert "the report has no pictures of cases" in caplog.text
    assert page.read_text().count("<img") == 2
    assert write_report(model, output=tmp_path / "again.html", workspace=workspace) == tmp_path / "again.html"
    assert (tmp_path / "again.html").read_bytes() == page.read_bytes()


def test_labels_that_fix_repaired_are_shown_instead_of_the_drawn_ones(workspace):
    repaired = workspace / "preprocessed" / "balls" / "labels" / "case_3.nii.gz"
    write_segmentation(repaired, np.zeros(GEOMETRY.shape_zyx, np.uint8), GEOMETRY)
    (model,) = (workspace / "results" / "balls").iterdir()
    labels = {case.id: case.label for case in raw_cases(ModelFolder.open(model), workspace)}
    assert labels["case_3"] == repaired
    assert labels["case_4"] == workspace / "raw" / "balls" / "labelsTr" / "case_4.nii.gz"


def test_a_model_without_validation_is_refused(tmp_path, capsys):
    assert main([str(make_model(tmp_path))]) == 2
    assert "no validated fold" in capsys.readouterr().err


def test_the_title_is_shown_and_the_folder_finds_the_pictures(workspace):
    """Plans of release 0.1.0 record the name in dataset.json, which is free text, as the dataset."""
    model = workspace / "results" / "balls" / "unetrpp__3d_fullres"
    for file, key in (("plans.json", "dataset"), ("dataset.json", "name")):
        content = json.loads((model / file).read_text())
        write_json(model / file, content | {key: "Balls 2023 (round)"})
    page = write_report(model, workspace=workspace).read_text()
    assert "balls (Balls 2023 (round))" in page
    assert page.count("data:image/png") > 4


def test_another_file_is_not_replaced_by_the_page(workspace, capsys):
    model = workspace / "results" / "balls" / "unetrpp__3d_fullres"
    arguments = [str(model), "--workspace", str(workspace), "-o"]
    plans = (model / "plans.json").read_bytes()
    assert main([*arguments, str(model / "plans.json")]) == 2
    assert "is not an HTML page" in capsys.readouterr().err
    assert (model / "plans.json").read_bytes() == plans
    for _ in range(2):
        assert main([*arguments, str(workspace / "page.html")]) == 0
