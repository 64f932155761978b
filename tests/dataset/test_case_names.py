"""Hints for names that are no case."""

import pytest

from unetrpp.dataset.case_names import named_unknown, nearest_case

CASES = ["case_00", "case_01", "Müller_2", "liver-12"]


@pytest.mark.parametrize(
    ("name", "case"),
    [
        ("case_00.nii.gz", "case_00"),
        ("case_01_0000.nii.gz", "case_01"),
        (r"imagesTr\case_01_0000.nii.gz", "case_01"),
        ("Case-01", "case_01"),
        ("case_1", "case_01"),
        ("cas_01", "case_01"),
        ("Mu\u0308ller_2", "Müller_2"),
        ("liver_12", "liver-12"),
        ("case_09", None),  # another number is another case
        ("brain_3", None),
        ("", None),
    ],
)
def test_the_case_that_is_meant(name, case):
    assert nearest_case(name, CASES) == case


def test_many_names_are_counted():
    assert named_unknown([f"x{i}" for i in range(5)], CASES) == "'x0', 'x1', 'x2' and 2 more"
    assert named_unknown(["case_00.nii.gz"], CASES) == "'case_00.nii.gz' (did you mean case_00?)"
