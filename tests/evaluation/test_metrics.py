"""Overlap scores against naive sets of voxels, and what is undefined."""

import numpy as np
import pytest

from unetrpp.dataset.labels import LabelScheme, Region
from unetrpp.evaluation.metrics import MetricOptions, overlap_scores, score_case, scored_classes, volume_scores
from unetrpp.io.geometry import Geometry

SCHEME = LabelScheme(names=("background", "a", "b"), values=(0, 1, 7), ignore_value=9)


def test_overlap_equals_sets_of_voxels():
    rng = np.random.default_rng(0)
    for _ in range(20):
        predicted, true = rng.random((3, 4, 5)) < 0.4, rng.random((3, 4, 5)) < 0.3
        ours = {tuple(i) for i in np.argwhere(predicted)}
        theirs = {tuple(i) for i in np.argwhere(true)}
        scores = overlap_scores(predicted, true)
        assert scores["Dice"] == pytest.approx(2 * len(ours & theirs) / (len(ours) + len(theirs)))
        assert scores["IoU"] == pytest.approx(len(ours & theirs) / len(ours | theirs))
        assert [scores[k] for k in ("TP", "FP", "FN")] == [len(ours & theirs), len(ours - theirs), len(theirs - ours)]
        assert scores["TN"] == 60 - len(ours | theirs)


def test_both_empty_is_undefined_and_one_empty_is_zero():
    empty, full = np.zeros((2, 2, 2), bool), np.ones((2, 2, 2), bool)
    assert overlap_scores(empty, empty)["Dice"] is None
    assert overlap_scores(empty, full)["Dice"] == 0
    assert overlap_scores(full, empty)["IoU"] == 0


@pytest.mark.parametrize("distances", [False, True])
def test_nothing_under_the_ignore_label_counts(distances):
    rng = np.random.default_rng(1)
    geometry = Geometry(shape_zyx=(6, 7, 8), spacing_zyx_mm=(2.0, 1.0, 1.0))
    reference = rng.choice([0, 1, 7, 9], (6, 7, 8))
    prediction = rng.choice([0, 1, 7], (6, 7, 8))
    other = np.where(reference == 9, rng.choice([0, 1, 7], (6, 7, 8)), prediction)
    assert (other != prediction).any()
    options = MetricOptions(distances=distances)
    first, second = (score_case(p, reference, geometry, SCHEME, options=options) for p in (prediction, other))
    assert first == second
    assert sum(first["1"][count] or 0 for count in ("TP", "FP", "FN", "TN")) == (reference != 9).sum()


def test_regions_are_scored_as_unions():
    scheme = LabelScheme(
        names=("background", "edema", "core"),
        values=(0, 1, 2),
        regions=(Region(name="whole", members=(1, 2), value=1), Region(name="core", members=(2,), value=2)),
    )
    assert [(c.key, c.name) for c in scored_classes(scheme)] == [("(1, 2)", "whole"), ("2", "core")]
    reference, prediction = np.array([[[0, 1, 2, 2]]]), np.array([[[0, 2, 1, 2]]])
    scores = score_case(prediction, reference, Geometry(shape_zyx=(1, 1, 4), spacing_zyx_mm=(1, 1, 1)), scheme)
    assert scores["(1, 2)"]["Dice"] == 1
    assert scores["2"]["Dice"] == 0.5


def test_volume_difference_is_relative_to_the_reference():
    true, predicted = np.zeros((10, 10, 10), bool), np.zeros((10, 10, 10), bool)
    true[:4], predicted[:5] = True, True
    scores = volume_scores(predicted, true, voxel_mm3=2.0)
    assert scores["volume_ref_ml"] == pytest.approx(0.8)
    assert scores["volume_difference"] == pytest.approx(0.25)
    assert volume_scores(predicted, ~np.ones_like(true), 2.0)["volume_difference"] is None
