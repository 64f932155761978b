"""Warnings of a prediction on the terminal: a line a case, however many classes, and one for all of many cases."""

from pathlib import Path

import pytest

from unetrpp.inference.notices import CaseNotices, Notice, lines_of

SPACING = Notice("spacing", "spacing along z is 9 mm, training cases had 1 mm")


def missing(name):
    return Notice("class not found", f"{name} was not found, every training case had it (2 ml)", name)


def large(name):
    return Notice("unusual size", f"{name} has 9 ml, training cases had 2 ml", name)


def names(count):
    return [f"region_{i}" for i in range(1, count + 1)]


def test_few_classes_are_named_with_their_sizes():
    notices = [SPACING, missing("liver"), large("spleen")]
    assert lines_of(notices, 2) == [notice.text for notice in notices]
    assert lines_of([missing("organ")], 1) == ["organ was not found, every training case had it (2 ml)"]
    assert lines_of([], 120) == []


@pytest.mark.parametrize("classes", [7, 37, 120])
def test_many_classes_are_one_line(classes):
    notices = [SPACING, *map(missing, names(classes - 1)), large(f"region_{classes}")]
    assert lines_of(notices, classes) == [
        SPACING.text,
        f"{classes - 1} of {classes} classes were not found that every training case had: "
        f"region_1, region_2, region_3 and {classes - 4} more; "
        f"1 of {classes} classes was far larger or smaller than in any training case: region_{classes}",
    ]


@pytest.mark.parametrize("cases", [1, 10])
def test_the_warnings_of_some_cases_are_logged_one_by_one(cases, caplog):
    log = CaseNotices(Path("out/predictions.json"), classes=1)
    for i in range(cases):
        log.add(f"case_{i}", [missing("organ")])
    log.summarise()
    assert caplog.messages == [
        f"case_{i}: warning: organ was not found, every training case had it (2 ml)" for i in range(cases)
    ]


def test_those_of_a_thousand_cases_are_counted(caplog):
    log = CaseNotices(Path("predictions.json"), classes=120)
    for i in range(1000):
        odd = [SPACING] * 2 if i % 2 else []
        log.add(f"case_{i}", odd + list(map(missing, names(120))) if i < 500 else odd)
    log.summarise()
    assert len(caplog.messages) == 5 * 1 + 5 * 3 + 1
    assert caplog.messages[-1] == (
        "750 of 1000 cases have warnings: class not found (500), spacing (500); the first 10 are above, "
        "predictions.json lists all"
    )
