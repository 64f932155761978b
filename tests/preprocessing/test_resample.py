"""Resampling against scipy, and labels against a full one-hot."""

import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from unetrpp.preprocessing.resample import (
    CUBIC,
    KEPT,
    LINEAR,
    NEAREST,
    axis_matrix,
    interpolate,
    resample_image,
    resample_labels,
    separate_axis,
)


def zoomed(array, shape, order):
    factors = [m / n for m, n in zip(shape, array.shape, strict=True)]
    return ndimage.zoom(array.astype(np.float64), factors, order=order, mode="nearest", grid_mode=True)


sizes = st.tuples(*[st.integers(1, 24)] * 3)


@settings(max_examples=25, deadline=None)
@given(sizes, sizes, st.sampled_from([CUBIC, LINEAR, NEAREST]), st.integers(0, 99))
def test_equals_scipy_for_every_order(source, target, order, seed):
    array = np.random.default_rng(seed).normal(size=source).astype(np.float32)
    ours = interpolate(array[None], target, (order,) * 3)[0]
    np.testing.assert_allclose(ours, zoomed(array, target, order), atol=1e-5)


def test_blocks_of_rows_equal_the_whole_product():
    array = np.random.default_rng(0).normal(size=(3, 190, 4)).astype(np.float32)
    ours = interpolate(array, (3, 301, 4), (CUBIC,) * 3)
    np.testing.assert_allclose(ours, zoomed(array, (3, 301, 4), CUBIC), atol=1e-5)


def test_coarse_axis_takes_the_nearest_slice():
    array = np.random.default_rng(1).normal(size=(4, 9, 10)).astype(np.float32)
    ours = interpolate(array, (10, 14, 7), (NEAREST, CUBIC, CUBIC))
    in_plane = np.stack([zoomed(plane, (14, 7), CUBIC) for plane in array])
    np.testing.assert_allclose(ours, zoomed(in_plane, (10, 14, 7), NEAREST), atol=1e-5)


def test_images_keep_each_channels_own_range():
    step = np.zeros((2, 8, 8, 8), np.float32)
    step[0, :, :, 4:] = 1
    step[1, :, 4:] = 100
    free = interpolate(step, (15, 15, 15), (CUBIC,) * 3)
    assert free[0].max() > 1.01
    clipped = resample_image(step, (15, 15, 15))
    np.testing.assert_allclose(clipped[0], free[0].clip(0, 1))
    np.testing.assert_allclose(clipped[1], free[1].clip(0, 100))


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_along_a_coarse_axis_each_slice_keeps_its_range(axis):
    array = np.random.default_rng(4).normal(size=(4, 6, 5)).astype(np.float32)
    flat = [np.take(array, i, axis) for i in range(array.shape[axis])]
    larger = [zoomed(plane, (12, 13), CUBIC).clip(plane.min(), plane.max()) for plane in flat]
    shape = [12, 13]
    shape.insert(axis, 7)
    expected = zoomed(np.stack(larger), (7, 12, 13), NEAREST)
    ours = resample_image(array[None], tuple(shape), axis)[0]
    np.testing.assert_allclose(np.moveaxis(ours, axis, 0), expected, atol=1e-5)


@settings(max_examples=25, deadline=None)
@given(sizes, sizes, st.integers(0, 99))
def test_labels_equal_the_arg_max_over_a_full_one_hot(source, target, seed):
    array = np.random.default_rng(seed).integers(0, 4, source).astype(np.uint8)
    ours = resample_labels(array, target, (1, 2, 3))
    if source != target:
        shares = np.stack([zoomed(array == c, target, LINEAR) for c in range(4)])
        chosen = np.take_along_axis(shares, ours[None].astype(int), axis=0)[0]
        np.testing.assert_allclose(chosen, shares.max(axis=0), atol=1e-5)  # equal but for ties in float32


def test_labels_do_not_grow():
    z, y, x = np.ogrid[:30, :30, :30]
    ball = ((z - 15) ** 2 + (y - 15) ** 2 + (x - 15) ** 2 < 49).astype(np.uint8)
    assert abs(resample_labels(ball, (45, 45, 45), (1,)).sum() / ball.sum() / 1.5**3 - 1) < 0.04


def test_labels_of_equal_shape_are_returned_as_they_are():
    array = np.random.default_rng(3).integers(0, 3, (4, 5, 6)).astype(np.uint8)
    assert resample_labels(array, (4, 5, 6), (1, 2)) is array


@pytest.mark.parametrize(
    ("spacing", "target", "axis"),
    [
        ((5.0, 1.0, 1.0), (1.0, 1.0, 1.0), 0),
        ((1.0, 1.0, 1.0), (1.0, 1.0, 4.0), 2),
        ((3.0, 1.0, 1.0), (3.0, 1.0, 1.0), None),
        ((3.0000002, 1.0, 1.0), (3.0, 1.0, 0.9999999), None),  # a header's rounding
        ((5.0, 5.0000005, 1.0), (1.0, 1.0, 1.0), None),
        ((0.24, 1.25, 1.25), (1.0, 1.0, 1.0), None),  # two coarse axes: no single one to separate
    ],
)
def test_which_axis_is_separate(spacing, target, axis):
    assert separate_axis(spacing, target, 3.0) == axis


def test_rows_sum_to_one():
    for n_in, n_out in [(5, 9), (40, 13), (1, 4)]:
        for order in (CUBIC, LINEAR, NEAREST):
            np.testing.assert_allclose(axis_matrix(n_in, n_out, order).sum(axis=1), 1, atol=1e-6)


@pytest.mark.parametrize(("n_in", "n_out"), [(257, 300), (1400, 3000)])
def test_a_long_axis_is_built_in_parts_and_not_kept(n_in, n_out):
    whole = ndimage.zoom(np.eye(n_in), (n_out / n_in, 1), order=CUBIC, mode="nearest", grid_mode=True)
    found = axis_matrix(n_in, n_out, CUBIC)
    np.testing.assert_allclose(found, whole, atol=1e-7)
    assert (axis_matrix(n_in, n_out, CUBIC) is found) == (n_in * n_out <= KEPT)


def test_a_long_axis_takes_little_more_than_its_weights():
    tracemalloc.start()
    try:
        matrix = axis_matrix(2000, 1900, LINEAR)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 3 * matrix.nbytes
