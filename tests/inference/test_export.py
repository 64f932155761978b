"""Export against a slow reference (scipy, everything at once) and round trips through preprocessing."""

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from unetrpp.dataset.labels import LabelScheme, Region
from unetrpp.inference.averaging import decide
from unetrpp.inference.export import Exported, export
from unetrpp.inference.taps import Taps, resample_slabs
from unetrpp.io.geometry import Geometry, Orientation
from unetrpp.io.images import Volume
from unetrpp.plans.fingerprint import IntensityStatistics
from unetrpp.plans.plans import Normalization, Preprocessing
from unetrpp.preprocessing.case import preprocess
from unetrpp.preprocessing.grid import CaseGrid, CaseProperties

SCHEME = LabelScheme(names=("background", "a", "b", "c"), values=(0, 1, 5, 300))
REGIONS = LabelScheme(
    names=("background", "x", "y"),
    values=(0, 1, 2),
    regions=(Region(name="whole", members=(1, 2), value=1), Region(name="core", members=(2,), value=2)),
)
STATISTICS = IntensityStatistics(mean=0, median=0, std=1, minimum=-9, maximum=9, percentile_00_5=-9, percentile_99_5=9)


def plan(spacing, transpose=(0, 1, 2), labels=SCHEME):
    normalization = (Normalization(channel="MR", scheme="none", statistics=STATISTICS),)
    return Preprocessing(
        transpose=transpose, spacing_mm=spacing, normalization=normalization, labels=labels, chunk=(8, 8, 8)
    )


def properties(shape, cropped_shape, spacing, whole=None, crop=None):
    geometry = Geometry(shape_zyx=whole or cropped_shape, spacing_zyx_mm=spacing)
    return CaseProperties(
        case="case",
        geometry=geometry,
        orientation=Orientation(axes=(0, 1, 2), flips=()),
        crop=crop or tuple((0, n) for n in cropped_shape),
        cropped_shape=cropped_shape,
        cropped_spacing_mm=spacing,
        shape=shape,
    )


def segment(slabs, properties, plan, linear_back=False):
    """The user's label values on the input's grid."""
    grid = CaseGrid(properties, plan, linear_back=linear_back)
    return export(slabs, grid).to_input(grid).array


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 25), st.integers(1, 25), st.sampled_from([0, 1]))
def test_taps_are_scipys_zoom(n_in, n_out, order):
    x = np.random.default_rng(0).random(n_in)
    expected = ndimage.zoom(x, n_out / n_in, order=order, mode="nearest", grid_mode=True)
    taps = Taps.between(n_in, n_out, nearest=order == 0)
    ours = taps.apply(torch.from_numpy(x).float()[:, None, None], -3).flatten()
    np.testing.assert_allclose(ours, expected, atol=1e-6)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(1, 5), min_size=1, max_size=5), st.integers(1, 30))
def test_slabs_give_the_same_as_the_whole_volume(depths, n_out):
    x = torch.rand(2, sum(depths), 3, 4)
    taps = (
        Taps.between(sum(depths), n_out, False),
        Taps.between(3, 5, False),
        Taps.between(4, 2, False),
    )
    ours = torch.cat(list(resample_slabs(x.split(depths, dim=1), taps)), dim=1)
    torch.testing.assert_close(ours, taps[0].apply(taps[1].apply(taps[2].apply(x, -1), -2), -3))


