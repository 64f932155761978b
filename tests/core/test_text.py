"""Text for people: aligned tables, and numbers with their units."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from unetrpp.core.text import GIGABYTE, format_bytes, format_mm, format_score, format_shape, text_table

words = st.text(st.characters(categories=("L", "N")), min_size=1, max_size=8)
tables = st.integers(1, 4).flatmap(
    lambda columns: st.tuples(
        st.lists(st.tuples(*[words] * columns), min_size=1, max_size=5), st.text("lr", min_size=1, max_size=columns)
    )
)


@given(tables, st.sampled_from(["", "  "]))
def test_every_cell_is_aligned_with_its_column(table, indent):
    rows, align = table
    lines = text_table(rows, align, indent).splitlines()
    assert [tuple(line.split()) for line in lines] == rows
    start = len(indent)
    for column, cells in enumerate(zip(*rows, strict=True)):
        width = max(map(len, cells))
        for line, cell in zip(lines, cells, strict=True):
            right = align[min(column, len(align) - 1)] == "r"
            offset = start + (width - len(cell) if right else 0)
            assert line[offset : offset + len(cell)] == cell
        start += width + 2


def test_an_empty_table_is_an_empty_text():
    assert text_table([]) == ""


def test_a_row_of_another_length_is_refused():
    with pytest.raises(ValueError, match="zip"):
        text_table([("a", "b"), ("c", "d", "e")])


def test_no_line_ends_with_spaces():
    assert text_table([("case", "problem"), ("a", "")], align="l") == "case  problem\na"


@pytest.mark.parametrize(
    ("function", "value", "expected"),
    [
        (format_shape, (2.0, 16, 0.5), "2 x 16 x 0.5"),
        (format_mm, (1.0,), "1 mm"),
        (format_mm, (0.88712, 12.34567), "0.8871 x 12.35 mm"),
        (format_bytes, GIGABYTE, "1.0 GB"),
        (format_bytes, GIGABYTE - 1, "1024 MB"),
        (format_bytes, 0, "0 MB"),
        (format_score, 0.0005, "0.001"),
        (format_score, 0.0, "0.000"),
        (format_score, None, "-"),
    ],
)
def test_numbers_with_their_units(function, value, expected):
    assert function(value) == expected
