"""Polygons, ellipses and run lengths as pixels, against loops over all pixels."""

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from unetrpp.core.errors import UserError
from unetrpp.dataset_conversion.annotations.polygons import (
    Ellipse,
    Polygon,
    Runs,
    decoded_lengths,
    encoded_runs,
    rectangle,
)

SHAPE = (9, 7)
# Sixteenths and not halves: centres rarely lie on edges.
COORDINATES = st.integers(-60, 220).map(lambda i: i / 16 + 1 / 64)
RINGS = st.lists(st.tuples(COORDINATES, COORDINATES), min_size=3, max_size=8)


def whole(area, shape=SHAPE):
    """An area as a mask of the image."""
    mask = np.zeros(shape, bool)
    mask[area.top : area.top + area.mask.shape[0], area.left : area.left + area.mask.shape[1]] = area.mask
    return mask


def is_inside(ring, x, y):
    """By counting the edges that a ray to the left crosses, one at a time, in exact numbers; None on an edge."""
    crossed = 0
    for start, end in zip(ring, [*ring[1:], ring[0]], strict=True):
        (x0, y0), (x1, y1) = (map(Fraction, corner) for corner in (start, end))
        if (y0 <= y) != (y1 <= y):
            at = x0 + (y - y0) * (x1 - x0) / (y1 - y0)
            if at == x:
                return None
            crossed += at < x
    return crossed % 2 == 1


@settings(deadline=None)
@given(RINGS)
def test_a_pixel_is_inside_when_its_centre_is(ring):
    found = whole(Polygon(tuple(ring)).area(SHAPE))
    for y in range(SHAPE[0]):
        for x in range(SHAPE[1]):
            expected = is_inside(ring, Fraction(2 * x + 1, 2), Fraction(2 * y + 1, 2))
            assert found[y, x] == (expected is not False)  # a centre on the outline counts as inside


def test_a_rectangle_of_whole_pixels_is_those_pixels():
    expected = np.zeros(SHAPE, bool)
    expected[2:5, 1:4] = True
    np.testing.assert_array_equal(whole(rectangle(1, 2, 4, 5).area(SHAPE)), expected)
    np.testing.assert_array_equal(whole(rectangle(4, 5, 1, 2).area(SHAPE)), expected)  # drawn from the other corner


@pytest.mark.parametrize("corners", [(-9, -9, -2, -2), (20, 20, 30, 30), (3, 3, 3, 3)])
def test_outside_of_the_image_there_is_nothing(corners):
    assert not whole(rectangle(*corners).area(SHAPE)).any()


@settings(deadline=None)
@given(
    st.tuples(st.floats(-3, 10), st.floats(-3, 12)), st.tuples(st.floats(0.5, 6), st.floats(0.5, 6)), st.floats(0, 180)
)
def test_an_ellipse_has_the_centres_within_it(centre, radii, degrees):
    found = whole(Ellipse(centre, radii, degrees).area(SHAPE))
    for y in range(SHAPE[0]):
        for x in range(SHAPE[1]):
            # The foci's distances add up to no more than the longer axis.
            a, b = max(radii), min(radii)
            angle = math.radians(degrees + (90 if radii[1] > radii[0] else 0))
            far = math.sqrt(a * a - b * b)
            foci = [(centre[0] + s * far * math.cos(angle), centre[1] + s * far * math.sin(angle)) for s in (1, -1)]
            total = sum(math.dist((x + 0.5, y + 0.5), focus) for focus in foci)
            if abs(total - 2 * a) > 1e-5:
                assert found[y, x] == (total < 2 * a)


@settings(deadline=None)
@given(arrays(bool, st.tuples(st.integers(1, 6), st.integers(1, 6))), st.booleans())
def test_run_lengths_fill_their_box(mask, by_column):
    flat = (mask.T if by_column else mask).reshape(-1).tolist()
    lengths, value = [0], False
    for pixel in flat:
        if pixel != value:
            lengths.append(0)
            value = pixel
        lengths[-1] += 1
    if len(lengths) % 2:  # a last run outside may be missing
        lengths.pop()
    area = Runs(tuple(lengths), (2, 1, *mask.shape), by_column).area((9, 9))
    np.testing.assert_array_equal(area.mask, mask)
    assert (area.top, area.left) == (2, 1)


@settings(deadline=None)
@given(arrays(bool, (3, 4)), st.integers(-3, 8), st.integers(-4, 8))
def test_a_mask_keeps_its_pixels_and_is_cut_at_the_edges(mask, top, left):
    expected = np.zeros((30, 30), bool)
    expected[10 + top : 13 + top, 10 + left : 14 + left] = mask
    found = whole(encoded_runs(mask, top, left).area(SHAPE))
    np.testing.assert_array_equal(found, expected[10 : 10 + SHAPE[0], 10 : 10 + SHAPE[1]])


def test_run_lengths_that_do_not_fit_are_refused():
    with pytest.raises(UserError, match="run lengths of 7 pixels do not fill 2 x 3 pixels"):
        Runs((3, 4), (0, 0, 2, 3)).area(SHAPE)


def encode(lengths):
    """COCO's compressed string, by its definition: differences of every other number in groups of five bits."""
    text = ""
    for i, length in enumerate(lengths):
        number = length - lengths[i - 2] if i > 2 else length
        while True:
            group, number = number & 31, number >> 5
            last = number == (-1 if group & 16 else 0)
            text += chr(48 + group + (0 if last else 32))
            if last:
                break
    return text


@settings(deadline=None)
@given(st.lists(st.integers(0, 10**7), max_size=12))
def test_compressed_run_lengths_are_decoded(lengths):
    assert decoded_lengths(encode(lengths)) == tuple(lengths)


def test_a_string_that_pycocotools_wrote():
    assert decoded_lengths("61X13mN000`0") == (6, 1, 40, 4, 5, 4, 5, 4, 21)  # 9 x 10 pixels
    with pytest.raises(UserError, match="end within a number"):
        decoded_lengths("X")
    with pytest.raises(UserError, match="hold the character ' '"):
        decoded_lengths("6 1")
