"""What tables and files say about a mean: unit, tolerance, and over how many cases and classes it is."""

import csv

import msgspec
import numpy as np
import pytest

from unetrpp.core.errors import UserError
from unetrpp.dataset.labels import LabelScheme
from unetrpp.evaluation.evaluate import evaluate_pairs
from unetrpp.evaluation.metrics import MetricOptions, Scores, score_case
from unetrpp.evaluation.model_comparison import compare_summaries, comparison_table
from unetrpp.evaluation.summary import CaseScores, Distances, Summary, as_csv, as_rows, as_table, summarize
from unetrpp.io.geometry import Geometry
from unetrpp.io.images import write_segmentation

GRID = Geometry(shape_zyx=(3, 8, 8), spacing_zyx_mm=(0.6, 0.15, 0.15))


def scheme(classes):
    return LabelScheme(
        names=("background", *(f"class {i}" for i in range(1, classes + 1))), values=tuple(range(classes + 1))
    )


def shifted(voxels):
    """A block of 3 x 4 x 4 voxels along x."""
    array = np.zeros(GRID.shape_zyx, np.uint8)
    array[:, 2:6, 1 + voxels : 5 + voxels] = 1
    return array


def nsd(tolerance, voxels=1, geometry=GRID):
    options = MetricOptions(distances=True, tolerance=tolerance)
    return score_case(shifted(voxels), shifted(0), geometry, scheme(1), options=options)["1"]["NSD"]


def test_the_default_tolerance_is_one_voxel_whatever_the_scale():
    """A block that is one voxel off is right; two voxels off, its two ends are wrong, which 1 mm would not see."""
    assert nsd(None, voxels=1) == 1
    assert nsd(None, voxels=2) == nsd(0.15, voxels=2) < 0.9
    assert nsd(1.0, voxels=2) == 1
    large = msgspec.structs.replace(GRID, spacing_zyx_mm=(40.0, 10.0, 10.0))
    assert nsd(None, voxels=2, geometry=large) == pytest.approx(nsd(None, voxels=2))


def test_the_tolerance_is_in_the_plane_of_thick_slices():
    thick = msgspec.structs.replace(GRID, spacing_zyx_mm=(7.5, 0.5, 0.5))
    assert nsd(None, voxels=2, geometry=thick) == nsd(0.5, voxels=2, geometry=thick) < 1 == nsd(7.5, 2, thick)


@pytest.mark.parametrize("tolerance", [0.0, -1.0, float("inf"), float("nan")])
def test_an_impossible_tolerance_is_refused(tolerance):
    with pytest.raises(UserError, match="must be above 0"):
        MetricOptions(distances=True, tolerance=tolerance)


@pytest.mark.parametrize(
    ("ending", "tolerance", "expected"),
    [
        (".nii.gz", None, ["HD95 [mm]", "NSD [1 voxel]"]),
        (".nii.gz", 2.5, ["HD95 [mm]", "NSD [2.5 mm]"]),
        (".png", None, ["HD95 [pixels]", "NSD [1 pixel]"]),
        (".png", 3.0, ["HD95 [pixels]", "NSD [3 pixels]"]),
        (".tif", None, ["HD95 [voxels]", "NSD [1 voxel]"]),
        (".tif", 2.0, ["HD95 [voxels]", "NSD [2 voxels]"]),
    ],
)
def test_units_and_tolerances_stand_in_every_head(tmp_path, ending, tolerance, expected):
    flat = Geometry(shape_zyx=(1, 8, 8), spacing_zyx_mm=(1.0, 1.0, 1.0), dimensions=2)
    without_size = Geometry(shape_zyx=GRID.shape_zyx, spacing_zyx_mm=(1.0, 1.0, 1.0))
    geometry = {".png": flat, ".tif": without_size}.get(ending, GRID)
    files = (tmp_path / f"predicted{ending}", tmp_path / f"true{ending}")
    for file, voxels in zip(files, (1, 0), strict=True):
        write_segmentation(file, shifted(voxels)[: geometry.shape_zyx[0]], geometry)
    options = MetricOptions(distances=True, tolerance=tolerance)
    summary, errors = evaluate_pairs({"a": files}, scheme(1), options=options, processes=1)
    assert not errors
    head, row = csv.reader(as_csv(summary).splitlines())
    for name in expected:
        assert name in as_rows(summary)[0]
        assert name in head
        assert row[head.index(name)] == f"{summary.metric_per_case[0].metrics['1'][name.split()[0]]:.6g}"
    assert ("volume_pred_ml" in head) == (ending == ".nii.gz")
    assert "HD95" in summary.mean["1"]  # the keys of the JSON have no unit
    assert msgspec.json.decode(msgspec.json.encode(summary), type=Summary).options == options


