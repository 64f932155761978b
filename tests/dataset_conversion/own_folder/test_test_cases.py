"""Test cases: in folders of their own, held back by number or by list, and kept apart from training on every later run."""

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.helpers.source_folder import convert, files_in, make_source, read, write
from unetrpp.core.errors import UserError
from unetrpp.dataset.cases import read_dataset
from unetrpp.dataset_conversion.own_folder.hold_out import held_out

ONE = ("--label", "organ=1")


@pytest.fixture
def root(tmp_path):
    return tmp_path / "src"


def test_labels_of_test_cases_are_written_beside_their_images(root, capsys):
    make_source(root, 3)
    labels = make_source(root, 2, part="test")
    assert convert(root, *ONE, "--test-images", "testimages", "--test-labels", "testlabels") == 0
    raw = root.parent / "w/raw/Made"
    assert capsys.readouterr().out.startswith(
        f"{raw}: 3 training and 2 test cases converted\nnext: unetrpp_plan_and_preprocess "
    )
    assert files_in(raw) == {
        "imagesTr": ["c0_0000", "c1_0000", "c2_0000"],
        "labelsTr": ["c0", "c1", "c2"],
        "imagesTs": ["test0_0000", "test1_0000"],
        "labelsTs": ["test0", "test1"],
    }
    assert [case.id for case in read_dataset(raw, "Made").cases] == ["c0", "c1", "c2"]
    for case, label in labels.items():
        np.testing.assert_array_equal(read(raw / "labelsTs" / f"{case}.nii.gz"), label)


def test_instances_of_test_cases_become_one_class_and_the_ignore_label_stays(root):
    make_source(root, 2, highest=30)
    labels = make_source(root, 1, part="test", highest=30)
    one = ("--label", "cell=5", "ignore=7", "--foreground-from-instances")
    assert convert(root, *one, "--test-images", "testimages", "--test-labels", "testlabels") == 0
    written = read(root.parent / "w/raw/Made/labelsTs/test0.nii.gz")
    np.testing.assert_array_equal(written, np.select([labels["test0"] == 7, labels["test0"] > 0], [7, 5], 0))


def test_a_test_case_without_its_label_is_named_before_the_start(root, capsys):
    make_source(root, 2)
    make_source(root, 2, part="test")
    (root / "testlabels/test1.nii.gz").unlink()
    assert convert(root, *ONE, "--test-images", "testimages", "--test-labels", "testlabels") == 2
    assert "test1  testlabels/test1.* is missing" in capsys.readouterr().err


def test_a_number_of_cases_is_held_out_and_stays_so_when_the_source_grows(root, capsys):
    make_source(root, 6)
    assert convert(root, *ONE, "--hold-out", 2) == 0
    assert "4 training and 2 test cases converted" in capsys.readouterr().out
    raw = root.parent / "w/raw/Made"
    before = files_in(raw)
    assert len(before["labelsTs"]) == 2
    assert sorted(before["labelsTs"] + before["labelsTr"]) == [f"c{i}" for i in range(6)]
    assert json.loads((raw / "dataset.json").read_text())["numTraining"] == 4
    make_source(root, 20)
    assert convert(root, *ONE, "--hold-out", 2) == 0
    assert files_in(raw)["labelsTs"] == before["labelsTs"]


def test_a_list_names_the_cases_and_all_unknown_ones_at_once(root, tmp_path, capsys):
    make_source(root, 4)
    (tmp_path / "tests.txt").write_text("\ufeffc1\r\n\r\nc3.nii.gz\r\nC2\r\nz9\r\n", encoding="utf8")
    assert convert(root, *ONE, "--hold-out", tmp_path / "tests.txt") == 2
    error = capsys.readouterr().err
    assert "'C2' (did you mean c2?) and 'z9' are no cases of the folder" in error
    (root / "tests.txt").write_text("c1\nc3.nii.gz\n")
    assert convert(root, *ONE, "--hold-out", "tests.txt") == 0  # a file that lies with the data
    assert files_in(root.parent / "w/raw/Made")["labelsTs"] == ["c1", "c3"]


