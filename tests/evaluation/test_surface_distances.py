"""Distances against brute force over all pairs, and against closed forms."""

import math

import numpy as np
import pytest

from unetrpp.evaluation.surface_distances import surface_areas, surface_scores


def brute_border(mask):
    """Voxels with a face neighbour outside, one at a time."""
    padded = np.pad(mask, 1)
    voxels = []
    for voxel in np.argwhere(padded):
        steps = [sign * unit for unit in np.eye(mask.ndim, dtype=int) for sign in (1, -1)]
        if not all(padded[tuple(voxel + step)] for step in steps):
            voxels.append(voxel)
    return np.array(voxels)


def brute_hausdorff95(predicted, true, spacing):
    ours, theirs = brute_border(predicted) * np.array(spacing), brute_border(true) * np.array(spacing)
    apart = np.linalg.norm(ours[:, None] - theirs[None], axis=2)
    there, back = apart.min(axis=1), apart.min(axis=0)
    pooled = np.percentile(np.concatenate([there, back]), 95)
    return max(np.percentile(there, 95), np.percentile(back, 95)), pooled


def ball(shape, centre, radius_mm, spacing):
    grid = np.indices(shape).reshape(len(shape), -1).T * np.array(spacing)
    return (np.linalg.norm(grid - np.array(centre) * np.array(spacing), axis=1) <= radius_mm).reshape(shape)


@pytest.mark.parametrize("spacing", [(1.0, 1.0, 1.0), (3.0, 0.7, 1.1)])
def test_hausdorff_equals_brute_force(spacing):
    rng = np.random.default_rng(0)
    for _ in range(5):
        predicted, true = rng.random((5, 8, 7)) < 0.3, rng.random((5, 8, 7)) < 0.1
        scores = surface_scores(predicted, true, spacing, tolerance_mm=1.0)
        assert (scores["HD95"], scores["HD95_pooled"]) == pytest.approx(brute_hausdorff95(predicted, true, spacing))


def test_identical_masks_are_perfect():
    mask = ball((9, 20, 20), (4, 10, 10), 6, (2, 1, 1))
    scores = surface_scores(mask, mask, (2, 1, 1), tolerance_mm=1e-6)
    assert scores == {"HD95": 0, "HD95_pooled": 0, "HD95_or_diagonal": 0, "NSD": 1}


def test_shifted_cubes():
    """A shift by d along x moves a face's voxels by d: both directed percentiles are d for d below the edge."""
    first, second = np.zeros((30, 30, 30), bool), np.zeros((30, 30, 30), bool)
    first[5:15, 5:15, 5:15], second[5:15, 5:15, 9:19] = True, True
    spacing = (2.0, 1.0, 1.5)
    assert surface_scores(first, second, spacing, tolerance_mm=1.0)["HD95"] == pytest.approx(4 * 1.5)


def test_concentric_spheres():
    """Radii r and R: every distance is R - r, up to the grid's rounding."""
    spacing = (1.0, 0.5, 0.5)
    small, large = (ball((40, 80, 80), (20, 40, 40), radius, spacing) for radius in (10, 15))
    scores = surface_scores(small, large, spacing, tolerance_mm=4.0)
    assert scores["HD95"] == pytest.approx(5, abs=0.6)
    assert scores["NSD"] == pytest.approx(0, abs=0.01)
    assert surface_scores(small, large, spacing, tolerance_mm=6.0)["NSD"] == pytest.approx(1)


def test_a_far_blob_shows_in_the_directed_percentile_before_the_pooled_one():
    """The blob is 8 % of the prediction's border but 4 % of both borders together."""
    true = np.zeros((3, 60, 200), bool)
    true[1, 5:15, 5:15] = True
    predicted = true.copy()
    predicted[1, 50, 190:198] = True
    scores = surface_scores(predicted, true, (1, 1, 1), tolerance_mm=1.0)
    assert scores["HD95"] == pytest.approx(brute_hausdorff95(predicted[1:2], true[1:2], (1, 1, 1))[0])
    assert scores["HD95"] == pytest.approx(180, abs=10)
    assert scores["HD95_pooled"] == 0


def test_one_empty_mask_is_missed_and_two_are_undefined():
    empty, full = np.zeros((3, 4, 12), bool), np.ones((3, 4, 12), bool)
    expected = {"HD95": None, "HD95_pooled": None, "HD95_or_diagonal": pytest.approx(13.0), "NSD": 0.0}
    assert surface_scores(empty, full, (1, 1, 1), tolerance_mm=1.0) == expected
    assert set(surface_scores(empty, empty, (1, 1, 1), tolerance_mm=1.0).values()) == {None}


def area_of(mask, spacing):
    return surface_areas(mask, spacing, np.ones_like(mask)).sum()