def test_release_0_1_0_recorded_no_tolerance():
    summary = summarize([case("a", [0.9], [1.0])], scheme(1))
    old = msgspec.structs.replace(summary, distances=msgspec.UNSET)
    assert old.heading("NSD") == "NSD [tolerance not recorded]"
    assert b"distances" not in msgspec.json.encode(old)


def case(name, dice, hd95):
    """Scores of the classes 1, 2, ..."""
    metrics = {
        str(i): {"Dice": d, "HD95": h, "n_pred": int(d is not None), "n_ref": int(d is not None)}
        for i, (d, h) in enumerate(zip(dice, hd95, strict=True), start=1)
    }
    return CaseScores(case=name, prediction_file=name, reference_file=name, metrics=metrics)


def test_a_mean_over_few_says_over_how_many():
    cases = [case("a", [0.5, 0.4, None], [3.0, None, None]), case("b", [0.7, 0.0, None], [5.0, 9.0, None])]
    cases += [case("c", [None, 0.0, None], [None, None, None])]
    rows = as_rows(summarize(cases, scheme(3), Distances(unit="mm", tolerance=None)))
    head, first, second, third, mean = rows
    hd95 = head.index("HD95 [mm]")
    assert (first[hd95], second[hd95], third[hd95]) == ("4.000", "9.000 (1 of 3)", "-")  # class 1: as often as Dice
    assert (mean[hd95], mean[head.index("Dice")]) == ("6.500 (2 of 3 classes)", "0.367 (2 of 3 classes)")


def test_of_many_classes_a_table_shows_the_extremes():
    dice = [None if i == 10 else i / 100 for i in range(37)]
    lines = as_table(summarize([case("a", dice, dice)], scheme(37))).splitlines()
    assert lines[0].endswith("of highest Dice; 26 between them and 1 that no case has are not shown")
    shown = [line.split()[1] for line in lines[2:-2]]
    assert shown == ["1", "2", "3", "4", "5", "33", "34", "35", "36", "37"]
    assert lines[-2].startswith("mean")
    few = as_table(summarize([case("a", dice[:20], dice[:20])], scheme(20))).splitlines()
    assert len(few) == 1 + 20 + 2


def test_of_many_classes_with_few_scores_none_is_shown_twice():
    dice = [i / 100 if i < 7 else None for i in range(37)]
    lines = as_table(summarize([case("a", dice, dice)], scheme(37))).splitlines()
    assert "0 between them and 30 that no case has" in lines[0]
    assert [line.split()[1] for line in lines[2:-2]] == ["1", "2", "3", "4", "5", "6", "7"]


def test_of_many_compared_classes_those_that_change_most_are_shown():
    first = summarize([case(name, [0.5] * 37, [1.0] * 37) for name in "ab"], scheme(37))
    second = summarize([case(name, [i / 37 for i in range(37)], [1.0] * 37) for name in "ab"], scheme(37))
    lines = comparison_table(compare_summaries(first, second)).splitlines()
    assert lines[0].endswith("27 others are not shown")
    assert [line.split()[1] for line in lines[2:-1]] == ["1", "2", "3", "4", "5", "33", "34", "35", "36", "37"]
    assert lines[-1].startswith("mean")
    few = comparison_table(compare_summaries(*(summarize([case("a", [0.5], [1.0])], scheme(1)),) * 2)).splitlines()
    assert len(few) == 3


def test_counts_of_voxels_have_all_their_digits():
    scores: Scores = {"Dice": 0.123456789, "n_pred": 1491992, "n_ref": 0}
    found = summarize([CaseScores(case="a", prediction_file="a", reference_file="a", metrics={"1": scores})], scheme(1))
    head, row = csv.reader(as_csv(found).splitlines())
    assert dict(zip(head, row, strict=True)) == {
        "case": "a",
        "label": "1",
        "class": "class 1",
        "Dice": "0.123457",
        "n_pred": "1491992",
        "n_ref": "0",
    }


@pytest.mark.parametrize("order", ["ab", "ba"])
def test_the_columns_do_not_depend_on_the_first_case(tmp_path, caplog, order):
    """A photograph has no volume, and its distances are in pixels, which a mean in mm does not hide."""
    pairs = {}
    for name, mm in zip(order, (1.0, 0.5), strict=True):
        flat = Geometry(shape_zyx=(1, 8, 8), spacing_zyx_mm=(1.0, mm, mm), dimensions=2)
        pairs[name] = (tmp_path / f"{name}_predicted.mha", tmp_path / f"{name}.mha")
        for file, voxels in zip(pairs[name], (1, 0), strict=True):
            write_segmentation(file, shifted(voxels)[:1], flat)
    summary, _ = evaluate_pairs(pairs, scheme(1), options=MetricOptions(distances=True), processes=1)
    assert summary.mean["1"]["volume_ref_ml"] is not None
    assert "volume_ref_ml" in as_csv(summary).splitlines()[0]
    assert f"1 of 2 references has no spacing in mm ({order[0]}.mha)" in caplog.text
