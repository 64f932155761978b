"""volumes.csv: a line for every case and class, with expected Dice and review order."""

import csv
import io

import pytest

from unetrpp.inference.expected_dice import ExpectedDice
from unetrpp.inference.postprocessing import NOTHING
from unetrpp.inference.record import CaseRecord, Progress, Settings, review_order
from unetrpp.inference.volumes import write_volumes
from unetrpp.io.geometry import Geometry

GEOMETRY = Geometry(shape_zyx=(2, 3, 4), spacing_zyx_mm=(1.0, 1.0, 1.0))


def expected(value):
    return ExpectedDice(expected=value, low=value - 0.1, high=value + 0.1)


def record(name, expected_dice=None, by="now", **sizes):
    sizes = sizes or {"volumes_ml": {"a": 1.5, "b": 0.0}}
    return CaseRecord(
        output=f"{name}.nii.gz",
        inputs="",
        geometry=GEOMETRY,
        warnings=(),
        seconds=1.0,
        expected_dice=expected_dice or {},
        expected_by=by,
        **({"volumes_ml": {}} | sizes),
    )


def progress(folder, cases, name="predictions.json"):
    settings = Settings(dataset="d", members=(), mirroring=True, step=0.5, postprocessing=NOTHING)
    return Progress(path=folder / name, settings=settings, device="cpu", cases=cases, pending=set(), expected_by="now")


def written(folder, name="volumes.csv"):
    return list(csv.reader(io.StringIO((folder / name).read_text())))


CASES = {
    "good": record("good", {"a": expected(0.9), "b": None}),
    "bad, odd": record("bad, odd", {"a": expected(0.2), "b": expected(0.4)}),
    "fair": record("fair", {"a": expected(0.7), "b": expected(0.7)}),
    "unknown": record("unknown", {"a": None, "b": None}),
    "earlier": record("earlier", {"a": expected(0.1)}, by="another calibration"),
}


def test_the_lowest_mean_over_the_classes_comes_first():
    assert review_order(CASES, "now") == ("bad, odd", "fair", "good")
    assert review_order(CASES, "nothing like it") == ()


def test_a_line_for_every_case_and_class(tmp_path):
    write_volumes(progress(tmp_path, CASES))
    header, *rows = written(tmp_path)
    assert header == ["case", "class", "volume in ml", "expected Dice", "low", "high", "review"]
    assert ["bad, odd", "a", "1.5", "0.2", "0.1", "0.30000000000000004", "1"] in rows
    assert ["good", "b", "0.0", "", "", "", "3"] in rows
    assert ["earlier", "a", "1.5", "", "", "", ""] in rows  # it was not computed with what holds now
    assert len(rows) == 10


def test_regions_have_an_expected_dice_and_labels_a_volume(tmp_path):
    case = record("case", {"whole": expected(0.5)}, volumes_ml={"oedema": 2.0})
    write_volumes(progress(tmp_path, {"case": case}, "predictions_2_of_4.json"))
    assert written(tmp_path, "volumes_2_of_4.csv")[1:] == [
        ["case", "oedema", "2.0", "", "", "", "1"],
        ["case", "whole", "", "0.5", "0.4", "0.6", "1"],
    ]


def test_photographs_have_areas(tmp_path):
    write_volumes(progress(tmp_path, {"photo": record("photo", areas_pixels={"cell": 12})}))
    assert written(tmp_path) == [
        ["case", "class", "area in pixels", "expected Dice", "low", "high", "review"],
        ["photo", "cell", "12", "", "", "", ""],
    ]


@pytest.mark.parametrize("cases", [{}, {"x": record("x")}])
def test_the_record_has_the_review_order(tmp_path, cases):
    run = progress(tmp_path, cases | {"bad": CASES["bad, odd"]})
    run.save()
    assert '"review_order": ["bad"]' in run.path.read_text().replace("\n    ", "").replace("\n  ]", "]")
