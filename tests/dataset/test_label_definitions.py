"""Labels and regions of dataset.json: what is accepted survives a round trip, what is not is refused in a sentence."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import assume, given, reject, settings
from hypothesis import strategies as st

from unetrpp.core.errors import UserError
from unetrpp.dataset.description import DatasetDescription, nnunet_json
from unetrpp.dataset.label_definitions import filled_regions, read_labels, region_overlaps
from unetrpp.inference.averaging import last_above

PATH = Path("dataset.json")
BRATS = {"background": 0, "whole": [1, 2, 3], "core": [2, 3], "enhancing": 3}
KITS = {"background": 0, "kidney": [1, 2, 3], "masses": [2, 3], "tumour": 2}

values = st.integers(1, 4)
families = st.lists(st.sets(values, min_size=1, max_size=4).map(sorted), min_size=1, max_size=5)


def definition(family):
    return {"background": 0, **{f"region {i}": members for i, members in enumerate(family)}}


def decode_perfect(scheme, label):
    """The prediction of a network that finds every region exactly."""
    indices = scheme.encode(label)
    wins = torch.tensor(np.stack([region.mask(indices) for region in scheme.regions]).astype(np.float32))
    return scheme.decode(last_above(wins, 0.5).numpy())


def accepted(family, data):
    """The scheme of the regions in some order of values; an example that is refused does not count."""
    order = [data.draw(st.sampled_from(members)) for members in family]
    try:
        return read_labels(PATH, definition(family), order)
    except UserError:
        reject()


@settings(max_examples=300, deadline=None)
@given(families, st.data())
def test_a_perfect_network_loses_no_region_of_an_accepted_scheme(family, data):
    scheme = accepted(family, data)
    label = np.array(scheme.values)
    predicted = decode_perfect(scheme, label)
    kept = all(np.array_equal(np.isin(predicted, members), np.isin(label, members)) for members in map(list, family))
    assert kept == (not region_overlaps(scheme))


@settings(max_examples=300, deadline=None)
@given(families, st.data())
def test_an_order_that_loses_nothing_is_accepted(family, data):
    order = [data.draw(st.sampled_from(members)) for members in family]
    assume(len({tuple(members) for members in family}) == len(family))
    for value in {v for members in family for v in members}:
        last = max(i for i, members in enumerate(family) if value in members)
        assume(all((value in members) == (order[last] in members) for members in family))
    assert region_overlaps(read_labels(PATH, definition(family), order)) == []


@settings(max_examples=100, deadline=None)
@given(families, st.data())
def test_accepted_regions_can_be_written_and_read_again(family, data):
    scheme = accepted(family, data)
    description = DatasetDescription(name="x", channel_names=("CT",), labels=scheme, file_ending=".nii.gz")
    written = json.loads(json.dumps(nnunet_json(description, 1), default=list))
    assert read_labels(PATH, written["labels"], written.get("regions_class_order")) == scheme


@pytest.mark.parametrize(("labels", "order"), [(BRATS, [1, 2, 3]), (KITS, [1, 3, 2])])
def test_nnunets_regions_are_accepted(labels, order):
    scheme = read_labels(PATH, labels, order)
    assert [region.value for region in scheme.regions] == order
    assert region_overlaps(scheme) == filled_regions(scheme) == []
    assert read_labels(PATH, labels, [float(v) for v in order]) == scheme
    assert all(type(region.value) is int for region in read_labels(PATH, labels, [float(v) for v in order]).regions)


def test_parts_may_fill_a_region():
    scheme = read_labels(PATH, {"background": 0, "whole": [1, 2], "a": 1, "b": 2}, [1, 1, 2])
    np.testing.assert_array_equal(decode_perfect(scheme, np.array([0, 1, 2])), [0, 1, 2])
    assert scheme.segments() == {"whole": (1, 2), "a": (1,), "b": (2,)}
    assert region_overlaps(scheme) == []
    (note,) = filled_regions(scheme)
    assert note.startswith("later regions fill region 'whole'; where only 'whole' is predicted, the value is 1")


def test_lists_of_one_label_are_labels():
    assert read_labels(PATH, {"background": [0], "a": [1], "b": 2}, None) == read_labels(
        PATH, {"background": 0, "a": 1, "b": 2.0}, None
    )
    assert read_labels(PATH, {"background": 0, "a": [1], "b": [2]}, [1, 2]).overlapping


@pytest.mark.parametrize(
    ("labels", "order", "words"),
    [
        (
            BRATS,
            None,
            "'regions_class_order' is missing; add a list of whole numbers, .*'whole', 'core', 'enhancing'",
        ),
        (BRATS, 1, "'regions_class_order' is 1, but must be a list of whole numbers"),
        (BRATS, "123", "'regions_class_order' is \"123\", but must be a list of"),
        (BRATS, ["1", "2", "3"], "must be a list of whole numbers, .*, without quotes"),
        (BRATS, [1.5, 2, 3], "must be a list of whole numbers"),
        (BRATS, [True, 2, 3], "must be a list of whole numbers"),
        (BRATS, [[1], 2, 3], "must be a list of whole numbers"),
        (BRATS, [None, 2, 3], "must be a list of whole numbers"),
        (BRATS, [1, 2], "must be a list of whole numbers"),
        (BRATS, [1, 2, 3, 3], "must be a list of whole numbers"),
        (BRATS, {"whole": 1}, "must be a list of whole numbers"),
        (BRATS, [], "must be a list of whole numbers"),
        (BRATS, [1, 2, 9], r"writes 9 for region 'enhancing' \[3\], which is not one of the region's labels"),
        (
            BRATS,
            [3, 2, 3],
            r"writes 3 for region 'whole' .*, which the later 'core' \[2, 3\], 'enhancing' \[3\] overw.*; write 1",
        ),
        (
            {"background": 0, "core": 2, "whole": [1, 2]},
            [2, 1],
            "which the later 'whole' .* overwrites; put 'core' after it",
        ),
        ({"background": 0, "a": [1, 2], "b": [2, 1]}, [1, 2], "'a' and 'b' have the same labels"),
        ({"background": 0, "a": True}, None, "label 'a' is true, but must be a whole number"),
        ({"background": 0, "a": 1.5}, None, "label 'a' is 1.5, but must be a whole number"),
        ({"background": 0, "a": None}, None, "label 'a' is null"),
        ({"background": 0, "a": -1}, None, "label 'a' is -1, but must be a whole number >= 0"),
        ({"background": 0, "a": [1, [2]]}, [1], r"label 'a' is \[1, \[2\]\]"),
        ({"background": 0, "a": []}, [1], r"label 'a' is \[\]"),
        ({"background": 0, "a": 1, "b": 1.0}, None, "share one value"),
        ({"background": 0, "a": 1, "ignore": True}, None, "label 'ignore' is true"),
        ({"background": 0, "a": "1", "b": "2"}, None, r"has 2 errors:\n- label 'a' .*quotes\)\n- label 'b'"),
    ],
)
def test_wrong_labels_are_refused_in_a_sentence(labels, order, words):
    with pytest.raises(UserError, match=words):
        read_labels(PATH, labels, order)
