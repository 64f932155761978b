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
    ("pattern", "words"),
    [
        ("(", "not a regular expression"),
        ("p", "no group in paren"),
        ("(x)", "does not match 1 of 1 case: p1;"),
        ("(x*)", "gives p1 an empty group"),
    ],
)
def test_a_pattern_that_cannot_be(pattern, words):
    with pytest.raises(UserError, match=words):
        from_pattern(pattern, ["p1"])


def test_a_csv_file(tmp_path):
    path = tmp_path / "groups.csv"
    path.write_text("case,group\na,1\nb, 1\n")
    assert from_csv(path, ["a", "b"]) == {"a": "1", "b": "1"}
    with pytest.raises(UserError, match=r"1 of 2 cases has no group: c; add a line"):
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


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        ("a,1\nb", "line 2 is 'b', but must be case,group"),
        ("a,1\nb,", "line 2 is 'b,', but must be case,group"),
        ("a,1\nb,2\na,2", "line 3 gives case a a different group than an earlier line"),
        ("a;1\nb;1", "2 of 2 cases have no group: a and b; add a line for each"),
        ("a.nii.gz,1\nb.nii.gz,1", "2 of 2 cases have no group"),
    ],
)
def test_a_csv_file_that_does_not_give_every_case_a_group(tmp_path, lines, words):
    path = tmp_path / "groups.csv"
    path.write_text(lines)
    with pytest.raises(UserError, match=words):
        from_csv(path, ["a", "b"])


def test_lines_of_no_case_are_kept_for_verification_and_a_header_is_not(tmp_path):
    path = tmp_path / "groups.csv"
    path.write_text("scan,patient\n\na,1\nb,1\nelsewhere,2\na,1\n")
    assert from_csv(path, ["a", "b"]) == {"a": "1", "b": "1", "elsewhere": "2"}
    path.write_text("a.nii.gz,3\na,1\nb,1\n")  # a file of a case is no header
    assert from_csv(path, ["a", "b"])["a.nii.gz"] == "3"
