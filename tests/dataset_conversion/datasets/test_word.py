"""WORD in miniature, with its real list of files."""

import json

import pytest

from tests.helpers.downloads import convert, label, scan, train_two_steps
from unetrpp.dataset.cases import read_dataset
from unetrpp.dataset_conversion.datasets import word

NAMES = {
    "Tr": ("word_0002", "word_0010", "word_0096"), "Val": ("word_0001",), "Ts": ("word_0014",),
}  # fmt: skip


@pytest.fixture
def source(tmp_path):
    root = tmp_path / "WORD-V0.1.0"
    for part, names in NAMES.items():
        for i, name in enumerate(names):
            scan(root / f"images{part}/{name}.nii.gz", ct=True, seed=i + len(part))
            label(root / f"labels{part}/{name}.nii.gz", range(1, 17), seed=i)
    scan(root / "addition_validation_from_LiTS/imagesTs/liver_10_word_image.nii.gz")
    return root


def test_a_download_goes_to_training(source, tmp_path, caplog):
    caplog.set_level("INFO")
    (source / "imagesVal").rename(source / "ImagesVal")
    converted = convert("word", source, tmp_path / "w")
    assert converted.errors == ()
    assert converted.cases == (*NAMES["Tr"], "word_0001", "word_0014")
    assert converted.test_cases == ("word_0014",)
    assert "the scans of imagesVal (1) are training cases" in caplog.text
    assert "addition_validation_from_LiTS is not converted" in caplog.text
    labels = read_dataset(converted.folder, "x").description.labels
    assert labels.names[3:5] == ("left kidney", "right kidney")
    assert train_two_steps(converted, tmp_path / "w").is_file()


def test_a_case_of_two_parts_and_a_missing_label_are_named(source, tmp_path):
    scan(source / "imagesTs/word_0001.nii.gz", ct=True)
    (source / "labelsTr/word_0010.nii.gz").unlink()
    converted = convert("word", source, tmp_path / "w")
    errors = {error.case: error.message for error in converted.errors}
    assert errors == {
        "word_0001": "is in two parts of the dataset; remove one of them",
        "word_0010": "has no label; complete the download, or remove its image",
    }


def test_the_classes_are_those_of_the_published_list(test_data):
    content = json.loads((test_data / "samples/dataset_lists/vista3d/data/external/WORD.json").read_text())
    spelled = {"left head of femur": "Head_of_femur_L", "right head of femur": "Head_of_femur_R"}
    names = [spelled.get(organ, organ.replace(" ", "_")) for organ in word.ORGANS]
    assert {str(value): name for value, name in enumerate(["background", *names])} == content["labels"]
