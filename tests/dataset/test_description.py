"""dataset.json, ours and nnU-Net's."""

import json

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from unetrpp.core.errors import UserError
from unetrpp.core.files import write_json
from unetrpp.dataset.description import DatasetDescription, nnunet_json, read_description
from unetrpp.dataset.label_definitions import read_labels

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


def test_the_check_of_the_modality_can_be_turned_off(tmp_path):
    checked, unchecked = described(tmp_path, PLAIN), described(tmp_path, {**PLAIN, "check_modality": False})
    assert (checked.check_modality, unchecked.check_modality) == (True, False)
    assert not described(tmp_path, nnunet_json(unchecked, 2)).check_modality
    assert "check_modality" not in nnunet_json(checked, 2)
    assert checked.digest() != unchecked.digest()  # cases are verified again


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
        ({"check_modality": "no"}, "'check_modality' is \"no\", but must be true or false"),
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
        (
            {"dataset": {"a": {"images": [], "label": "a.nii.gz"}}},
            "'dataset': .*length >= 1 - at .*images.* give every case a list of 'images', at least one",
        ),
        (
            {"dataset": {"p1/a": {"images": ["i.nii.gz"], "label": "l.nii.gz"}}},
            "in its name, which a file name cannot have",
        ),
        (
            {"dataset": {"..": {"images": ["i.nii.gz"], "label": "l.nii.gz"}}},
            "case '..' of 'dataset' .* starts with a dot",
        ),
        ({"dataset": {"": {"images": ["i.nii.gz"], "label": "l.nii.gz"}}}, "case '' of 'dataset' is empty"),
        ({"channel_names": {}}, "names no channel"),
        ({"channel_names": ["CT"]}, r"'channel_names' is \[\"CT\"\], but must be an object such as"),
        ({"channel_names": {"0": 5}}, "channel '0' is 5, but must be a text"),
        ({"channel_names": {"0": None}}, "channel '0' is null, but must be a text"),
        ({"channel_names": None, "modality": {"0": "CT"}}, "'channel_names' is missing"),
        ({"file_ending": ["nii.gz"]}, "'file_ending' is .* but must be a text"),
        ({"labels": {}}, "'labels' is empty"),
        ({"numTraining": "2"}, "'numTraining' is \"2\", but must be the number of training cases"),
        ({"numTraining": 0}, "'numTraining' is 0, but must be"),
        ({"numTraining": [2]}, r"'numTraining' is \[2\], but must be"),
        ({"groups": {"a": "p", "b": None}}, "'groups' must map every case to its patient, .* but maps 'b' to null"),
        ({"groups": {"a": True}}, "but maps 'a' to true"),
        ({"groups": {"a": 1.5}}, "but maps 'a' to 1.5"),
        ({"file_ending": "gz", "channel_names": {}, "numTraining": -1}, r"has 3 errors:\n- .*\n- .*\n- 'numTraining'"),
    ],
)
def test_a_wrong_file_is_refused_with_the_rule(tmp_path, change, words):
    with pytest.raises(UserError, match=words):
        described(tmp_path, {**PLAIN, **change})


def test_patients_may_be_numbered(tmp_path):
    assert described(tmp_path, {**PLAIN, "groups": {"a": 7, "b": "8", "c": 7.0}}).groups == {
        "a": "7",
        "b": "8",
        "c": "7",
    }


def test_the_name_is_the_folders_and_the_files_is_a_title(tmp_path):
    description = described(tmp_path, PLAIN | {"name": "KiTS 2023 (kidney)"})
    assert (description.name, description.title) == ("Made", "KiTS 2023 (kidney)")
    assert nnunet_json(description, 2)["name"] == "KiTS 2023 (kidney)"
    assert described(tmp_path, nnunet_json(description, 2)) == description
    plain = described(tmp_path, PLAIN)
    assert (plain.name, plain.title, nnunet_json(plain, 2)["name"]) == ("Made", None, "Made")
    assert described(tmp_path, nnunet_json(plain, 2)) == plain
    assert described(tmp_path, PLAIN | {"name": {"en": "Liver"}}).title == '{"en": "Liver"}'


@pytest.mark.parametrize(
    ("old", "new", "key"),
    [
        ('"liver": 1', '"liver": 1, "liver": 2', "liver"),
        ('"0": "CT"', '"0": "CT", "0": "MR"', "0"),
        ('"numTraining": 2', '"numTraining": 2, "numTraining": 3', "numTraining"),
        ('"numTraining": 2', '"groups": {"a": "p", "b": "q", "a": "q"}', "a"),
        ('"numTraining": 2', '"dataset": {"c": {"images": [], "label": "l", "label": "m"}}', "label"),
    ],
)
def test_a_key_given_twice_is_refused_by_its_name(tmp_path, old, new, key):
    path = tmp_path / "dataset.json"
    path.write_text(json.dumps(PLAIN).replace(old, new))
    with pytest.raises(UserError, match=rf"dataset.json: the key '{key}' is given twice"):
        read_description(path, "Made")


anything = st.recursive(
    st.none() | st.booleans() | st.integers(-2, 300) | st.floats() | st.text(max_size=3) | st.sampled_from(["0", "a"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["0", "1", "a", "background"]), inner),
    max_leaves=6,
)
KEYS = [*PLAIN, "name", "regions_class_order", "groups", "dataset", "reference", "licence"]


@settings(max_examples=500, deadline=None)
@given(base=st.sampled_from([PLAIN, REGIONS]), change=st.dictionaries(st.sampled_from(KEYS), anything, max_size=2))
def test_whatever_the_file_holds_it_is_refused_or_recorded_readably(tmp_path_factory, base, change):
    path = tmp_path_factory.getbasetemp() / "dataset.json"
    path.write_bytes(msgspec.json.encode({**base, **change}))
    try:
        found = read_description(path, "Made")
    except UserError as error:
        assert str(error).startswith(str(path))  # noqa: PT017
        return
    assert msgspec.json.decode(msgspec.json.encode(found), type=DatasetDescription) == found
    write_json(path, nnunet_json(found, 2))
    again = read_description(path, "Made")
    assert msgspec.structs.replace(again, declared_cases=None) == msgspec.structs.replace(found, declared_cases=None)


@pytest.mark.parametrize("order", [[10, 20], [2, 1], [2, 2]])
def test_a_regions_order_that_writes_other_labels_is_refused(tmp_path, order):
    labels = {"background": 0, "whole": [1, 2], "core": [2]}
    with pytest.raises(UserError, match="regions_class_order"):
        read_labels(tmp_path / "dataset.json", labels, order)
    assert [r.value for r in read_labels(tmp_path / "dataset.json", labels, [1, 2]).regions] == [1, 2]
