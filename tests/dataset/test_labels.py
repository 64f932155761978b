"""Label values, training indices, and the conversion in both directions."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from unetrpp.dataset.labels import LabelScheme, Region, present_values, value_counts


@settings(max_examples=30, deadline=None)
@given(st.sets(st.integers(1, 3000), min_size=1, max_size=12), st.booleans())
def test_any_values_survive_a_round_trip(values, ignore):
    ordered = (0, *sorted(values))
    names = tuple(f"class {v}" for v in ordered)
    scheme = LabelScheme(names=names, values=ordered, ignore_value=4000 if ignore else None)
    array = np.random.default_rng(0).choice(ordered, (4, 5, 6))
    indices = scheme.encode(array)
    assert indices.max() < len(ordered)
    np.testing.assert_array_equal(scheme.decode(indices), array)
    if ignore:
        assert scheme.ignore_index == len(ordered)
        assert (scheme.encode(np.full(3, 4000)) == len(ordered)).all()
    assert scheme.outputs == len(ordered)  # the ignore label has no output


def test_an_ignore_value_between_the_labels():
    scheme = LabelScheme(names=("background", "a", "b"), values=(0, 1, 3), ignore_value=2)
    np.testing.assert_array_equal(scheme.encode(np.array([0, 1, 2, 3])), [0, 1, 3, 2])


def test_regions_have_outputs_and_values_of_their_own():
    scheme = LabelScheme(
        names=("background", "edema", "core"),
        values=(0, 1, 2),
        regions=(Region(name="whole", members=(1, 2), value=5), Region(name="core", members=(2,), value=9)),
    )
    assert scheme.outputs == 2
    np.testing.assert_array_equal(scheme.decode(np.array([0, 1, 2])), [0, 5, 9])


REGIONS = (Region(name="whole", members=(1, 2), value=5), Region(name="core", members=(2,), value=9))


@pytest.mark.parametrize("regions", [(), REGIONS])
@pytest.mark.parametrize("ignore_value", [None, 7])
@pytest.mark.parametrize("make", [np.array, torch.tensor])
def test_targets_and_known_voxels_of_arrays_and_tensors(regions, ignore_value, make):
    scheme = LabelScheme(
        names=("background", "edema", "core"), values=(0, 1, 2), ignore_value=ignore_value, regions=regions
    )
    voxels = [-1, 0, 1, 2] + ([3] if ignore_value else [])
    known = [False, True, True, True] + ([False] if ignore_value else [])
    inside = {"whole": {1, 2}, "core": {2}} if regions else {"edema": {1}, "core": {2}}
    assert scheme.overlapping is bool(regions)
    assert scheme.known(make(voxels)).tolist() == known
    masks = {target.name: target.mask(make(voxels)).tolist() for target in scheme.targets}
    assert masks == {name: [voxel in members for voxel in voxels] for name, members in inside.items()}
    outputs = inside if regions else {"background": {0}} | inside
    assert scheme.outputs == len(outputs)
    assert [channel.name for channel in scheme.output_channels] == list(outputs)
    assert scheme.membership().tolist() == [[i in members for i in range(3)] for members in outputs.values()]


def test_segments_of_regions_are_the_values_of_the_regions_inside():
    scheme = LabelScheme(names=("background", "edema", "core"), values=(0, 1, 2), regions=REGIONS)
    assert scheme.segments() == {"whole": (5, 9), "core": (9,)}


@pytest.mark.parametrize(("largest", "kind"), [(200, np.uint8), (300, np.uint16), (70_000, np.uint32)])
def test_predictions_are_written_in_the_smallest_type(largest, kind):
    scheme = LabelScheme(names=("background", "a"), values=(0, largest))
    assert scheme.decode(np.array([0, 1])).dtype == kind


@pytest.mark.parametrize("part", [2, 1 << 20])
@pytest.mark.parametrize("values", [[0, 3, 255], [0, 2**31 - 1], [-5, 0, 7], [0, 2**40]])
def test_counts_of_small_and_of_huge_values(monkeypatch, values, part):
    monkeypatch.setattr("unetrpp.dataset.labels.PART", part)
    array = np.repeat(values, range(1, len(values) + 1)).reshape(1, -1)
    assert value_counts(array) == {v: i for i, v in enumerate(values, start=1)}
    assert present_values(array) == values
