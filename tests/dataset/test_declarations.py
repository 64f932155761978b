"""What dataset.json says, against the files in its folder."""

import json

import pytest

from tests.helpers.raw_dataset import DESCRIPTION, write_dataset
from unetrpp.dataset.cases import read_dataset
from unetrpp.dataset.declarations import declaration_problems


@pytest.fixture
def raw(tmp_path):
    return write_dataset(tmp_path / "Blocks", 3)


def found(raw, **change):
    content = {**DESCRIPTION, "numTraining": 3, **change}
    (raw / "dataset.json").write_text(json.dumps({k: v for k, v in content.items() if v is not None}))
    return [(p.fatal, p.message) for p in declaration_problems(read_dataset(raw, "Blocks"))]


@pytest.mark.parametrize("number", [3, 3.0, None])
def test_the_right_number_of_cases(raw, number):
    assert found(raw, numTraining=number) == []


@pytest.mark.parametrize(("number", "repair"), [(5, "restore the missing ones, or correct"), (2, "correct the number")])
def test_another_number_of_cases_is_a_warning(raw, number, repair):
    ((fatal, message),) = found(raw, numTraining=number)
    assert not fatal
    assert f"'numTraining' in dataset.json is {number}, but the folder has 3 training cases; {repair}" in message


def test_groups_that_name_no_case_are_errors(raw):
    files = {f"case_{i}.nii.gz": "p" for i in range(3)}
    (fatal, message), (fatal_too, alone) = found(raw, groups=files)
    assert fatal
    assert (
        "the groups have 3 names that are not cases of the dataset: 'case_0.nii.gz' (did you mean case_0?)" in message
    )
    assert not fatal_too
    assert alone == "3 of 3 cases have no group, so each counts as a patient of its own: case_0, case_1 and case_2"


def test_groups_of_some_cases_are_a_warning(raw):
    assert [fatal for fatal, _ in found(raw, groups={"case_0": "p", "case_1": "p"})] == [False]
    assert found(raw, groups={"case_0": "p", "case_1": "p", "case_2": "q"}) == []
    assert found(raw, groups={}) == []


def test_an_empty_group_is_an_error(raw):
    ((fatal, message),) = found(raw, groups={"case_0": "", "case_1": " ", "case_2": "q"})
    assert fatal
    assert message.startswith("the groups of case_0 and case_1 are empty")


def test_groups_may_name_test_cases(raw):
    (raw / "imagesTs").mkdir()
    (raw / "imagesTs" / "later_0000.nii.gz").write_bytes(b"")
    groups = {"case_0": "p", "case_1": "p", "case_2": "q", "later": "p"}
    assert found(raw, groups=groups) == []
    assert [fatal for fatal, _ in found(raw, groups=groups | {"latest": "p"})] == [True]


@pytest.mark.parametrize(
    ("ending", "value", "largest"), [(".bmp", 256, 255), (".png", 65536, 65535), (".nii.gz", 2**32, 2**32 - 1)]
)
def test_labels_that_no_file_can_hold_are_errors(raw, ending, value, largest):
    for path in [*raw.glob("*/*")]:
        path.rename(path.with_name(path.name.replace(".nii.gz", ending)))
    allowed, refused = ({"background": 0, "organ": v} for v in (largest, value))
    assert found(raw, file_ending=ending, labels=allowed) == []
    ((fatal, message),) = found(raw, file_ending=ending, labels=refused)
    assert fatal
    assert message.startswith(f"label 'organ' is {value}, but {largest} is the largest")


def test_regions_that_predictions_cannot_show_are_errors(raw):
    labels = {"background": 0, "left": [1, 3], "right": [1, 2]}
    ((fatal, message),) = found(raw, labels=labels, regions_class_order=[3, 2])
    assert fatal
    assert message.startswith("regions 'left' [1, 3] and 'right' [1, 2] overlap")
    assert "add a region of the shared [1]" in message
    assert found(raw, labels=labels | {"both": 1}, regions_class_order=[3, 2, 1]) == []
    ((fatal, message),) = found(raw, labels={"background": 0, "all": [0, 1], "one": 1}, regions_class_order=[0, 1])
    assert fatal
    assert message.startswith("region 'all' holds 0, the background")


def test_filled_regions_are_explained(raw):
    labels = {"background": 0, "whole": [1, 2], "a": 1, "b": 2}
    ((fatal, message),) = found(raw, labels=labels, regions_class_order=[1, 1, 2])
    assert not fatal
    assert "the value is 1, which belongs to 'a' as well" in message


def test_background_alone_is_an_error(raw):
    ((fatal, message),) = found(raw, labels={"background": 0})
    assert fatal
    assert "nothing but the background" in message
