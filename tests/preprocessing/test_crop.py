"""Cropping against numpy's own search for what is not background."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from unetrpp.preprocessing.crop import background_values, foreground_box, foreground_mask, shape_of, slices


@settings(max_examples=30, deadline=None)
@given(st.tuples(*[st.integers(1, 8)] * 3), st.integers(0, 999), st.sampled_from([0.0, -1024.0, 7.0]))
def test_box_holds_exactly_what_is_not_background(shape, seed, constant):
    random = np.random.default_rng(seed)
    inside = random.random((2, *shape)) < 0.1
    image = np.pad(inside * 50.0, [(0, 0), (1, 2), (2, 1), (1, 1)]) + constant
    box = foreground_box(image)
    where = np.argwhere((image != constant).any(axis=0))
    if len(where):
        expected = list(zip(where.min(axis=0), where.max(axis=0) + 1, strict=True))
        assert [tuple(int(v) for v in pair) for pair in expected] == [tuple(pair) for pair in box]
    else:
        assert shape_of(box) == image.shape[1:]


@settings(max_examples=30, deadline=None)
@given(st.tuples(*[st.tuples(st.integers(0, 3), st.integers(0, 3))] * 3), st.sampled_from([0.0, -1024.0]))
def test_padding_on_any_sides_is_cut_again(padding, constant):
    noise = np.random.default_rng(0).normal(size=(1, 4, 5, 6))
    box = foreground_box(np.pad(noise, [(0, 0), *padding], constant_values=constant))
    assert box == tuple((before, before + n) for (before, _), n in zip(padding, (4, 5, 6), strict=True))


def test_an_image_without_a_margin_is_kept_whole():
    image = np.random.default_rng(0).normal(size=(1, 4, 5, 6))
    assert foreground_box(image) == ((0, 4), (0, 5), (0, 6))


def test_channels_have_backgrounds_of_their_own():
    image = np.full((2, 5, 5, 5), -1000.0)
    image[1] = 0
    image[1, 2, 2, 2] = 3
    assert background_values(image) == (-1000.0, 0.0)
    assert shape_of(foreground_box(image)) == (1, 1, 1)


def test_mask_fills_holes():
    image = np.zeros((1, 7, 7, 7))
    image[:, 1:6, 1:6, 1:6] = 1
    image[0, 3, 3, 3] = 0
    mask = foreground_mask(image, (0.0,))
    assert mask[3, 3, 3]
    assert mask.sum() == 125
    assert mask[slices(((1, 6), (1, 6), (1, 6)))].all()
