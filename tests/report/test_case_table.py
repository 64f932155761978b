"""The table of cases: what a cell shows, what it is sorted by, and cases that a column does not know."""

from unetrpp.report.case_table import (
    CaseTable,
    CaseVolumes,
    Cell,
    score_column,
    volume_columns,
    warnings_column,
    word_column,
)


def test_a_case_without_a_cell_has_a_dash_that_is_sorted_last():
    table = CaseTable(["a", "b"], [score_column("Dice", {"a": 0.91349, "b": None}), word_column("fold", {"b": "1"})])
    assert dict(table.rows()) == {
        "a": [Cell("0.913", 0.91349), Cell("-", None)],
        "b": [Cell("-", None), Cell("1", "1")],
    }


def test_warnings_are_counted_and_kept():
    (cell,) = warnings_column({"a": ("one", "two")}).cells.values()
    assert cell == Cell("2", 2, ("one", "two"))


def test_few_classes_have_columns_and_many_are_added_up():
    few = {"a": CaseVolumes({"liver": 1500.0, "tumour": 0.0}), "b": CaseVolumes({"liver": 2.5, "tumour": 1.25})}
    liver, tumour = volume_columns(few, ["liver", "tumour"])
    assert liver.heading == "liver (ml)"
    assert liver.cells["a"] == Cell("1500", 1500.0)
    assert tumour.cells["b"] == Cell("1.25", 1.25)
    names = [f"class {i}" for i in range(6)]
    total, found = volume_columns({"a": CaseVolumes({name: float(i) for i, name in enumerate(names)}, "pixels")}, names)
    assert total.heading == "all classes (pixels)"
    assert (total.cells["a"].value, found.cells["a"].value) == (15, 5)


def test_sizes_have_their_unit():
    assert CaseVolumes({"liver": 1523.456}).texts() == {"liver": "1523 ml"}
