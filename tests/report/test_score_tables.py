"""Tables of scores: heat maps above fifteen classes, means over few values, and which cases are listed."""

import re

import msgspec
import pytest
from msgspec.structs import replace

from tests.helpers.scores import cross_validation
from unetrpp.evaluation.cross_validation import fold_mean_cells
from unetrpp.evaluation.summary import Distances
from unetrpp.report.page import Shaded
from unetrpp.report.score_tables import (
    class_scores,
    dice_rows,
    dice_sentence,
    fold_scores,
    lowest_class,
    ranked_cases,
)


@pytest.mark.parametrize("classes", [1, 4, 15, 16, 37, 120])
def test_above_fifteen_classes_tables_are_heat_maps(classes):
    result = cross_validation(classes, cases=10)
    folds, scores = fold_scores(result), class_scores(result.summary)
    assert isinstance(folds, Shaded) == isinstance(scores, Shaded) == (classes > 15)
    rows = folds.rows if isinstance(folds, Shaded) else folds
    assert (len(rows[0]), len(rows)) == ((classes + 3, 7) if classes <= 15 else (7, classes + 2))
    if isinstance(folds, Shaded) and isinstance(scores, Shaded):
        for table in (folds, scores):
            assert [len(row) for row in table.shades] == [len(row) for row in table.rows[1:]]
            assert all(re.fullmatch("(#[0-9a-f]{6})?", shade) for row in table.shades for shade in row)
        first = result.folds[0].mean["1"]["Dice"]
        assert folds.rows[2][:2] == ["class 1", f"{first:.3f}"]
        assert folds.rows[1][0] == scores.rows[1][0] == "mean"


def test_heads_have_units_and_a_mean_over_few_values_says_over_how_many():
    summary = cross_validation(3, cases=6, distances=True).summary
    pixels = Distances(unit="pixels", tolerance=None)
    table, photographs = class_scores(summary), class_scores(msgspec.structs.replace(summary, distances=pixels))
    assert not isinstance(table, Shaded)
    assert not isinstance(photographs, Shaded)
    header, *rows = table
    assert "HD95 [mm]" in header
    assert "HD95 [pixels]" in photographs[0]
    column = header.index("HD95 [mm]")
    # class 1 is in every case; class 2 has a distance in two of them, class 3 in none.
    assert rows[0][column] == f"{summary.mean['1']['HD95']:.3f}"
    assert rows[1][column] == f"{summary.mean['2']['HD95']:.3f} (2 of 6)"
    assert rows[2][column] == "-"
    assert rows[3][column] == f"{summary.foreground_mean['HD95']:.3f} (2 of 3 classes)"


def test_cases_are_ranked_from_the_lowest_mean_dice_on():
    summary = cross_validation(2, cases=16).summary
    means = [sum(scores["Dice"] or 0 for scores in case.metrics.values()) / 2 for case in ranked_cases(summary)]
    assert means == sorted(means)
    assert len(means) == 16


def test_a_case_of_many_classes_is_a_mean_and_its_lowest_class():
    summary = cross_validation(37, cases=1).summary
    (case,) = summary.metric_per_case
    lowest = min(case.metrics, key=lambda key: case.metrics[key]["Dice"] or 0)
    assert lowest_class(summary, case) == (f"class {lowest}", case.metrics[lowest]["Dice"])
    sentence = dice_sentence(summary, case.metrics)
    assert sentence.startswith("Mean Dice 0.")
    assert "over 37 classes" in sentence
    assert sentence.count("class ") == 3
    assert len(dice_rows(summary, case.metrics)) == 38
    few = cross_validation(3, cases=1).summary
    assert dice_rows(few, few.metric_per_case[0].metrics) == []


@pytest.mark.parametrize("classes", [2, 20])
def test_a_fold_without_a_class_says_so_beside_its_mean(classes):
    """Class 2 is undefined in folds 3 and 4, whose means are therefore of other classes."""
    result = cross_validation(classes, cases=10)
    assert not any("classes" in cell for cell in fold_mean_cells(result))
    lacking = [replace(fold, mean={**fold.mean, "2": {"Dice": None}}) for fold in result.folds[3:]]
    result = replace(result, folds=(*result.folds[:3], *lacking))
    cells = fold_mean_cells(result)
    assert [cell.partition(" ")[2] for cell in cells] == [
        *[""] * 3,
        *[f"({classes - 1} of {classes} classes)"] * 2,
        "(all classes in 3 of 5 folds)",
    ]
    table = fold_scores(result)
    shown = table.rows[1][1:] if isinstance(table, Shaded) else [row[-1] for row in table[1:]]
    assert shown == cells
