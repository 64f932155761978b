"""dataset.json, ours and nnU-Net's: what is read, what is refused with which sentence, and the round trip."""

import json

import numpy as np
import pytest

from unetrpp.dataset import image_ids, nnunet_json, read_dataset, read_description
from unetrpp.errors import UserError
from unetrpp.files import write_json
from unetrpp.labels import LabelScheme, Region

NNUNET = {
    "channel_names": {"0": "T1", "1": "T2"},
    "labels": {"background": 0, "edema": 1, "core": 2},
    "numTraining": 2,
    "file_ending": ".nii.gz",
    "overwrite_image_reader_writer": "SimpleITKIO",  # unknown keys are dropped
}
REGIONS = {
    "labels": {"background": 0, "whole": [1, 2], "core": [2], "ignore": 3},
    "regions_class_order": [1, 2],
}


def write(folder, content):
    (folder / "dataset.json").write_text(json.dumps(content))
    return folder / "dataset.json"


def test_nnunets_file_is_read(tmp_path):
    description = read_description(write(tmp_path, NNUNET), "mine")
    assert description.name == "mine"
    assert description.channel_names == ("T1", "T2")
    assert description.labels == LabelScheme(names=("background", "edema", "core"), values=(0, 1, 2))


def test_regions_and_the_ignore_label(tmp_path):
    labels = read_description(write(tmp_path, NNUNET | REGIONS), "mine").labels
    assert labels.regions == (
        Region(name="whole", members=(1, 2), value=1),
        Region(name="core", members=(2,), value=2),
    )
    assert (labels.ignore_value, labels.ignore_index, labels.outputs) == (3, 3, 2)


@pytest.mark.parametrize("extra", [{}, REGIONS, {"groups": {"a": "p1"}, "licence": "CC0"}])
def test_what_we_write_is_what_we_read(tmp_path, extra):
    first = read_description(write(tmp_path, NNUNET | extra), "mine")
    write_json(tmp_path / "dataset.json", nnunet_json(first, 2))
    assert read_description(tmp_path / "dataset.json", "mine") == first


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"channel_names": None}, "'channel_names' is missing"),
        ({"labels": [0, 1]}, r"'labels' is \[0,1\], but must be an object"),
        ({"labels": {"a": 1}}, "no background"),
        ({"labels": {"background": 0, "a": 1, "b": 1}}, "share one value"),
        ({"labels": {"background": 0, "a": -1}}, "whole number >= 0"),
        ({"labels": {"background": 0, "a": True}}, "whole number >= 0"),
        ({"labels": REGIONS["labels"]}, "regions_class_order"),
        ({"channel_names": {"0": "T1", "2": "T2"}}, "without gaps"),
        ({"file_ending": ".docx"}, "is not one of"),
    ],
)
def test_a_broken_file_is_one_sentence_with_the_mend(tmp_path, change, message):
    path = write(tmp_path, NNUNET | change)
    with pytest.raises(UserError, match=message) as error:
        read_description(path, "mine")
    assert str(path) in str(error.value)


def test_no_json_at_all(tmp_path):
    (tmp_path / "dataset.json").write_text("{")
    with pytest.raises(UserError, match="dataset_format"):
        read_description(tmp_path / "dataset.json", "mine")


def test_cases_are_listed_by_id_with_their_channels_even_when_files_are_missing(tmp_path):
    write(tmp_path, NNUNET)
    for name in ("imagesTr/b_0000.nii.gz", "imagesTr/b_0001.nii.gz", "imagesTr/a_0000.nii.gz", "labelsTr/b.nii.gz"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "imagesTr/._a_0000.nii.gz").touch()
    dataset = read_dataset(tmp_path, "mine")
    assert [c.id for c in dataset.cases] == ["a", "b"]
    assert [p.name for p in dataset.cases[0].images] == ["a_0000.nii.gz"]  # one file that may bring both channels
    assert [p.name for p in dataset.cases[1].images] == ["b_0000.nii.gz", "b_0001.nii.gz"]
    assert dataset.cases[0].label == tmp_path / "labelsTr/a.nii.gz"
    assert image_ids(tmp_path / "imagesTr", dataset.description) == ["a", "b"]


def test_nnunets_dict_of_paths_has_the_first_word(tmp_path):
    paths = {"x": {"images": ["elsewhere/x.nii.gz"], "label": "labels/x.nii.gz"}}
    write(tmp_path, NNUNET | {"dataset": paths})
    case = read_dataset(tmp_path, "mine").cases[0]
    assert (case.images, case.label) == ((tmp_path / "elsewhere/x.nii.gz",), tmp_path / "labels/x.nii.gz")


def test_a_folder_without_cases_is_refused(tmp_path):
    write(tmp_path, NNUNET)
    with pytest.raises(UserError, match="no training case"):
        read_dataset(tmp_path, "mine")


def test_values_become_indices_and_come_back():
    scheme = LabelScheme(names=("background", "a", "b"), values=(0, 5, 300), ignore_value=7)
    array = np.array([[0, 5, 300, 7]])
    assert scheme.encode(array).tolist() == [[0, 1, 2, 3]]
    assert scheme.encode(array).dtype == np.uint8
    np.testing.assert_array_equal(scheme.decode(np.array([[0, 1, 2]])), [[0, 5, 300]])
    assert scheme.decode(np.array([0])).dtype == np.uint16


def test_a_region_is_written_with_its_own_value():
    regions = (Region(name="whole", members=(1, 2), value=4), Region(name="core", members=(2,), value=9))
    scheme = LabelScheme(names=("background", "a", "b"), values=(0, 1, 2), regions=regions)
    assert scheme.decode(np.array([0, 1, 2])).tolist() == [0, 4, 9]
