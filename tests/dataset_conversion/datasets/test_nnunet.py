"""nnU-Net's two versions in miniature: v1 to training, v2 with regions, lists of files and groups as it is."""

import json

import numpy as np
import pytest

from tests.helpers.downloads import convert, label, scan, train_two_steps
from unetrpp.core.errors import UserError
from unetrpp.dataset.cases import read_dataset
from unetrpp.io.images import read_image


@pytest.fixture
def task(tmp_path):
    """Three training cases of two channels and a test case; the lists name images without their channel."""
    root = tmp_path / "nnUNet_raw_data/Task055_SegTHOR Müller"
    pairs = []
    for i, case in enumerate(("Patient_01", "Patient_02", "Patient_03")):
        for channel in range(2):
            scan(root / f"imagesTr/{case}_{channel:04d}.nii.gz", seed=7 * i + channel)
        label(root / f"labelsTr/{case}.nii.gz", [1, 2], seed=i)
        pairs.append({"image": f"./imagesTr/{case}.nii.gz", "label": f"./labelsTr/{case}.nii.gz"})
    for channel in range(2):
        scan(root / f"imagesTs/Patient_41_{channel:04d}.nii.gz", seed=90 + channel)
    (root / "imagesTr/._Patient_01_0000.nii.gz").write_bytes(b"\0")
    content = {
        "name": "SegTHOR",
        "tensorImageSize": "4D",
        "licence": "see challenge website",
        "reference": "a challenge",
        "modality": {"0": "T1", "1": "T2"},
        "labels": {"0": "background", "1": "esophagus", "2": "heart"},
        "numTraining": 3,
        "numTest": 1,
        "training": pairs,
        "test": ["./imagesTs/Patient_41.nii.gz"],
    }
    (root / "dataset.json").write_text(json.dumps(content))
    return root


def change(root, **values):
    path = root / "dataset.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def test_a_task_of_version_1_is_converted_and_trained(task, tmp_path):
    converted = convert("nnunet", task.parent, tmp_path / "w", name="SegTHOR")
    assert converted.errors == ()
    assert converted.test_cases == ("Patient_41",)
    dataset = read_dataset(converted.folder, "SegTHOR")
    assert dataset.description.channel_names == ("T1", "T2")
    assert dataset.description.labels.names == ("background", "esophagus", "heart")
    assert dataset.description.licence == "see challenge website"
    for case in dataset.cases:
        expected = [read_image(task / f"imagesTr/{case.id}_{i:04d}.nii.gz").array[0] for i in range(2)]
        np.testing.assert_array_equal(read_image(case.images).array, expected)
    assert train_two_steps(converted, tmp_path / "w").is_file()


def test_incomplete_cases_and_other_images_are_named(task, tmp_path):
    (task / "imagesTr/Patient_02_0001.nii.gz").unlink()
    (task / "labelsTr/Patient_03.nii.gz").unlink()
    (task / "imagesTs/Patient_41_0001.nii.gz").rename(task / "imagesTs/Patient_41_b.nii.gz")
    scan(task / "imagesTr/Patient_04_0000.nii.gz")
    scan(task / "imagesTr/extra.nii")
    (task / "imagesTr/Patient_01_0000.nii.gz").write_bytes(b"x" * 600)
    for channel in range(2):  # a training case among the test cases
        scan(task / f"imagesTs/Patient_02_{channel:04d}.nii.gz")
    reasons = {error.case: error.message for error in convert("nnunet", task, tmp_path / "w").errors}
    lost = {"imagesTr/Patient_04_0000.nii.gz", "imagesTr/extra.nii", "imagesTs/Patient_41_b.nii.gz"}
    assert reasons.keys() == {"Patient_01", "Patient_02", "Patient_03", "Patient_41"} | lost
    assert "is in imagesTr and in imagesTs" in reasons["Patient_02"]
    assert "has no Patient_41_0001.nii.gz in imagesTs" in reasons["Patient_41"]
    assert "has no Patient_03.nii.gz in labelsTr" in reasons["Patient_03"]
    assert "Patient_01_0000.nii.gz" in reasons["Patient_01"]
    assert "belongs to no case of dataset.json" in reasons["imagesTr/extra.nii"]


def test_the_decathlon_and_malformed_files_are_refused(task, tmp_path):
    change(task, modality=["CT"])
    with pytest.raises(UserError, match=r"is not a dataset\.json of nnU-Net v1"):
        convert("nnunet", task, tmp_path / "w")
    change(task, modality={"0": "CT"}, training=json.loads((task / "dataset.json").read_text())["training"] * 2)
    with pytest.raises(UserError, match="lists Patient_01, Patient_02 and Patient_03 twice"):
        convert("nnunet", task, tmp_path / "w")
    scan(task / "imagesTr/whole.nii.gz")
    change(task, training=[{"image": "imagesTr/whole.nii.gz", "label": "labelsTr/Patient_01.nii.gz"}])
    with pytest.raises(UserError, match="Decathlon; convert it with unetrpp_convert msd"):
        convert("nnunet", task, tmp_path / "w")


@pytest.mark.parametrize("link", [False, True])
def test_a_dataset_of_version_2_stays_as_it_is(tmp_path, caplog, link):
    caplog.set_level("INFO")
    root = tmp_path / "Dataset137_BraTS"
    labels = {"background": 0, "whole": [1, 2, 3], "core": [2, 3], "enhancing": 3}
    files = {}
    for i, case in enumerate(("a_1", "a_2", "b_1")):
        scan(root / f"images elsewhere/{case}.mha", seed=i)
        label(root / f"truth/{case}.mha", [1, 2, 3], seed=i)
        files[case] = {"images": [f"images elsewhere/{case}.mha"], "label": f"truth/{case}.mha"}
    scan(root / "imagesTs/c_1_0000.mha", seed=8)
    label(root / "labelsTs/c_1.mha", [1], seed=8)
    content = {
        "channel_names": {"0": "FLAIR"},
        "labels": labels,
        "regions_class_order": [1, 2, 3],
        "file_ending": ".mha",
        "dataset": files,
        "groups": {"a_1": "a", "a_2": "a", "b_1": "b"},
    }
    (root / "dataset.json").write_text(json.dumps(content))
    converted = convert("nnunet", root, tmp_path / "w", link=link)
    assert converted.errors == ()
    assert converted.folder.name == "BraTS"
    assert converted.test_cases == ("c_1",)
    assert "needs no conversion: unetrpp_plan_and_preprocess takes its path as it is" in caplog.text
    written = json.loads((converted.folder / "dataset.json").read_text())
    for key in ("channel_names", "labels", "regions_class_order", "file_ending", "groups"):
        assert written[key] == content[key]
    for case, of_case in files.items():
        for source, target in (
            (of_case["images"][0], f"imagesTr/{case}_0000.mha"),
            (of_case["label"], f"labelsTr/{case}.mha"),
        ):
            assert (converted.folder / target).is_symlink() == link
            assert (converted.folder / target).read_bytes() == (root / source).read_bytes()
    assert (converted.folder / "labelsTs/c_1.mha").exists()
