"""HD95 and NSD compared with other implementations: DeepMind's package `surface-distance`, and a search tree of borders.

DeepMind's package and ours place surface elements at the same corners between voxels, so the elements and their
distances agree exactly. The elements' areas differ: theirs are those of a triangulated voxel mask, ours are corrected
for its steps, which makes the surface of these masks 8 to 25 % smaller. NSD is a ratio of areas, in which most of that cancels.
"""

import math

import numpy as np
import pytest
import surface_distance  # type: ignore[import-untyped]
from scipy import ndimage
from scipy.spatial import cKDTree

from unetrpp.evaluation.surface_distances import surface_areas, surface_scores

pytestmark = pytest.mark.filterwarnings("ignore:Please import .* from the `scipy.ndimage` namespace:DeprecationWarning")

SPACINGS = [(1.0, 1.0, 1.0), (2.0, 1.0, 1.0), (3.0, 0.7, 1.1), (5.0, 0.8, 0.8)]
SIDE_MM = 50
NSD_DIFFERENCE = 0.015  # the largest on these masks is 0.012


def blob(spacing, seed):
    """A smooth, irregular structure of about 12 mm radius in the middle of the image."""
    shape = tuple(round(SIDE_MM / s) for s in spacing)
    noise = ndimage.gaussian_filter(np.random.default_rng(seed).normal(size=shape), [3 / s for s in spacing])
    middle = (np.array(shape) / 2).reshape(3, 1, 1, 1)
    radius = np.linalg.norm((np.indices(shape) - middle) * np.array(spacing).reshape(3, 1, 1, 1), axis=0)
    return 0.6 * (12 - radius) / 12 + 0.25 * noise / noise.std() > 0


def pair(spacing, seed):
    predicted, true = blob(spacing, seed), blob(spacing, seed + 100)
    return predicted, true, surface_distance.compute_surface_distances(true, predicted, spacing)


def areas(mask, spacing):
    padded = np.pad(mask, 1)
    return surface_areas(padded, spacing, np.ones_like(padded))


@pytest.mark.parametrize("spacing", SPACINGS)
def test_the_surface_elements_and_their_distances_are_the_same(spacing):
    predicted, true, theirs = pair(spacing, 0)
    ours, others = areas(predicted, spacing) > 0, areas(true, spacing) > 0
    to_true = ndimage.distance_transform_edt(~others, sampling=spacing)[ours]
    to_predicted = ndimage.distance_transform_edt(~ours, sampling=spacing)[others]
    np.testing.assert_array_equal(np.sort(to_true), theirs["distances_pred_to_gt"])
    np.testing.assert_array_equal(np.sort(to_predicted), theirs["distances_gt_to_pred"])


@pytest.mark.parametrize("spacing", SPACINGS)
def test_our_areas_are_smaller_by_the_steps_of_slanted_surfaces(spacing):
    predicted, _, theirs = pair(spacing, 0)
    assert 0.7 < areas(predicted, spacing).sum() / theirs["surfel_areas_pred"].sum() < 1


@pytest.mark.parametrize("spacing", SPACINGS)
@pytest.mark.parametrize("tolerance", [0.5, 1.0, 2.0, 3.0])
def test_nsd_is_that_of_the_package(spacing, tolerance):
    for seed in range(4):
        predicted, true, distances = pair(spacing, seed)
        theirs = surface_distance.compute_surface_dice_at_tolerance(distances, tolerance)
        ours = surface_scores(predicted, true, spacing, tolerance_mm=tolerance)["NSD"]
        assert 0.05 < theirs < 0.95
        assert ours == pytest.approx(theirs, abs=NSD_DIFFERENCE)


@pytest.mark.parametrize("spacing", SPACINGS)
def test_nsd_is_exactly_theirs_where_all_or_nothing_is_within_the_tolerance(spacing):
    predicted, true, distances = pair(spacing, 0)
    apart = np.concatenate([distances["distances_gt_to_pred"], distances["distances_pred_to_gt"]])
    for tolerance in (apart.max(), -1.0):
        theirs = surface_distance.compute_surface_dice_at_tolerance(distances, tolerance)
        ours = surface_scores(predicted, true, spacing, tolerance_mm=tolerance)["NSD"]
        assert ours == pytest.approx(theirs, abs=1e-12)
    assert theirs == 0


@pytest.mark.parametrize("spacing", SPACINGS)
def test_hd95_is_the_robust_hausdorff_distance_of_the_package_within_a_voxel(spacing):
    """Theirs is measured between surface elements, half a voxel's diagonal from the border voxels of ours, by area."""
    for seed in range(4):
        predicted, true, distances = pair(spacing, seed)
        theirs = surface_distance.compute_robust_hausdorff(distances, 95)
        ours = surface_scores(predicted, true, spacing)["HD95"]
        assert ours == pytest.approx(theirs, abs=math.hypot(*spacing))


@pytest.mark.parametrize("spacing", SPACINGS)
def test_hd95_equals_that_of_a_search_tree_over_border_voxels(spacing):
    for seed in range(4):
        predicted, true = blob(spacing, seed), blob(spacing, seed + 100)
        borders = [
            np.argwhere(mask & ~ndimage.binary_erosion(mask, border_value=0)) * np.array(spacing)
            for mask in (predicted, true)
        ]
        to_true, to_predicted = (cKDTree(borders[1 - i]).query(borders[i])[0] for i in (0, 1))
        scores = surface_scores(predicted, true, spacing)
        directed = np.percentile(to_true, 95), np.percentile(to_predicted, 95)
        assert scores["HD95"] == pytest.approx(max(directed), rel=1e-9)
        assert scores["HD95_pooled"] == pytest.approx(np.percentile([*to_true, *to_predicted], 95), rel=1e-9)
