"""Groups of cases from a pattern or a CSV file."""

import pytest

from unetrpp.core.errors import UserError
from unetrpp.planners.measure.groups import from_csv, from_pattern


def test_a_pattern_names_the_group():
    assert from_pattern(r"^(\w+?)_", ["p1_early", "p1_late", "p2_early"]) == {
        "p1_early": "p1",
        "p1_late": "p1",
        "p2_early": "p2",
    }


@pytest.mark.parametrize(
    ("pattern", "words"), [("(", "not a regular expression"), ("p", "no group in paren"), ("(x)", "does not match")]
)
def test_a_pattern_that_cannot_be(pattern, words):
    with pytest.raises(UserError, match=words):
        from_pattern(pattern, ["p1"])


def test_a_csv_file(tmp_path):
    path = tmp_path / "groups.csv"
    path.write_text("case,group\na,1\nb, 1\n")
    assert from_csv(path, ["a", "b"]) == {"a": "1", "b": "1"}
    with pytest.raises(UserError, match=r"c: .* names no group"):
        from_csv(path, ["a", "c"])
    with pytest.raises(UserError, match="does not exist"):
        from_csv(tmp_path / "none.csv", ["a"])


def test_a_csv_file_of_a_spreadsheet(tmp_path):
    path = tmp_path / "groups.csv"
    path.write_text("a,Müller\r\nb,Müller\r\n", encoding="utf-8-sig", newline="")
    assert from_csv(path, ["a", "b"]) == {"a": "Müller", "b": "Müller"}
    path.write_text("a,Müller\n", encoding="latin-1")
    with pytest.raises(UserError, match="not in UTF-8"):
        from_csv(path, ["a"])
