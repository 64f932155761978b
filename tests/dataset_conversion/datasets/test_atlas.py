"""ATLAS 2.0 in miniature, in its BIDS-like tree."""

import zlib

import numpy as np
import pytest

from tests.helpers.downloads import convert, label, scan, train_two_steps
from unetrpp.core.errors import UserError
from unetrpp.dataset.cases import read_dataset
from unetrpp.io.images import read_label

SPACE = "space-MNI152NLin2009aSym"


def place(root, subject, session=1, part="Training"):
    return root / part / subject[4:8].upper() / subject / f"ses-{session}/anat/{subject}_ses-{session}_{SPACE}"


def write(root, subject, session=1, *, part="Training", mask="label-L_desc-T1lesion_mask"):
    start = place(root, subject, session, part)
    seed = zlib.crc32(start.name.encode())
    scan(start.with_name(f"{start.name}_T1w.nii.gz"), seed=seed)
    if mask:
        label(start.with_name(f"{start.name}_{mask}.nii.gz"), [1], seed=seed)


@pytest.fixture
def source(tmp_path):
    root = tmp_path / "ATLAS_2"
    for subject in ("sub-r001s001", "sub-r001s002", "sub-r009s003"):
        write(root, subject)
    write(root, "sub-r050s001", part="Testing", mask=None)
    scan(root / "MNI152NLin2009aSym.nii.gz")
    return root


def test_a_download_goes_to_training(source, tmp_path):
    converted = convert("atlas", source, tmp_path / "w")
    assert converted.errors == ()
    cases = ("sub-r001s001_ses-1", "sub-r001s002_ses-1", "sub-r009s003_ses-1")
    assert converted.cases == (*cases, "sub-r050s001_ses-1")
    assert converted.test_cases == ("sub-r050s001_ses-1",)
    start = place(source, "sub-r001s002")
    before = read_label(start.with_name(f"{start.name}_label-L_desc-T1lesion_mask.nii.gz")).array
    np.testing.assert_array_equal(read_label(converted.folder / f"labelsTr/{cases[1]}.nii.gz").array, before)
    assert read_dataset(converted.folder, "x").description.groups is None
    assert train_two_steps(converted, tmp_path / "w").is_file()


def test_sessions_of_a_subject_are_one_group_and_earlier_names_are_taken(source, tmp_path):
    write(source, "sub-r001s001", 2, mask="label-L_mask")
    converted = convert("atlas", source, tmp_path / "w")
    assert converted.errors == ()
    groups = read_dataset(converted.folder, "x").description.groups
    assert groups == {case: case[:12] for case in converted.cases if case not in converted.test_cases}
    assert len(groups) == 4


def test_a_missing_mask_and_a_foreign_file_are_named(source, tmp_path):
    write(source, "sub-r009s004", mask=None)
    scan(source / "Training/R009/sub-r009s003/ses-1/anat/sub-r009s003_ses-1_FLAIR.nii.gz")
    errors = {error.case: error.message for error in convert("atlas", source, tmp_path / "w").errors}
    assert errors.pop("sub-r009s004_ses-1") == "has no label; complete the download, or remove its image"
    [(name, why)] = errors.items()
    assert name.endswith("_FLAIR.nii.gz")
    assert "is no T1-weighted scan or lesion mask" in why


def test_the_names_of_version_3_are_taken(tmp_path):
    anat = tmp_path / "ATLAS3_Training_Raw/R001/sub-r001s001/ses-1/anat"
    scan(anat / "sub-r001s001_ses-1_space-orig_desc-brain_T1w.nii.gz")
    label(anat / "sub-r001s001_ses-1_space-orig_label-lesion_desc-T1lesion_mask.nii.gz", [1])
    assert convert("atlas", tmp_path, tmp_path / "w").cases == ("sub-r001s001_ses-1",)


def test_version_1_is_refused(tmp_path):
    scan(tmp_path / "d/Site1/031768/t01/031768_t1w_deface_stx.nii.gz")
    label(tmp_path / "d/Site1/031768/t01/031768_LesionSmooth_stx.nii.gz", [1])
    with pytest.raises(UserError, match=r"031768_LesionSmooth_stx\.nii\.gz is of ATLAS 1, which is not supported"):
        convert("atlas", tmp_path / "d", tmp_path / "w")
