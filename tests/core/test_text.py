"""Text for people: aligned tables, and numbers with their units."""

import ast
import itertools
import os
import re
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from unetrpp.core.text import (
    GIGABYTE,
    format_bytes,
    format_mm,
    format_range,
    format_score,
    format_shape,
    quoted,
    scores_text,
    text_table,
    without_repetition,
)

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


@pytest.mark.parametrize("undefined", [0, 1])
@pytest.mark.parametrize("classes", [1, 2, 6, 7, 37, 120])
def test_scores_name_every_class_or_the_lowest_in_one_line(classes, undefined):
    scores = {f"c{i}": (i + 1) / 1000 for i in range(classes)} | {f"u{i}": None for i in range(undefined)}
    text = scores_text(scores, 0.5)
    assert len(text) < 150
    assert all(f"c{i} {(i + 1) / 1000:.3f}" in text for i in range(min(classes, 3)))
    assert ("mean 0.500" in text) == (len(scores) > 1)
    assert ("undefined" in text or "u0 -" in text) == bool(undefined)


def test_a_range_without_width_is_one_number():
    assert format_range(1, 1, "mm") == "1 mm"
    assert format_range(0.5, 2, "mm") == "0.5 to 2 mm"


def test_sentences_that_differ_in_names_and_numbers_are_one():
    vanish = [
        f"'region_{i}' may vanish: {i / 100} mm along z; --spacing {i / 200} 1 1 would keep it" for i in range(120)
    ]
    rare = ["'a' is in case_1 only", "'b' is in case_7 only"]
    assert without_repetition([*vanish[:1], "planes are mixed", *vanish[1:], *rare]) == [
        vanish[0] + " (likewise 'region_1', 'region_2', 'region_3' and 116 more)",
        "planes are mixed",
        "'a' is in case_1 only (likewise 'b')",
    ]
    assert without_repetition(["2 cases are thin", "3 cases are thin"]) == [
        "2 cases are thin (and 1 time more, with other numbers)"
    ]
    assert without_repetition([]) == []


ROOT = Path(__file__).parents[2]
PLURAL = re.compile(r" (?!of )([a-z]+ )?(?!times|is|has|was)[a-z]+s\b(?! of)")
# What follows a count that is above 1 wherever the message is used.
SEVERAL = (
    " errors:", " members, more than", " names that are not cases", " values)", " classes together", " classes)",
    " files for a model with", " channels", " positions, ", " images (", " pages", " initial logits for", " classes",
    " cases, from the lowest mean Dice", " classes; the lowest", " classes, of which", " levels",
    " classes (", " classes are in ", " cases", " cases at ", " image folders for",
)  # fmt: skip


def counts_in_plural():
    """Counts, ``len(...)``, that an f-string of the package has before a word that ends in s: (place, text)."""
    for folder in ("unetrpp", "planners", "trainers", "dataset_conversion"):
        for path in sorted(path for path in (ROOT / folder).rglob("*.py")):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf8"))):
                parts = node.values if isinstance(node, ast.JoinedStr) else []
                for count, text in itertools.pairwise(parts):
                    is_count = isinstance(count, ast.FormattedValue) and ast.unparse(count.value).startswith("len(")
                    if is_count and isinstance(text, ast.Constant) and PLURAL.match(str(text.value)):
                        yield f"{path.relative_to(ROOT)}:{count.lineno}", text.value


def test_a_count_that_may_be_one_has_its_noun_from_counted():
    found = list(counts_in_plural())
    assert [place for place, text in found if not text.startswith(SEVERAL)] == []
    assert [text for text in SEVERAL if not any(other.startswith(text) for _, other in found)] == []


@pytest.mark.skipif(os.name != "posix", reason="of a POSIX shell")
@pytest.mark.parametrize(
    "text",
    [
        "liver",
        "my liver",
        "KiTS(kidney)",
        "cost$5",
        "a$(touch pwned)",
        "`id`",
        'x"y',
        "a\\b",
        "it's $HOME",
        "wow!",
        "~/x",
        "",
    ],
)
def test_what_is_shown_pastes_as_it_is(tmp_path, text):
    done = subprocess.run(
        ["sh", "-c", f"printf %s {quoted(text)}"], capture_output=True, text=True, cwd=tmp_path, check=True
    )
    assert done.stdout == text
    assert not list(tmp_path.iterdir())
