"""dataset.json, ours and nnU-Net's, and the list of cases."""

import json

import pytest

from unetrpp.core.errors import UserError
from unetrpp.core.files import write_json
from unetrpp.dataset.description import left_out, nnunet_json, read_dataset, read_description, read_labels

PLAIN = {
    "channel_names": {"0": "CT"},
    "labels": {"background": 0, "liver": 1, "tumour": 5},
    "numTraining": 2,
    "file_ending": ".nii.gz",
    "tensorImageSize": "3D",
}
REGIONS = {
    **PLAIN,
    "labels": {"background": 0, "whole": [1, 2], "core": 2, "ignore": 9},
    "regions_class_order": [1, 2],
}


def described(tmp_path, content):
    path = tmp_path / "dataset.json"
    path.write_text(json.dumps(content))
    return read_description(path, "Made")


def test_unknown_keys_of_others_are_dropped(tmp_path):
    description = described(tmp_path, PLAIN)
    assert description.labels.values == (0, 1, 5)
    assert description.channel_names == ("CT",)


def test_regions_and_the_ignore_label(tmp_path):
    scheme = described(tmp_path, REGIONS).labels
    assert scheme.values == (0, 1, 2)
    assert [(r.name, r.members, r.value) for r in scheme.regions] == [("whole", (1, 2), 1), ("core", (2,), 2)]
    assert scheme.ignore_value == 9


@pytest.mark.parametrize("content", [PLAIN, REGIONS])
def test_what_we_write_reads_as_it_was(tmp_path, content):
    description = described(tmp_path, content)
    again = described(tmp_path, nnunet_json(description, 2))
    assert again.labels == description.labels
    assert again.channel_names == description.channel_names


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"channel_names": {"1": "CT"}}, "without gaps"),
        ({"labels": {"background": 0, "a": 1, "b": 1}}, "share one value"),
        ({"labels": {"background": 0, "a": "1"}}, "without quotes"),
        ({"labels": {"0": "background", "1": "a"}, "file_ending": None}, "unetrpp_convert msd"),
        ({"labels": [0, 1]}, '"tumour": 1'),
        ({"file_ending": "nii.gz"}, "with the dot"),
        ({"labels": {"background": 0, "a": [1, 2]}}, "regions_class_order"),
        ({"file_ending": ".mat"}, "is not one of"),
        ({"file_ending": ".jpg"}, "is not one of .*JPEG changes the values of labels"),
        ({"labels": None}, "'labels' is missing"),
        ({"labels": {"background": 0, "a": 1, "ignore": 1}}, "no other label has"),
        ({"labels": {"background": 0, "a": 1, "ignore": 0}}, "no other label has"),
        ({"labels": {"background": 0, "a": 1, "ignore": [2]}}, "must be one number"),
        ({"labels": {"background": 0, "a": [1, 2], "ignore": 2}, "regions_class_order": [1]}, "no other label has"),
        ({"groups": ["p1"]}, "'groups' must give every case its patient"),
        ({"groups": {"a": ["p1"]}}, "'groups' must give every case its patient"),
        ({"dataset": {"a": {"label": "a.nii.gz"}}}, "'dataset': .*images.* give every case"),
        ({"dataset": ["a"]}, "'dataset': .* give every case"),
        ({"dataset": {"p1/a": {"images": ["i.nii.gz"], "label": "l.nii.gz"}}}, "no file can be named after it"),
    ],
)
def test_a_wrong_file_is_named_with_its_rule(tmp_path, change, words):
    with pytest.raises(UserError, match=words):
        described(tmp_path, {**PLAIN, **change})


def test_cases_are_listed_even_when_a_file_is_missing(tmp_path):
    described(tmp_path, {**PLAIN, "channel_names": {"0": "CT", "1": "PET"}})
    for name in (
        "imagesTr/b_0000.nii.gz",
        "imagesTr/b_0001.nii.gz",
        "imagesTr/c_0000.nii.gz",
        "labelsTr/a.nii.gz",
        "imagesTr/._x_0000.nii.gz",
    ):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    cases = read_dataset(tmp_path, "Made").cases
    assert [case.id for case in cases] == ["a", "b", "c"]
    assert len(cases[1].images) == 2
    assert len(cases[2].images) == 1  # one file may bring both channels


def test_paths_in_the_file(tmp_path):
    entries = {"x": {"images": ["some/where.nii.gz"], "label": "else.nii.gz", "site": "B"}}
    description = described(tmp_path, {**PLAIN, "dataset": entries})
    (case,) = read_dataset(tmp_path, "Made").cases
    assert case.images == (tmp_path / "some" / "where.nii.gz",)
    write_json(tmp_path / "dataset.json", nnunet_json(description, 1))
    assert read_description(tmp_path / "dataset.json", "Made").files == description.files


def test_patients_may_be_numbered(tmp_path):
    assert described(tmp_path, {**PLAIN, "groups": {"a": 7, "b": "8"}}).groups == {"a": "7", "b": "8"}


def test_a_folder_without_cases(tmp_path):
    described(tmp_path, PLAIN)
    with pytest.raises(UserError, match="has no training case"):
        read_dataset(tmp_path, "Made")


@pytest.mark.parametrize("order", [[10, 20], [2, 1], [2, 2]])
def test_a_regions_order_that_writes_other_labels_is_refused(tmp_path, order):
    labels = {"background": 0, "whole": [1, 2], "core": [2]}
    with pytest.raises(UserError, match="regions_class_order"):
        read_labels(tmp_path / "dataset.json", labels, order)
    assert [r.value for r in read_labels(tmp_path / "dataset.json", labels, [1, 2]).regions] == [1, 2]


def test_a_folder_whose_images_have_another_ending_says_which(tmp_path):
    (tmp_path / "imagesTr").mkdir()
    (tmp_path / "imagesTr" / "a_0000.NII.GZ").touch()
    write_json(tmp_path / "dataset.json", PLAIN)
    with pytest.raises(UserError, match=r"imagesTr has a_0000\.NII\.GZ"):
        read_dataset(tmp_path, "Made")


def test_files_that_belong_to_no_case_are_named(tmp_path):
    """Another ending, no channel number, or a channel that dataset.json does not know."""
    for name in ("a_0000.nii.gz", "a_0001.nii.gz", "b_0000.NII.GZ", "c.nii.gz", "notes.txt", ".hidden_0000.nii.gz"):
        (tmp_path / "imagesTr").mkdir(exist_ok=True)
        (tmp_path / "imagesTr" / name).touch()
    for name in ("a.nii.gz", "b.NII.GZ"):
        (tmp_path / "labelsTr").mkdir(exist_ok=True)
        (tmp_path / "labelsTr" / name).touch()
    write_json(tmp_path / "dataset.json", PLAIN)
    found = left_out(read_dataset(tmp_path, "Made"))
    assert found == {"imagesTr": ["a_0001.nii.gz", "b_0000.NII.GZ", "c.nii.gz"], "labelsTr": ["b.NII.GZ"]}