@pytest.mark.parametrize("spacing", [(1.0, 1.0, 1.0), (2.0, 1.0, 0.5), (3.0, 0.7, 1.1), (5.0, 0.8, 0.8)])
@pytest.mark.parametrize("radius", [9.0, 12.0, 18.0])
def test_area_of_a_ball(spacing, radius):
    shape = tuple(round(2 * radius / s) + 8 for s in spacing)
    centre = np.array(shape) / 2 + (0.2, 0.4, 0.1)
    assert area_of(ball(shape, centre, radius, spacing), spacing) == pytest.approx(4 * math.pi * radius**2, rel=0.03)


def test_length_of_a_circle():
    disc = ball((50, 90), (24.7, 45.2), 20.0, (1.0, 0.5))
    assert area_of(disc, (1.0, 0.5)) == pytest.approx(2 * math.pi * 20, rel=0.03)


@pytest.mark.parametrize(
    ("normal", "rel"), [((1, 0, 0), 0.01), ((0, 0, 1), 0.01), ((1, 2, 3), 0.03), ((0, 1, 1), 0.03)]
)
def test_area_of_a_plane_does_not_depend_on_its_direction(normal, rel):
    """Elements within a tube of radius R around the normal: a disc of pi R^2."""
    spacing = np.array((2.0, 1.0, 1.0))
    unit = np.array(normal) / np.linalg.norm(normal)
    shape = (40, 80, 80)
    points = np.indices(shape).reshape(3, -1).T * spacing - (np.array(shape) / 2 + 0.3) * spacing
    mask = (points @ unit < 0).reshape(shape)
    areas = surface_areas(mask, tuple(spacing), np.ones_like(mask))
    corners = points.reshape(*shape, 3)[:-1, :-1, :-1] + spacing / 2
    tube = np.linalg.norm(np.cross(corners, unit), axis=-1) < 24
    assert areas[tube].sum() == pytest.approx(math.pi * 24**2, rel=rel)


@pytest.mark.parametrize(("spacing", "rounding"), [((1.0, 1.0, 1.0), 0.06), ((2.0, 1.0, 0.5), 0.08)])
def test_area_of_a_box_whose_edges_look_rounded(spacing, rounding):
    box = np.zeros((24, 24, 24), bool)
    box[4:20, 4:20, 4:20] = True
    z, y, x = (16 * s for s in spacing)
    exact = 2 * (z * y + y * x + z * x)
    assert (1 - rounding) * exact < area_of(box, spacing) < exact


@pytest.mark.parametrize("spacing", [(1.0, 1.0, 1.0), (5.0, 0.5, 1.0), (0.5, 3.0, 1.0)])
def test_nsd_weighs_area_not_voxels(spacing):
    """Two blocks on one base, one higher: base and the lower part of the sides agree, the tops do not."""
    first, second = np.zeros((40, 28, 28), bool), np.zeros((40, 28, 28), bool)
    first[5:15], second[5:25] = True, True
    dz, dy, dx = spacing
    top, side = 28 * dy * 28 * dx, 2 * 28 * (dy + dx) * dz
    expected = (2 * top + 20 * side) / (4 * top + 30 * side)
    assert surface_scores(first, second, spacing, tolerance_mm=0.1)["NSD"] == pytest.approx(expected, rel=0.05)


def test_the_border_of_the_ignore_label_is_no_surface():
    true = np.zeros((8, 8, 12), bool)
    true[2:6, 2:6, 2:6] = True
    valid = np.ones_like(true)
    valid[:, :, 6:] = False  # the object continues there, but how far is not annotated
    areas = surface_areas(true, (1, 1, 1), valid)
    assert areas[:, :, 5:].max() <= areas[:, :, :5].max()
    assert areas.sum() < surface_areas(true, (1, 1, 1), np.ones_like(true)).sum() - 8


def test_two_dimensional_images_have_no_top_and_bottom():
    first, second = np.zeros((1, 30, 30), bool), np.zeros((1, 30, 30), bool)
    first[0, 5:15, 5:15], second[0, 5:15, 8:18] = True, True
    expected, _ = brute_hausdorff95(first[0], second[0], (1, 2))
    assert surface_scores(first, second, (1, 1, 2), tolerance_mm=1.0)["HD95"] == pytest.approx(expected)


@pytest.mark.parametrize("shape", [(1, 1, 1), (1, 1, 4), (4, 1, 1)])
def test_images_of_a_single_voxel_or_line(shape):
    mask = np.ones(shape, bool)
    assert surface_scores(mask, mask, (1.0, 2.0, 3.0), tolerance_mm=1.0) == pytest.approx(
        {"HD95": 0, "HD95_pooled": 0, "HD95_or_diagonal": 0, "NSD": 1}
    )
