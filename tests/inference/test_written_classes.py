"""Which classes are written: values, regions that contain others, and what counts as a size."""

import numpy as np
import pytest

from unetrpp.core.errors import UserError
from unetrpp.dataset.labels import LabelScheme, Region
from unetrpp.inference.written_classes import WrittenClasses

LABELS = LabelScheme(names=("background", "liver", "tumour", "vessel"), values=(0, 7, 300, 1), ignore_value=9)
REGIONS = LabelScheme(
    names=("background", "oedema", "core", "enhancing"),
    values=(0, 1, 2, 3),
    regions=(
        Region(name="whole", members=(1, 2, 3), value=1),
        Region(name="tumour core", members=(2, 3), value=2),
        Region(name="enhancing only", members=(3,), value=3),
    ),
)
REGION_NAMES = [region.name for region in REGIONS.regions]


def test_without_names_everything_stays():
    array = np.array([[[0, 7, 300, 1]]], np.uint16)
    written = WrittenClasses.choose(LABELS, ())
    assert written.apply(array) is array
    assert (written.labels, written.channels) == (LABELS, (0, 1, 2, 3))
    assert WrittenClasses.choose(LABELS, ("vessel", "liver", "tumour")).names == ()  # all of them


def test_other_classes_become_background():
    array = np.array([[[0, 7, 300, 1, 300]]], np.uint16)
    written = WrittenClasses.choose(LABELS, ("tumour", "liver"))
    np.testing.assert_array_equal(written.apply(array), [[[0, 7, 300, 0, 300]]])
    assert written.apply(array).dtype == np.uint16
    assert written.names == ("liver", "tumour")  # in the model's order
    assert written.channels == (1, 2)
    assert (written.labels.names, written.labels.values) == (("background", "liver", "tumour"), (0, 7, 300))
    assert written.voxels(written.apply(array)) == {"liver": 1, "tumour": 2}


@pytest.mark.parametrize("names", [(a, b) for a in REGION_NAMES for b in REGION_NAMES])
def test_a_chosen_region_has_the_voxels_that_it_has_in_the_whole_segmentation(names):
    array = np.random.default_rng(0).integers(0, 4, (4, 5, 6)).astype(np.uint8)
    written = WrittenClasses.choose(REGIONS, tuple(dict.fromkeys(names)))
    found, segments = written.apply(array), written.labels.segments()
    assert set(segments) == set(names)
    for name, values in segments.items():
        np.testing.assert_array_equal(np.isin(found, values), np.isin(array, REGIONS.segments()[name]))
        assert written.voxels(found)[name] == np.isin(array, REGIONS.segments()[name]).sum()
    assert set(np.unique(found)) <= {0, *(region.value for region in REGIONS.regions if region.name in names)}


@pytest.mark.parametrize(
    ("labels", "name", "what"),
    [
        (LABELS, "lung", "is no foreground class; there is liver, tumour and vessel"),
        (LABELS, "background", "is no foreground class"),
        (REGIONS, "oedema", "is no region; there is whole, tumour core and enhancing only"),
    ],
)
def test_an_unknown_name_is_refused_with_the_known_ones(labels, name, what):
    with pytest.raises(UserError, match=f"--classes names '{name}', which {what}"):
        WrittenClasses.choose(labels, (name,))