@pytest.mark.parametrize("scheme", [SCHEME, REGIONS])
@pytest.mark.parametrize("spacing", [(1.0, 1.0, 1.0), (5.0, 1.0, 1.0)])
@pytest.mark.parametrize("linear_back", [False, True])
def test_the_order_of_averaging(scheme, spacing, linear_back):
    """The slow reference: everything at once, in double precision."""
    rng = np.random.default_rng(3)
    shape, cropped = (6, 9, 7), (4, 13, 5)
    logits = rng.normal(size=(3, scheme.outputs, *shape)) * 2
    folds = 1 / (1 + np.exp(-logits)) if scheme.regions else np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    orders = (0 if spacing[0] > 3 and not linear_back else 1, 1, 1)
    mean = folds.mean(axis=0)
    for axis, order in enumerate(orders):
        factors = [1.0] * 4
        factors[axis + 1] = cropped[axis] / shape[axis]
        mean = ndimage.zoom(mean, factors, order=order, mode="nearest", grid_mode=True)
    expected = np.zeros((8, 13, 9), int)
    inside = expected[2:6, :, 3:8]
    if scheme.regions:
        for probability, region in zip(mean, scheme.regions, strict=True):
            inside[probability > 0.5] = region.value
    else:
        inside[:] = np.array(scheme.values)[mean.argmax(axis=0)]
    preprocessing = plan((1.0, 1.0, 1.0), labels=scheme)
    case = properties(shape, cropped, spacing, whole=(8, 13, 9), crop=((2, 6), (0, 13), (3, 8)))
    slabs = torch.from_numpy(logits).float().split([1, 3, 2], dim=2)
    np.testing.assert_array_equal(segment(slabs, case, preprocessing, linear_back), expected)


@pytest.mark.parametrize("averaging", ["probabilities", "logits"])
def test_linear_interpolation_along_long_voxels_makes_neighbouring_slices_differ(averaging):
    """Three slices of the network become nine: equal in threes, or each its own, also where a crop was taken."""
    about = properties((3, 20, 20), (9, 20, 20), (4.0, 1.0, 1.0))
    logits = torch.randn(2, 4, 3, 20, 20, generator=torch.Generator().manual_seed(0))
    found = []
    for linear_back in (False, True):
        grid = CaseGrid(about, plan((12.0, 1.0, 1.0)), linear_back=linear_back)
        assert grid.uncropped().nearest_axis_back == grid.nearest_axis_back
        decisions = export([logits], grid, averaging=averaging).decisions
        np.testing.assert_array_equal(
            decisions, export([logits], grid, averaging=averaging, probabilities=True).decisions
        )
        found.append([bool((a == b).all()) for a, b in itertools.pairwise(decisions)])
    assert found[0] == [True, True, False] * 2 + [True, True]
    assert sum(found[1]) == 2  # beyond the centres of the first and of the last slice there is one value


@pytest.mark.parametrize("transpose", [(0, 1, 2), (2, 0, 1)])
@pytest.mark.parametrize(
    "direction", [(1, 0, 0, 0, 1, 0, 0, 0, 1), (0, -1, 0, 0, 0, 1, -1, 0, 0), (-1, 0, 0, 0, -1, 0, 0, 0, 1)]
)
def test_a_perfect_network_returns_the_label_on_the_inputs_grid(transpose, direction):
    rng = np.random.default_rng(0)
    shape, spacing = (7, 9, 11), (3.0, 1.0, 2.0)
    label = np.zeros(shape, np.int32)
    label[1:6, 2:8, 3:9] = np.array(SCHEME.values)[rng.integers(0, 4, (5, 6, 6))]
    image = np.zeros((1, *shape), np.float32)
    image[0, 1:6, 2:8, 3:9] = 1 + rng.random((5, 6, 6))
    geometry = Geometry(shape_zyx=shape, spacing_zyx_mm=spacing, direction=direction, origin_xyz_mm=(5, -3, 2))
    preprocessing = plan((None, None, None), transpose)
    case = preprocess(Volume(image, geometry), Volume(label[None], geometry), preprocessing, "case")
    assert case.label is not None
    logits = 9 * torch.nn.functional.one_hot(torch.from_numpy(case.label.astype(np.int64)), 4).movedim(-1, 0).float()
    result = segment([logits[None]], case.properties, preprocessing)
    np.testing.assert_array_equal(result, label)
    assert result.dtype == np.uint16


def test_later_regions_win_and_half_is_not_enough():
    probability = torch.tensor([[0.6, 0.6, 0.5, 0.1], [0.4, 0.9, 0.5, 0.7]])
    assert decide(probability, REGIONS).tolist() == [1, 2, 0, 2]


