"""AMOS22 in miniature: CT and MR by number, and both generations of its dataset.json."""

import json

import pytest

from tests.helpers.downloads import convert, label, scan, train_two_steps
from unetrpp.core.errors import UserError
from unetrpp.dataset.cases import read_dataset
from unetrpp.dataset_conversion.datasets import amos

CT, MR = ("amos_0001", "amos_0004", "amos_0005"), ("amos_0507", "amos_0508")


@pytest.fixture
def source(tmp_path):
    root = tmp_path / "amos22"
    for i, name in enumerate((*CT, *MR)):
        scan(root / f"imagesTr/{name}.nii.gz", ct=name in CT, seed=i)
        label(root / f"labelsTr/{name}.nii.gz", range(1, 16), seed=i)
    scan(root / "imagesVa/amos_0008.nii.gz", ct=True, seed=8)
    label(root / "labelsVa/amos_0008.nii.gz", range(1, 16), seed=8)
    scan(root / "imagesTs/amos_0002.nii.gz", ct=True, seed=7)
    scan(root / "imagesTs/amos_0600.nii.gz", seed=7)
    return root


def test_ct_alone_goes_to_training(source, tmp_path, caplog):
    caplog.set_level("INFO")
    converted = convert("amos", source, tmp_path / "w")
    assert converted.errors == ()
    assert converted.cases == (*CT, "amos_0008", "amos_0002")
    assert converted.test_cases == ("amos_0002",)
    assert read_dataset(converted.folder, "x").description.channel_names == ("CT",)
    assert "3 MR scans are not converted; --modality chooses" in caplog.text
    assert "the labelled scans of imagesVa are training cases" in caplog.text
    assert train_two_steps(converted, tmp_path / "w").is_file()


@pytest.mark.parametrize(("modality", "channel", "cases"), [("mr", "MR", 3), ("both", "CT or MR", 8)])
def test_the_modality_chooses_scans_and_channel(source, tmp_path, modality, channel, cases):
    converted = convert("amos", source, tmp_path / "w", modality=modality)
    assert converted.errors == ()
    assert len(converted.cases) == cases
    assert read_dataset(converted.folder, "x").description.channel_names == (channel,)


def test_validation_scans_without_labels_are_test_cases(source, tmp_path):
    (source / "labelsVa/amos_0008.nii.gz").unlink()
    assert convert("amos", source, tmp_path / "w").test_cases == ("amos_0008", "amos_0002")


@pytest.mark.parametrize("pairs", [False, True])
def test_scans_that_are_listed_but_not_there_are_named(source, tmp_path, pairs):
    """The first generation lists test images as strings and has a file for each task; the second has pairs."""

    def entry(name):
        return {"image": f"./imagesTs/{name}.nii.gz"} if pairs else f"./imagesTs/{name}.nii.gz"

    training = [{"image": f"./imagesTr/{name}.nii.gz", "label": f"./labelsTr/{name}.nii.gz"} for name in CT]
    content = {"training": training, "test": [entry("amos_0002"), entry("amos_0003"), entry("amos_0599")]}
    if pairs:
        content["validation"] = [{"image": "./imagesVa/amos_0009.nii.gz", "label": "./labelsVa/amos_0009.nii.gz"}]
    (source / ("dataset.json" if pairs else "task1_dataset.json")).write_text(json.dumps(content))
    converted = convert("amos", source, tmp_path / "w")
    expected = ["amos_0003", "amos_0009"] if pairs else ["amos_0003"]
    assert [error.case for error in converted.errors] == expected
    assert "is listed in dataset.json, but not there" in converted.errors[0].message


def test_what_is_not_meant_is_refused_or_named(source, tmp_path):
    with pytest.raises(UserError, match=r"modality is 'pet', but must be one of ct, mr, both"):
        convert("amos", source, tmp_path / "w", modality="pet")
    scan(source / "imagesTr/amos_5001.nii.gz", ct=True)
    label(source / "labelsTr/amos_5001.nii.gz", [1])
    errors = {error.case: error.message for error in convert("amos", source, tmp_path / "w").errors}
    assert sorted(errors) == ["imagesTr/amos_5001.nii.gz", "labelsTr/amos_5001.nii.gz"]
    assert "their numbers end at 600" in errors["imagesTr/amos_5001.nii.gz"]
    for part in ("Tr", "Va", "Ts"):
        for path in source.glob(f"*{part}/amos_00*"):
            path.unlink()
    with pytest.raises(UserError, match="holds no CT scan of AMOS; give another --modality"):
        convert("amos", source, tmp_path / "v")


def test_the_classes_and_numbers_are_those_of_the_published_lists(test_data):
    lists = test_data / "samples/dataset_lists"
    for name, modality in (("vista3d/data/jsons/AMOS22", "ct"), ("mr_branch/data/jsons/AMOS22MR", "mr")):
        content = json.loads((lists / f"{name}_5_folds.json").read_text())
        assert {str(value): organ for value, organ in enumerate(amos.ORGANS, 1)} == content["label_dict"]
        cases = [entry["image"].split("/")[1][:9] for entry in content["training"] + content["testing"]]
        assert len(cases) == {"ct": 300, "mr": 60}[modality]
        assert all(amos._is_meant(case, modality) for case in cases)


def test_a_list_that_is_none_is_refused(source, tmp_path):
    (source / "dataset.json").write_text('{"training": 5}')
    with pytest.raises(UserError, match=r"dataset\.json: training must be a list of cases"):
        convert("amos", source, tmp_path / "w")
