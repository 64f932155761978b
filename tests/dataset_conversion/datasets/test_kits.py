"""KiTS19, KiTS21 and KiTS23 in miniature: what tells the year, which label counts, and what makes no case."""

import json

import numpy as np
import pytest

from tests.helpers.downloads import convert, label, scan, train_two_steps
from unetrpp.core.errors import UserError
from unetrpp.dataset.cases import read_dataset
from unetrpp.dataset_conversion.datasets import kits
from unetrpp.io.images import read_label


def write_cases(root, numbers, *, labels=("segmentation",), values=(1, 2), images=True):
    for i in numbers:
        folder = root / f"case_{i:05d}"
        folder.mkdir(parents=True, exist_ok=True)
        if images:
            scan(folder / "imaging.nii.gz", ct=True, seed=i)
        for seed, name in enumerate(labels):
            label(folder / f"{name}.nii.gz", values, seed=i + seed)
    return root


def test_the_year_of_2019_has_test_cases_and_goes_to_training(tmp_path, caplog):
    caplog.set_level("INFO")
    root = write_cases(tmp_path / "kits19/data", (0, 1, 2, 15))
    write_cases(root, (210,), labels=())
    (root / "kits.json").write_text("[]")
    (root / "case_00000/._imaging.nii.gz").write_bytes(b"junk")
    converted = convert("kits", tmp_path / "kits19", tmp_path / "w")
    assert converted.errors == ()
    assert converted.cases == ("case_00000", "case_00001", "case_00002", "case_00015", "case_00210")
    assert converted.test_cases == ("case_00210",)
    assert "this is KiTS19" in caplog.text
    assert "case_00015  nnU-Net's authors left it out" in caplog.text
    assert read_dataset(converted.folder, "x").description.labels.names == ("background", "kidney", "tumour")
    assert train_two_steps(converted, tmp_path / "w").is_file()


def test_annotations_of_2021_are_chosen_by_aggregation(tmp_path):
    kinds = ("aggregated_MAJ_seg", "aggregated_OR_seg", "aggregated_AND_seg")
    root = write_cases(tmp_path / "kits21", (0, 1), labels=kinds, values=(1, 2, 3))
    label(root / "case_00000/segmentations/kidney_instance-1_annotation-1.nii.gz", [1])
    for aggregation in ("MAJ", "AND"):
        converted = convert("kits", root, tmp_path / "w", name=aggregation, aggregation=aggregation)
        assert converted.errors == ()
        drawn = read_label(converted.folder / "labelsTr/case_00001.nii.gz").array
        expected = read_label(root / f"case_00001/aggregated_{aggregation}_seg.nii.gz").array
        np.testing.assert_array_equal(drawn, expected)
    (root / "case_00001/aggregated_OR_seg.nii.gz").unlink()
    [error] = convert("kits", root, tmp_path / "w", name="OR", aggregation="OR").errors
    assert (error.case, error.message) == ("case_00001", "has no aggregated_OR_seg.nii.gz; complete the download")


def test_regions_of_2023_are_those_of_the_challenge(tmp_path):
    root = write_cases(tmp_path / "dataset", (0, 400), values=(1, 2, 3))
    label(root / "case_00000/instances/kidney_instance-1_annotation-1.nii.gz", [1])
    plain = convert("kits", tmp_path, tmp_path / "w")
    assert plain.errors == ()
    assert read_dataset(plain.folder, "x").description.labels.names == ("background", "kidney", "tumour", "cyst")
    converted = convert("kits", tmp_path, tmp_path / "w", name="regions", regions=True)
    content = json.loads((converted.folder / "dataset.json").read_text())
    # The hierarchical classes of https://github.com/MIC-DKFZ/nnUNet's Dataset220_KiTS2023.
    assert content["labels"] == {"background": 0, "kidney": [1, 2, 3], "masses": [2, 3], "tumour": [2]}
    assert content["regions_class_order"] == [1, 3, 2]


def test_a_year_that_nothing_tells_has_to_be_given(tmp_path):
    root = write_cases(tmp_path / "some", (0, 1))
    with pytest.raises(UserError, match="may hold KiTS19 or KiTS23; give --year 19 or --year 23"):
        convert("kits", root, tmp_path / "w")
    converted = convert("kits", root, tmp_path / "w", year="23")
    assert read_dataset(converted.folder, "x").description.labels.names[-1] == "cyst"
    with pytest.raises(UserError, match="year must be one of 19, 21, 23"):
        convert("kits", root, tmp_path / "w", year="20")


def test_what_makes_no_case_is_named(tmp_path):
    root = write_cases(tmp_path / "d", (0, 1, 2))
    write_cases(root, (3,), labels=())
    write_cases(root, (4,), images=False)
    scan(root / "case_00002/imaging.nii", ct=True)
    scan(root / "case_00001/imaging_resampled.nii.gz")
    label(root / "case_00000/segmentation.nii.gz", [1, 2, 3])
    converted = convert("kits", root, tmp_path / "w", year="19")
    assert converted.cases == ("case_00001",)
    errors = {error.case: error.message for error in converted.errors}
    assert errors["case_00002"] == "has several files for one (imaging.nii and imaging.nii.gz); keep one"
    assert errors["case_00003"] == "has no segmentation.nii.gz; complete the download"
    assert errors["case_00004"] == "has no imaging.nii.gz; run the download script of the repository"
    assert "is no imaging or label of a case" in errors["case_00001/imaging_resampled.nii.gz"]
    assert "segmentation.nii.gz holds the label 3" in errors["case_00000"]
    assert len(errors) == 5


def test_two_years_side_by_side_are_refused(tmp_path):
    write_cases(tmp_path / "d/kits19", (0,))
    write_cases(tmp_path / "d/kits23", (0,))
    with pytest.raises(UserError, match=r"two folders of one case \(kits19/case_00000 and kits23/case_00000\)"):
        kits.read(tmp_path / "d")
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="has no folders of cases, such as case_00000"):
        kits.read(tmp_path / "empty")


def test_an_aggregation_is_refused_where_there_is_none(tmp_path):
    write_cases(tmp_path / "kits23/dataset", (0, 400), values=(1, 2, 3))
    with pytest.raises(UserError, match="chooses among the labels of KiTS21, but this is KiTS23; leave it out"):
        convert("kits", tmp_path / "kits23", tmp_path / "w", aggregation="OR")


def test_a_case_that_was_converted_and_lacks_a_file_now_is_refused_with_the_reason(tmp_path):
    root = write_cases(tmp_path / "kits19/data", (0, 1, 210))
    convert("kits", tmp_path / "kits19", tmp_path / "w", year="19")
    (root / "case_00001/imaging.nii.gz").unlink()
    with pytest.raises(UserError, match=r"\(case_00001\) of which it is said now: case_00001 has no imaging.nii.gz"):
        convert("kits", tmp_path / "kits19", tmp_path / "w", year="19")
