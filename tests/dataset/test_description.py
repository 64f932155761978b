"""dataset.json, ours and nnU-Net's."""

import json

import pytest

from unetrpp.core.errors import UserError
from unetrpp.dataset.description import nnunet_json, read_description, read_labels

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


def test_unknown_keys_are_ignored(tmp_path):
    description = described(tmp_path, PLAIN)
    assert description.labels.values == (0, 1, 5)
    assert description.channel_names == ("CT",)


def test_regions_and_the_ignore_label(tmp_path):
    scheme = described(tmp_path, REGIONS).labels
    assert scheme.values == (0, 1, 2)
    assert [(r.name, r.members, r.value) for r in scheme.regions] == [("whole", (1, 2), 1), ("core", (2,), 2)]
    assert scheme.ignore_value == 9


@pytest.mark.parametrize("content", [PLAIN, REGIONS])
def test_writing_and_reading_keep_labels_and_channels(tmp_path, content):
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
        ({"groups": ["p1"]}, "'groups' must map every case to its patient"),
        ({"groups": {"a": ["p1"]}}, "'groups' must map every case to its patient"),
        ({"dataset": {"a": {"label": "a.nii.gz"}}}, "'dataset': .*images.* give every case"),
        ({"dataset": ["a"]}, "'dataset': .* give every case"),
        ({"dataset": {"p1/a": {"images": ["i.nii.gz"], "label": "l.nii.gz"}}}, "in its name, which files cannot have"),
    ],
)
def test_a_wrong_file_is_refused_with_the_rule(tmp_path, change, words):
    with pytest.raises(UserError, match=words):
        described(tmp_path, {**PLAIN, **change})


def test_patients_may_be_numbered(tmp_path):
    assert described(tmp_path, {**PLAIN, "groups": {"a": 7, "b": "8"}}).groups == {"a": "7", "b": "8"}


@pytest.mark.parametrize("order", [[10, 20], [2, 1], [2, 2]])
def test_a_regions_order_that_writes_other_labels_is_refused(tmp_path, order):
    labels = {"background": 0, "whole": [1, 2], "core": [2]}
    with pytest.raises(UserError, match="regions_class_order"):
        read_labels(tmp_path / "dataset.json", labels, order)
    assert [r.value for r in read_labels(tmp_path / "dataset.json", labels, [1, 2]).regions] == [1, 2]
