"""A whole case: orientation, order, crop, and that the caller's arrays are left alone."""

import msgspec
import numpy as np
import pytest

from unetrpp.core.errors import UserError
from unetrpp.dataset.labels import LabelScheme
from unetrpp.io.geometry import Geometry
from unetrpp.io.images import Volume
from unetrpp.plans.fingerprint import IntensityStatistics
from unetrpp.plans.plans import Normalization, Preprocessing
from unetrpp.preprocessing.case import preprocess

ZERO = IntensityStatistics(
    mean=0.0, median=0.0, std=1.0, minimum=0.0, maximum=0.0, percentile_00_5=0.0, percentile_99_5=0.0
)
SCHEME = LabelScheme(names=("background", "a", "b"), values=(0, 3, 7))


def plan(spacing=(1.0, 1.0, 1.0), transpose=(0, 1, 2), scheme="none"):
    return Preprocessing(
        transpose=transpose,
        spacing_mm=spacing,
        normalization=(Normalization(channel="MR", scheme=scheme, statistics=ZERO),),
        labels=SCHEME,
        chunk=(8, 8, 8),
    )


@pytest.fixture
def case():
    random = np.random.default_rng(0)
    image = random.uniform(1, 2, (1, 6, 7, 8)).astype(np.float32)
    label = random.choice([0, 3, 7], (1, 6, 7, 8)).astype(np.int16)
    geometry = Geometry(shape_zyx=(6, 7, 8), spacing_zyx_mm=(2.0, 1.0, 1.0))
    return Volume(image, geometry), Volume(label, geometry)


def test_values_become_training_indices(case):
    volume, label = case
    result = preprocess(volume, label, plan((2.0, 1.0, 1.0)), "a")
    np.testing.assert_array_equal(np.array([0, 3, 7])[result.label], label.array[0])
    np.testing.assert_array_equal(result.image, volume.array)


def test_a_flipped_and_permuted_copy_gives_the_same_case(case):
    volume, label = case
    # The same voxels stored x-z-y with x and z reversed: the columns say where each file axis points.
    turned = [np.ascontiguousarray(v.array.transpose(0, 3, 1, 2)[:, ::-1, ::-1]) for v in case]
    geometry = Geometry(
        shape_zyx=(8, 6, 7),
        spacing_zyx_mm=(1.0, 2.0, 1.0),
        direction=(0.0, 0.0, -1.0, 1.0, 0.0, 0.0, 0.0, -1.0, 0.0),
    )
    a = preprocess(volume, label, plan(), "a")
    b = preprocess(Volume(turned[0], geometry), Volume(turned[1], geometry), plan(), "a")
    np.testing.assert_array_equal(a.image, b.image)
    np.testing.assert_array_equal(a.label, b.label)


def test_plan_order_crop_and_spacing_are_recorded(case):
    volume, label = case
    volume.array[:, :, :, :3] = 0
    result = preprocess(volume, label, plan((0.5, 2.0, 1.0), (2, 0, 1)), "a")
    properties = result.properties
    assert properties.crop == ((3, 8), (0, 6), (0, 7))
    assert properties.cropped_spacing_mm == (1.0, 2.0, 1.0)
    assert result.label is not None
    assert result.image.shape[1:] == result.label.shape == properties.shape == (10, 6, 7)


def test_a_missing_target_spacing_keeps_the_slices(case):
    volume, label = case
    result = preprocess(volume, label, plan((None, 2.0, 2.0)), "a")
    assert result.properties.shape == (6, 4, 4)


def test_the_callers_arrays_stay_untouched(case):
    volume, label = case
    before = volume.array.copy()
    preprocess(volume, label, plan(scheme="zscore"), "a")
    np.testing.assert_array_equal(volume.array, before)


def test_wrong_number_of_channels(case):
    volume, _ = case
    two = Volume(np.concatenate([volume.array] * 2), volume.geometry)
    with pytest.raises(UserError, match=r"case_9: the image has 2 channels, the plans expect 1"):
        preprocess(two, None, plan(), "case_9")


def test_a_masked_channel_is_zero_outside_the_mask_after_resampling():
    """The mask is a ball, so where the resampled voxels lie says which of them are outside."""
    edge, rng = 21, np.random.default_rng(0)
    distance = np.linalg.norm(np.indices((edge,) * 3) - (edge - 1) / 2, axis=0)
    image = rng.uniform(100, 200, (2, edge, edge, edge)).astype(np.float32) * (distance < 7)
    image[:, [0, -1], 0, 0] = 0.1  # so that nothing is cropped
    image[:, [0, -1], -1, -1] = 0.1
    both = (channel_plan("zscore", masked=True), channel_plan("none", masked=False))
    masked = msgspec.structs.replace(plan((0.7, 0.7, 0.7)), normalization=both, zero_outside_mask=True)
    volume = Volume(image, Geometry(shape_zyx=(edge,) * 3, spacing_zyx_mm=(1.0, 1.0, 1.0)))
    made = preprocess(volume, None, masked, "a").image
    n = made.shape[1]
    radius = np.linalg.norm(np.indices((n,) * 3) - (n - 1) / 2, axis=0) * edge / n
    beside = (radius > 8) & (radius < 10)
    assert (made[0][beside] == 0).all()
    assert (made[0][radius < 6] != 0).all()
    assert (made[1][beside] != 0).mean() > 0.3  # the other channel keeps what interpolation made
    earlier = preprocess(volume, None, msgspec.structs.replace(masked, zero_outside_mask=False), "a").image
    assert (earlier[0][beside] != 0).mean() > 0.3  # as plans of release 0.1.0
    assert (earlier[:, made[0] != 0] == made[:, made[0] != 0]).all()


def channel_plan(scheme, *, masked):
    return Normalization(channel=scheme, scheme=scheme, statistics=ZERO, masked=masked)


def test_an_image_that_no_disk_holds_on_the_networks_grid_is_refused():
    """Its header gives metres; nothing is reserved for it first."""
    image = np.ones((1, 96, 96, 96), np.float32)
    wrong = Volume(image, Geometry(shape_zyx=(96, 96, 96), spacing_zyx_mm=(1000.0, 1000.0, 1000.0)))
    with pytest.raises(
        UserError, match=r"has 96000 x 96000 x 96000 voxels .* correct its spacing of 1000 x"
    ) as refused:
        preprocess(wrong, None, plan(), "a")
    assert refused.value.case == "a"
