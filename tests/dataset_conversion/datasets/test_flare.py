"""FLARE22 in miniature: labelled, unlabelled, tuning and testing scans."""

import numpy as np
import pytest

from tests.helpers.downloads import convert, label, scan, train_two_steps
from unetrpp.dataset.cases import read_dataset
from unetrpp.io.images import read_label


@pytest.fixture
def source(tmp_path):
    root = tmp_path / "FLARE2022"
    labelled = root / "Training/FLARE22_LabeledCase50"
    for i in range(1, 4):
        scan(labelled / f"images/FLARE22_Tr_{i:04d}_0000.nii.gz", ct=True, seed=i)
        label(labelled / f"labels/FLARE22_Tr_{i:04d}.nii.gz", range(1, 14), seed=i)
    scan(root / "Tuning/images/FLARETs_0001_0000.nii.gz", ct=True, seed=5)
    label(root / "Tuning/labels/FLARETs_0001.nii.gz", range(1, 14), seed=5)
    scan(root / "Testing/FLARETs_0001_0000.nii.gz", ct=True, seed=6)
    scan(root / "Training/FLARE22_UnlabeledCase1-1000/Case_00001_0000.nii.gz", ct=True)
    return root


def test_a_download_goes_to_training(source, tmp_path, caplog):
    caplog.set_level("INFO")
    converted = convert("flare", source, tmp_path / "w")
    assert converted.errors == ()
    assert converted.cases[:3] == tuple(f"FLARE22_Tr_{i:04d}" for i in range(1, 4))
    assert converted.test_cases == ("FLARETs_0001", "Testing_FLARETs_0001")
    assert "1 scan (Case_NNNNN_0000) has no label and is not converted" in caplog.text
    labels = read_dataset(converted.folder, "x").description.labels
    assert (labels.names[2], labels.names[13], labels.values[13]) == ("right kidney", "left kidney", 13)
    before = source / "Training/FLARE22_LabeledCase50/labels/FLARE22_Tr_0002.nii.gz"
    after = read_label(converted.folder / "labelsTr/FLARE22_Tr_0002.nii.gz").array
    np.testing.assert_array_equal(after, read_label(before).array)
    assert train_two_steps(converted, tmp_path / "w").is_file()


def test_a_missing_label_and_an_unknown_file_are_named(source, tmp_path):
    (source / "Training/FLARE22_LabeledCase50/labels/FLARE22_Tr_0003.nii.gz").unlink()
    scan(source / "Training/mean.nii.gz")
    scan(source / "copy/FLARETs_0001_0000.nii", ct=True)
    converted = convert("flare", source, tmp_path / "w")
    errors = {error.case: error.message for error in converted.errors}
    assert sorted(errors) == ["FLARE22_Tr_0003", "FLARETs_0001", "Training/mean.nii.gz"]
    assert "keep one" in errors["FLARETs_0001"]
