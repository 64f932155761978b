"""Which segments become which class: names, patterns, and what is said where one is missing."""

from typing import NamedTuple

import pytest

from unetrpp.core.errors import UserError
from unetrpp.dataset_conversion.segment_choice import read_choice

FOUND = {"x": ["GTV-1", "gtv-2 ", "Lung L", "Lung R"], "y": ["GTV-1", "Lung L"], "z": ["[old] GTV"]}


class Named(NamedTuple):
    name: str


def chosen(given, case):
    choice = read_choice(given, "--roi", FOUND)
    return choice, [
        (wanted.name, wanted.value, s.name) for wanted, s in choice.of([Named(name) for name in FOUND[case]])
    ]


def test_names_in_any_capitals_and_patterns_become_classes_in_the_order_given():
    choice, of_x = chosen(["lung*=lung", "Gtv-1=tumour", "GTV-?=tumour"], "x")
    assert choice.classes == {"lung": 1, "tumour": 2}
    assert of_x == [("lung", 1, "Lung L"), ("lung", 1, "Lung R"), ("tumour", 2, "GTV-1"), ("tumour", 2, "gtv-2 ")]
    assert chosen(["lung l", "GTV-1=tumour"], "y")[1] == [("lung l", 1, "Lung L"), ("tumour", 2, "GTV-1")]
    assert chosen(["[OLD] gtv=tumour"], "z")[1] == [("tumour", 1, "[old] GTV")]


def test_a_case_without_a_class_says_what_it_has():
    choice = read_choice(["GTV-1=tumour", "gtv-2=tumour", "Lung R=lung"], "--roi", FOUND)
    cases = {case: [Named(name) for name in names] for case, names in FOUND.items()}
    assert choice.problem(cases["x"], False) is None
    assert choice.problem(cases["y"], False) == (
        "has no segment for lung, only 'GTV-1' and 'Lung L'; add the name to --roi, or leave the case out"
    )
    assert choice.problem(cases["y"], True) is None
    assert "has no segment for tumour or lung, only '[old] GTV';" in str(choice.problem(cases["z"], True))
    assert "has no segment for tumour or lung, only none;" in str(choice.problem([], True))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (
            None,
            r"give --roi NAME\[=CLASS\] ..., such as --roi 'GTV-1'; there are 'GTV-1' \(2 cases\), 'Lung L' \(2 cases\)",
        ),
        (["PTV"], r"--roi names 'PTV', which no case has; there are 'GTV-1' \(2 cases\)"),
        (["GTV*"], r"--roi 'GTV\*' names no class; write NAME=CLASS"),
        (["GTV-1=background"], "--roi 'GTV-1=background' names no class"),
        (["GTV-1="], "--roi 'GTV-1=' is not NAME or NAME=CLASS"),
    ],
)
def test_what_is_refused(given, message):
    with pytest.raises(UserError, match=message):
        read_choice(given, "--roi", FOUND)
