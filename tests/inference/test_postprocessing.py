"""The largest component against scipy's labelling, and the choice of where it helps."""

import numpy as np
import pytest
from scipy import ndimage

from unetrpp.dataset.labels import LabelScheme
from unetrpp.evaluation.postprocessing_choice import candidate_groups, choose_components, gain
from unetrpp.inference.postprocessing import PostProcessing, keep_largest_component
from unetrpp.io.geometry import Geometry
from unetrpp.io.images import write_segmentation

SCHEME = LabelScheme(names=("background", "a", "b"), values=(0, 1, 2))
GEOMETRY = Geometry(shape_zyx=(1, 10, 24), spacing_zyx_mm=(1.0, 1.0, 1.0))


@pytest.mark.parametrize("values", [(1,), (2,), (1, 2)])
def test_equals_scipys_labelling(values):
    rng = np.random.default_rng(0)
    for _ in range(5):
        array = rng.choice([0, 0, 0, 0, 1, 2], (6, 9, 9)).astype(np.uint8)
        mask = np.isin(array, values)
        labels, count = ndimage.label(mask, np.ones((3, 3, 3)))
        sizes = ndimage.sum_labels(mask, labels, range(1, count + 1))
        largest = np.isin(labels, np.flatnonzero(sizes == sizes.max()) + 1)
        expected = np.where(mask & ~largest, 0, array)
        ours = keep_largest_component(array, values)
        np.testing.assert_array_equal(ours, expected)
        assert ours.dtype == array.dtype


def test_an_absent_class_changes_nothing():
    array = np.zeros((2, 3, 4), np.uint8)
    assert keep_largest_component(array, (1,)) is array


def write(folder, case, boxes):
    array = np.zeros(GEOMETRY.shape_zyx, np.uint8)
    for value, first, last in boxes:
        array[0, 2:5, first:last] = value
    write_segmentation(folder / f"{case}.nii.gz", array, GEOMETRY)
    return folder / f"{case}.nii.gz"


def test_a_class_is_cleaned_where_that_helps_and_left_where_it_harms(tmp_path):
    """Label 1 has a false island; label 2 really has two parts, and so has the whole foreground."""
    pairs = {}
    for case in ("x", "y"):
        reference = write(tmp_path / "references", case, [(1, 0, 5), (2, 10, 14), (2, 18, 21)])
        prediction = write(tmp_path / "predictions", case, [(1, 0, 5), (1, 7, 8), (2, 10, 14), (2, 18, 21)])
        pairs[case] = (prediction, reference)
    chosen, before, after = choose_components(pairs, SCHEME, processes=1)
    assert chosen == PostProcessing(largest_component=((1,),))
    assert before["1"] == pytest.approx(2 * 15 / (18 + 15))
    assert after == {"1": 1.0, "2": 1.0}


def test_nothing_is_done_where_nothing_helps(tmp_path):
    reference = write(tmp_path / "references", "x", [(1, 0, 5), (2, 10, 14)])
    chosen, before, after = choose_components({"x": (reference, reference)}, SCHEME, processes=1)
    assert chosen.largest_component == ()
    assert before == after


def test_candidates_and_gain():
    assert candidate_groups(SCHEME) == [(1, 2), (1,), (2,)]
    assert gain({"1": 0.5, "2": None}, {"1": 0.75, "2": None}) == 0.25
    assert gain({"1": 0.5, "2": 0.5}, {"1": 0.9, "2": 0.4}) == float("-inf")
