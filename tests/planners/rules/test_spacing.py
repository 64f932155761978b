"""Target spacing, axis order and median shape on cases whose answer is known."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.helpers.fingerprints import case_fingerprint, fingerprint
from unetrpp.planners.rules.spacing import coarser, median_resampled_shape, plan_order, plan_target_grid, target_spacing
from unetrpp.planners.rules.topology import candidates


def test_isotropic_data_takes_the_median():
    cases = [case_fingerprint(spacing=(s, 1.0, 1.0)) for s in (1.0, 1.2, 1.1)]
    assert target_spacing(cases).spacing == (1.1, 1.0, 1.0)


def test_a_coarse_axis_takes_its_10th_percentile():
    spacings = np.linspace(4, 6, 11)
    cases = [case_fingerprint(shape=(20, 300, 300), spacing=(s, 1.0, 1.0)) for s in spacings]
    target = target_spacing(cases)
    assert target.spacing[0] == pytest.approx(4.2)
    assert "10th percentile" in target.decision.why


def test_a_coarse_axis_is_never_planned_finer_than_the_others():
    spacings = [0.5] * 3 + [3.2] * 5 + [5.0] * 5
    cases = [case_fingerprint(shape=(20, 300, 300), spacing=(s, 1.0, 1.0)) for s in spacings]
    assert target_spacing(cases).spacing[0] >= 1.0


def test_a_coarse_axis_with_many_voxels_stays_at_the_median():
    cases = [case_fingerprint(shape=(150, 300, 300), spacing=(s, 1.0, 1.0)) for s in (4.0, 5.0, 6.0)]
    assert target_spacing(cases).spacing == (5.0, 1.0, 1.0)


def test_of_two_clusters_the_larger_one_is_used_with_a_warning():
    cases = [case_fingerprint(spacing=(s, 1.0, 1.0)) for s in [1.0, 1.1, 1.2, 5.0, 5.0]]
    target = target_spacing(cases)
    assert target.spacing[0] == pytest.approx(1.1)
    assert "two clusters, 3 cases" in target.warnings[0]


def test_one_outlier_is_no_cluster():
    cases = [case_fingerprint(spacing=(s, 1.0, 1.0)) for s in [1.0] * 9 + [5.0]]
    assert target_spacing(cases).warnings == ()


def test_the_coarsest_axis_goes_first():
    assert plan_order((1.0, 3.0, 1.0)) == (1, 0, 2)


def test_median_shape_is_taken_after_resampling():
    cases = [case_fingerprint(shape=(10 * n, 20, 20), spacing=(s, 1.0, 1.0)) for n, s in [(1, 4.0), (2, 1.0), (3, 1.0)]]
    assert median_resampled_shape(cases, (1.0, 1.0, 1.0)) == (30.0, 20.0, 20.0)


def test_the_grid_is_in_plan_order_and_has_the_requested_spacing():
    measured = fingerprint([case_fingerprint(shape=(200, 20, 180), spacing=(1.0, 5.0, 1.0))] * 3)
    grid, (spacing, order), _ = plan_target_grid(measured)
    assert (grid.order, grid.spacing, grid.shape, grid.cases) == ((1, 0, 2), (5.0, 1.0, 1.0), (20, 200, 180), 3)
    assert (spacing.value, order.value) == ("1, 5, 1 mm (z, y, x)", "y, z, x")
    asked = plan_target_grid(measured, (2.0, 5.0, 10.0))
    assert (asked.grid.order, asked.grid.shape) == ((2, 0, 1), (18, 100, 20))
    assert asked.decisions[0].why.startswith("asked for; the rule gives 1 x 5 x 1 mm")


@pytest.mark.parametrize("shape", [(1, 256, 300), (256, 1, 300)])
def test_a_spacing_along_single_slices_has_no_effect_and_that_is_said(shape):
    flat = shape.index(1)
    measured = fingerprint([case_fingerprint(shape=shape, spacing=(4.0, 4.0, 4.0))] * 3)
    asked = (0.5, 0.5, 0.5)
    grid, (spacing, _), warnings = plan_target_grid(measured, asked)
    assert (grid.order[0], grid.spacing, grid.shape[0]) == (flat, (4.0, 0.5, 0.5), 1)
    assert spacing.value.count("0.5") == 2
    (warning,) = warnings
    name = ("z (head-feet)", "y (front-back)")[flat]
    assert warning == f"--spacing 0.5 along {name} has no effect: the images have one slice, which keeps its 4 mm"
    kept = (4.0, 0.5, 0.5) if flat == 0 else (0.5, 4.0, 0.5)
    assert plan_target_grid(measured, kept).warnings == ()


def test_a_flat_image_is_flat_whatever_its_spacing():
    grid = plan_target_grid(fingerprint([case_fingerprint(shape=(256, 300, 1), spacing=(2.0, 1.0, 1.0))])).grid
    assert grid.flat
    assert grid.order == (2, 0, 1)


EDGES = st.sampled_from([0.5, 1.0, 1.5, 2.0, 3.0, 4.5, 6.0, 9.0])


@settings(max_examples=60, deadline=None)
@given(st.tuples(EDGES, EDGES, EDGES), st.sampled_from([(40, 150, 200), (96, 96, 96)]), st.integers(0, 999))
def test_the_rounding_of_headers_decides_nothing(spacing, shape, seed):
    """Spacings with the ratios at which rules change their mind: 1, 2 and 3."""
    random = np.random.default_rng(seed)
    rounded = [tuple(mm * (1 + 1e-7 * random.uniform(-1, 1)) for mm in spacing) for _ in range(5)]
    exact, other = (
        plan_target_grid(fingerprint([case_fingerprint(shape=shape, spacing=mm) for mm in each])).grid
        for each in ([spacing] * 5, rounded)
    )
    assert (other.order, other.shape) == (exact.order, exact.shape)
    assert other.spacing == pytest.approx(exact.spacing)
    first, second = (list(candidates(grid.spacing, grid.shape, True)) for grid in (exact, other))
    assert [(t.patch, t.strides, t.kernels) for t in first] == [(t.patch, t.strides, t.kernels) for t in second]
    assert coarser(other.spacing) == pytest.approx(coarser(exact.spacing))


def test_single_slices_of_varying_thickness_stay_single():
    cases = [case_fingerprint(shape=(1, 256, 256), spacing=(s, 1.4, 1.4)) for s in [5.0] * 4 + [8.0] * 16]
    grid, (spacing, _), _ = plan_target_grid(fingerprint(cases))
    assert grid.flat
    assert grid.spacing == (8.0, 1.4, 1.4)
    assert "one slice along z (head-feet), which keeps its median" in spacing.why