def test_another_hold_out_is_another_conversion_and_overwrite_moves_the_cases(root, tmp_path, capsys):
    make_source(root, 4)
    (tmp_path / "tests.txt").write_text("c1\n")
    assert convert(root, *ONE, "--hold-out", tmp_path / "tests.txt") == 0
    (tmp_path / "tests.txt").write_text("c2\n")
    assert convert(root, *ONE, "--hold-out", tmp_path / "tests.txt") == 2
    assert "with other options; give --name or --overwrite" in capsys.readouterr().err
    assert convert(root, *ONE, "--hold-out", tmp_path / "tests.txt", "--overwrite") == 0
    assert files_in(root.parent / "w/raw/Made") == {
        "imagesTr": ["c0_0000", "c1_0000", "c3_0000"],
        "labelsTr": ["c0", "c1", "c3"],
        "imagesTs": ["c2_0000"],
        "labelsTs": ["c2"],
    }


def test_groups_of_the_raw_dataset_stay_together_and_are_kept(root, capsys):
    make_source(root, 6)
    assert convert(root, *ONE) == 0
    path = root.parent / "w/raw/Made/dataset.json"
    groups = {f"c{i}": f"patient{i // 3}" for i in range(6)}
    path.write_text(json.dumps(json.loads(path.read_text()) | {"groups": groups, "check_modality": False}))
    assert convert(root, *ONE, "--hold-out", 2, "--overwrite") == 2
    assert "no whole groups add up to 2 cases" in capsys.readouterr().err
    assert convert(root, *ONE, "--hold-out", 3, "--overwrite") == 0
    assert files_in(path.parent)["labelsTs"] in (["c0", "c1", "c2"], ["c3", "c4", "c5"])
    content = json.loads(path.read_text())
    assert (content["groups"], content["check_modality"]) == (groups, False)


@given(st.lists(st.integers(0, 99), min_size=2, unique=True), st.data())
def test_a_draw_depends_on_neither_order_nor_run(numbers, data):
    cases = [f"case_{n}" for n in numbers]
    count = data.draw(st.integers(1, len(cases) - 1))
    drawn = held_out(count, cases)
    assert len(drawn) == count
    assert held_out(count, data.draw(st.permutations(cases))) == drawn
    assert set(held_out(count, [*cases, "late"])) - {"late"} <= set(drawn)


@pytest.mark.parametrize(
    ("wanted", "message"),
    [
        (4, "takes 4 of 4 cases"),
        (9, "no whole groups|takes 4 of 4"),
        (0, "holds out nothing"),
        (Path("nowhere.txt"), "neither a number"),
    ],
)
def test_what_cannot_be_held_out(wanted, message):
    with pytest.raises(UserError, match=message):
        held_out(wanted, ["a", "b", "c", "d"])


def test_a_list_that_tears_a_group(tmp_path):
    (tmp_path / "tests.txt").write_text("a\n")
    with pytest.raises(UserError, match=r"b is in the same group \(p\) as a case of --hold-out"):
        held_out(tmp_path / "tests.txt", ["a", "b", "c"], groups={"a": "p", "b": "p"})


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--test-labels", "labels"), "--test-labels are the labels of --test-images"),
        (("--test-images", "images", "--hold-out", "1"), "both say what the test cases are"),
    ],
)
def test_contradictory_options_are_refused(root, capsys, options, message):
    make_source(root, 2)
    assert convert(root, *ONE, *options) == 2
    assert message in capsys.readouterr().err


def test_a_file_in_place_of_a_folder_is_said_so(root, capsys):
    make_source(root, 2)
    assert convert(root, *ONE, labels="labels/c0.nii.gz") == 2
    assert "'labels/c0.nii.gz' is one file; give the folder that holds" in capsys.readouterr().err
    assert convert(root.parent / "nowhere", *ONE) == 2
    assert "the first argument is the folder of your data" in capsys.readouterr().err


def test_nothing_converted_is_nothing_to_overwrite(root, capsys):
    write(root / "images/c0.nii.gz", np.zeros((2, 3, 4), np.uint8))
    write(root / "labels/c0.nii.gz", np.full((2, 3, 4), 3, np.uint8))
    assert convert(root, *ONE) == 1
    assert "holds the label 3, but only 0, 1 are declared" in capsys.readouterr().err
    assert convert(root, "--label", "organ=3") == 0


def test_a_new_scan_of_a_held_out_patient_is_not_trained_on():
    groups = {"p1_a": "p1", "p2_a": "p2", "p3_a": "p3"}
    earlier = held_out(1, sorted(groups), groups=groups)
    patient = groups[earlier[0]]
    grown = groups | {f"{patient}_b": patient}
    with pytest.raises(
        UserError, match=f"{patient}_b is in the same group .*; list the test cases in a file, or draw anew"
    ):
        held_out(1, sorted(grown), groups=grown, earlier=earlier)
