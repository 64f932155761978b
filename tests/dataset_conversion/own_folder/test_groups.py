"""{group} in paths: several cases of one patient, named apart, kept together in folds and in hold-outs."""

import json

import numpy as np
import pytest

from tests.helpers.dicom_files import write_series
from tests.helpers.source_folder import convert, files_in, read, write
from unetrpp.dataset_conversion.own_folder.patterns import Pattern, Tree

RNG = np.random.default_rng(11)
ONE = ("--label", "organ=1")


@pytest.fixture
def root(tmp_path):
    """Scans of one name in the folders of four patients, of whom one has a single scan."""
    folder = tmp_path / "src"
    for patient, days in {"Anna Ö": "12", "p2": "12", "p3": "12", "p4": "1"}.items():
        for day in days:
            write(folder / "scans" / patient / f"day{day}.nii.gz", RNG.normal(size=(3, 8, 9)).astype(np.float32))
            write(folder / "drawn" / f"{patient}_day{day}.nii.gz", RNG.integers(0, 2, (3, 8, 9)).astype(np.uint8))
    return folder


def description(root):
    return json.loads((root.parent / "w/raw/Made/dataset.json").read_text())


def test_scans_of_one_name_are_told_apart_and_grouped_by_patient(root):
    assert convert(root, *ONE, images="scans/{group}/{case}.nii.gz", labels="drawn/{group}_{case}.nii.gz") == 0
    groups = {"Anna Ö": "12", "p2": "12", "p3": "12", "p4": "1"}
    expected = {f"{patient}_day{day}": patient for patient, days in groups.items() for day in days}
    assert description(root)["groups"] == expected
    assert files_in(root.parent / "w/raw/Made")["labelsTr"] == sorted(expected)


def test_a_number_of_cases_is_held_out_by_whole_patients(root):
    place = {"images": "scans/{group}/{case}.nii.gz", "labels": "drawn/{case}.nii.gz"}
    assert convert(root, *ONE, "--hold-out", 3, **place) == 0
    raw = root.parent / "w/raw/Made"
    held, trained = files_in(raw)["labelsTs"], files_in(raw)["labelsTr"]
    assert len(held) == 3
    assert not {case.split("_")[0] for case in held} & {case.split("_")[0] for case in trained}
    assert description(root)["groups"] == {case: case.rsplit("_", 1)[0] for case in trained}


def test_names_with_a_group_in_them(tmp_path):
    for name in ("P01_scan_a", "P01_scan_b", "P02_scan_a"):
        write(tmp_path / f"{name}.nii.gz", np.zeros((2, 3, 4), np.uint8))
    pattern = Pattern(tmp_path, "{group}_{case}.nii.gz")
    assert sorted(pattern.files()) == ["P01_scan_a", "P01_scan_b", "P02_scan_a"]
    assert pattern.groups(Tree()) == {"P01_scan_a": "P01", "P01_scan_b": "P01", "P02_scan_a": "P02"}
    whole = Pattern(tmp_path, "{group}_scan_{case}.nii.gz")
    assert whole.groups(Tree()) == {"P01_a": "P01", "P01_b": "P01", "P02_a": "P02"}


def test_a_case_that_begins_with_its_group_keeps_its_name(tmp_path):
    for name in ("P01/P01_t0", "P01/P01_t1", "P02/other"):
        write(tmp_path / f"{name}/{name.split('/')[1]}_t1.nii.gz", np.zeros((2, 3, 4), np.uint8))
    pattern = Pattern(tmp_path, "{group}/{case}/{case}_t1.nii.gz")
    assert pattern.groups(Tree()) == {"P01_t0": "P01", "P01_t1": "P01", "P02_other": "P02"}


@pytest.mark.parametrize("images", ["{group}", "{group}/{case}", "./{group}/"])
def test_a_folder_of_patients_with_dicom_series(tmp_path, images, capsys):
    root = tmp_path / "src"
    for i, case in enumerate(("p1/knee L", "p1/knee R", "p2/knee L")):
        write_series(root / "scans" / case, RNG.integers(0, 200, (3, 6, 8)).astype(np.uint16) + i)
        label = RNG.integers(0, 2, (3, 6, 8)).astype(np.uint8)
        write(root / "drawn" / f"{case.replace('/', '_')}.nii.gz", label, (1.0, 1.0, 2.0))
    (root / "scans/p2/stray.nii.gz").write_bytes(b"no image")
    assert convert(root, *ONE, images=f"scans/{images}", labels="drawn/{group}_{case}.nii.gz") == 2
    assert "of p2_stray is missing" in capsys.readouterr().err
    (root / "scans/p2/stray.nii.gz").rename(root / "scans/p2/stray.mgz")
    assert convert(root, *ONE, images=f"scans/{images}", labels="drawn/{group}_{case}.nii.gz") == 1
    assert "scans/p2  holds stray.mgz, which is in a format that is not supported" in capsys.readouterr().err
    assert description(root)["groups"] == {"p1_knee L": "p1", "p1_knee R": "p1", "p2_knee L": "p2"}


def test_a_missing_label_is_named_with_its_pattern(root, capsys):
    (root / "drawn/p2_day1.nii.gz").unlink()
    assert convert(root, *ONE, images="scans/{group}/{case}.nii.gz", labels="drawn/{group}_{case}.nii.gz") == 2
    assert "p2_day1  drawn/{group}_{case}.nii.gz of p2_day1 is missing" in capsys.readouterr().err


def test_a_patient_in_training_and_test_is_refused(root, capsys):
    write(root / "tests/p2/day9.nii.gz", np.zeros((3, 8, 9), np.float32))
    more = ("--test-images", "tests/{group}/{case}.nii.gz")
    assert convert(root, *ONE, *more, images="scans/{group}/{case}.nii.gz", labels="drawn/{case}.nii.gz") == 2
    error = capsys.readouterr().err
    assert "p2_day9" in error
    assert "is a test case of p2, of which p2_day" in error


def test_masks_of_grouped_cases(root):
    convert(root, "--masks", "organ=drawn/{group}_{case}.nii.gz", images="scans/{group}/{case}.nii.gz", labels=None)
    assert len(description(root)["groups"]) == 7
    np.testing.assert_array_equal(
        read(root.parent / "w/raw/Made/labelsTr/p2_day1.nii.gz"), read(root / "drawn/p2_day1.nii.gz")
    )
