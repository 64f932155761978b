"""Filled polygons against a test of every centre in exact fractions."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage
from skimage.draw import polygon2mask

from unetrpp.io.contours import filled, outlines

SHAPE = (7, 9)
COORDINATE = st.integers(-8, 44).map(lambda quarters: quarters / 4)  # so that many edges run through centres
POLYGON = st.lists(st.tuples(COORDINATE, COORDINATE), min_size=1, max_size=7)


def naive(polygons, shape):
    """The rule for one centre after the other."""
    found = np.zeros(shape, bool)
    for y in range(shape[0]):
        for x in range(shape[1]):
            edges = [
                (tuple(map(Fraction, a)), tuple(map(Fraction, b)))
                for points in polygons
                for a, b in zip(points, points[1:] + points[:1], strict=True)
            ]
            on = any(_is_on(x, y, *edge) for edge in edges)
            found[y, x] = on or sum(_is_right_of(x, y, *edge) for edge in edges) % 2 == 1
    return found


def _is_on(x, y, a, b):
    (ax, ay), (bx, by) = a, b
    is_in_line = (bx - ax) * (y - ay) == (by - ay) * (x - ax)
    return is_in_line and min(ax, bx) <= x <= max(ax, bx) and min(ay, by) <= y <= max(ay, by)


def _is_right_of(x, y, a, b):
    """Whether the edge crosses the ray from the centre to the right; an end on the ray counts as above it."""
    (ax, ay), (bx, by) = a, b
    return (ay > y) != (by > y) and x < ax + (y - ay) * (bx - ax) / (by - ay)


@given(st.lists(POLYGON, max_size=3))
@settings(max_examples=200, deadline=None)
def test_centres_inside_or_on_a_polygon_are_filled(polygons):
    np.testing.assert_array_equal(filled([np.array(p) for p in polygons], SHAPE), naive(polygons, SHAPE))


def rectangle(low, high):
    return np.array([(low, low), (high, low), (high, high), (low, high)], float)


def test_contours_through_the_outermost_centres_give_back_the_mask():
    """Such contours come from OpenCV's findContours; those of a hole run through the voxels around it."""
    hole = rectangle(2, 4)[::-1]
    for polygons in ([rectangle(1, 5), hole], [np.concatenate([rectangle(1, 5), rectangle(1, 5)[:1], hole, hole[:1]])]):
        found = filled(polygons, (7, 7))
        expected = np.zeros((7, 7), bool)
        expected[1:6, 1:6] = True
        expected[3, 3] = False
        np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("edge", [-0.5, -0.5 + 1e-9])
def test_contours_along_the_borders_of_pixels(edge):
    found = filled([rectangle(1 + edge, 5 + edge), rectangle(2 + edge, 4 + edge)], (7, 7))
    expected = np.zeros((7, 7), bool)
    expected[1:5, 1:5] = True
    expected[2:4, 2:4] = False
    np.testing.assert_array_equal(found, expected)


def test_a_point_is_one_pixel_and_what_lies_outside_is_cut_off():
    assert np.argwhere(filled([np.array([(2.0, 1.0)])], SHAPE)).tolist() == [[1, 2]]
    assert not filled([np.array([(2.3, 1.0)])], SHAPE).any()
    assert not filled([rectangle(20, 30), rectangle(-30, -20)], SHAPE).any()
    assert filled([rectangle(-30, 30)], SHAPE).all()
    assert not filled([], SHAPE).any()


def masks():
    """Noise of several densities, with many holes, islands in them, and pixels that meet at corners; and a ring with an island."""
    rng = np.random.default_rng(0)
    found = [rng.random((23, 31)) < density for density in (0.05, 0.3, 0.5, 0.7, 0.9, 0.98)]
    y, x = np.indices((40, 40)) - 19.5
    radius = np.hypot(y, x)
    return [*found, (radius < 18) & ~((radius < 12) & (radius > 5)), np.ones((3, 4), bool), np.zeros((3, 4), bool)]


@pytest.mark.parametrize("number", range(9))
def test_filled_outlines_are_the_mask(number):
    mask = masks()[number]
    polygons = list(outlines(mask))
    np.testing.assert_array_equal(filled(polygons, mask.shape), mask)
    # A program that adds up what each polygon encloses, by scikit-image.
    one_by_one = np.zeros(mask.shape, bool)
    for polygon in polygons:
        one_by_one |= polygon2mask(mask.shape, polygon[:, ::-1])
    np.testing.assert_array_equal(one_by_one, mask)
    assert len(polygons) == ndimage.label(mask, np.ones((3, 3)))[1]


def test_straight_edges_have_no_points_between_their_ends():
    (polygon,) = outlines(np.ones((5, 60), bool))
    assert len(polygon) == 8  # corners are cut off