def test_slabs_in_half_precision_are_decided_as_their_float32():
    cropped, plans = (9, 10, 11), plan((1.0, 1.0, 1.0))
    about = properties((6, 12, 8), cropped, (1.0, 1.0, 1.0))
    logits = torch.randn(2, 4, 6, 12, 8, generator=torch.Generator().manual_seed(0)).half()
    assert np.array_equal(segment([logits], about, plans), segment([logits.float()], about, plans))


@pytest.mark.parametrize(("scheme", "background"), [(SCHEME, 1), (REGIONS, 0)])
def test_voxels_outside_the_crop_are_background_with_probability_1(scheme, background):
    about = properties((2, 2, 2), (2, 2, 2), (1.0, 1.0, 1.0), whole=(4, 4, 4), crop=((1, 3),) * 3)
    exported = Exported(
        np.ones((2, 2, 2), np.uint8),
        np.full((scheme.outputs, 2, 2, 2), 0.25, np.float16),
        np.full((2, 2, 2, 2), 0.5, np.float32),
    )
    found = exported.to_input(CaseGrid(about, plan((1.0, 1.0, 1.0), labels=scheme)))
    inside = np.zeros((4, 4, 4), bool)
    inside[1:3, 1:3, 1:3] = True
    np.testing.assert_array_equal(found.array, inside.astype(int))
    np.testing.assert_array_equal(found.entropy, 0.5 * inside)
    np.testing.assert_array_equal(found.disagreement, 0.5 * inside)
    assert found.probabilities is not None
    assert found.probabilities.dtype == np.float16
    for k, probability in enumerate(found.probabilities):
        np.testing.assert_array_equal(probability, np.where(inside, 0.25, background if k == 0 else 0))


@pytest.mark.parametrize("scheme", [SCHEME, REGIONS])
def test_logits_are_averaged_and_resampled_before_the_softmax_where_a_model_says_so(scheme):
    """Against one computation for the whole volume, with logits in float16; entropy is that of the mean."""
    folds = torch.randn(3, scheme.outputs, 5, 6, 7, generator=torch.Generator().manual_seed(2)) * 3
    about = properties((5, 6, 7), (9, 8, 11), (1.0, 1.0, 1.0))
    grid = CaseGrid(about, plan((1.8, 8 / 6, 11 / 7), labels=scheme))
    first, second, third = folds.half().numpy()
    mean = ((first + second + third) / np.float16(3)).astype(float)
    larger = np.stack([ndimage.zoom(k, (9 / 5, 8 / 6, 11 / 7), order=1, mode="nearest", grid_mode=True) for k in mean])
    odds = np.exp(larger.astype(np.float16).astype(float))
    expected = odds / (1 + odds) if scheme.regions else odds / odds.sum(axis=0)
    found = export(folds.split([1, 3, 1], dim=2), grid, averaging="logits", probabilities=True, uncertainty=True)
    assert found.probabilities is not None
    assert found.uncertainty is not None
    np.testing.assert_allclose(found.probabilities, expected, atol=1e-3)
    np.testing.assert_array_equal(found.decisions, decide(torch.from_numpy(expected), scheme).numpy())
    np.testing.assert_array_equal(export([folds], grid, averaging="logits").decisions, found.decisions)
    both = np.stack([expected, 1 - expected]) if scheme.regions else expected
    entropy = -(both * np.log(both)).sum(axis=0)
    entropy = entropy.mean(axis=0) / np.log(2) if scheme.regions else entropy / np.log(scheme.outputs)
    np.testing.assert_allclose(found.uncertainty[0], entropy, atol=1e-3)  # a value halfway between two of float16
    assert np.abs(found.uncertainty[0] - entropy).mean() < 1e-5
    assert 0 < found.uncertainty[1].max() <= 1


def test_the_nearest_voxel_on_the_way_back_is_scipys():
    """Ties included: map_coordinates at the ratio of the sizes, as in nnU-Net."""
    for n_in in range(1, 40):
        for n_out in range(1, 40):
            places = n_in / n_out * (np.arange(n_out) + 0.5) - 0.5
            expected = ndimage.map_coordinates(np.arange(float(n_in)), [places], order=0, mode="nearest")
            np.testing.assert_array_equal(Taps.between(n_in, n_out, True).lower.numpy(), expected)
