"""Patch and strides against nnU-Net 2.8.1's own plans (one channel, four labels, 50 cases, 8 GB)."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from unetrpp.planners.planner import UNetPlanner
from unetrpp.planners.rules.patch_and_batch import fit_by_proxy
from unetrpp.planners.rules.topology import candidates, initial_patch, padded, pool

TWO, PLANE = (2, 2, 2), (1, 2, 2)
ROWS = [
    ((300, 512, 512), (1, 0.8, 0.8), (96, 160, 160), [TWO] * 4 + [PLANE]),
    ((138, 169, 138), (1, 1, 1), (128, 128, 128), [TWO] * 5),
    ((18, 237, 208), (5, 1.56, 1.56), (20, 256, 224), [PLANE, TWO, TWO, PLANE, PLANE]),
    ((24, 512, 512), (10, 0.7, 0.7), (16, 320, 320), [PLANE] * 3 + [TWO] * 2 + [PLANE]),
    ((36, 50, 35), (1, 1, 1), (40, 56, 40), [TWO] * 3),
    ((3, 512, 512), (8, 0.5, 0.5), (3, 512, 512), [PLANE] * 7),
    ((1154, 512, 512), (0.44, 0.48, 0.48), (224, 112, 96), [TWO] * 4 + [(2, 1, 1)]),
    ((96, 165, 164.5), (2.5, 0.887, 0.887), (80, 160, 160), [PLANE] + [TWO] * 4),
]


@pytest.mark.parametrize(("median", "spacing", "patch", "strides"), ROWS)
def test_plans_of_nnunet(median, spacing, patch, strides):
    planner = UNetPlanner()
    topology = planner.fit(planner.topologies(spacing, median), 1, 4).topology
    assert topology.patch == patch
    assert list(topology.strides) == strides


def test_kernels_follow_the_spacing():
    topology = pool((16, 320, 320), (10, 0.7, 0.7))
    # 10 mm stays more than twice the in-plane spacing for three halvings: 0.7, 1.4, 2.8, then 5.6.
    assert topology.kernels == ((1, 3, 3),) * 3 + ((3, 3, 3),) * 4


def test_first_patch_has_the_volume_of_256_cubed():
    z, y, x = initial_patch((4, 1, 1), (9999, 9999, 9999))
    assert abs(z * y * x / 256**3 - 1) < 0.01
    assert abs(z * 4 / y - 1) < 0.02
    assert y == x


shapes = st.tuples(st.integers(1, 600), st.integers(8, 600), st.integers(8, 600))
spacings = st.tuples(st.floats(0.3, 10), st.floats(0.3, 3), st.floats(0.3, 3))


@settings(max_examples=40, deadline=None)
@given(shapes, spacings)
def test_ours_stays_within_the_padded_median_and_divides(median, spacing):
    topologies = list(candidates(spacing, median, clip=True))
    fit = fit_by_proxy(topologies, 4, gpu_memory_gb=8.0)
    for topology in topologies:
        divisors = topology.divisors
        assert all(n % d == 0 for n, d in zip(topology.patch, divisors, strict=True))
        assert all(n <= m for n, m in zip(topology.patch, padded(median, divisors), strict=True))
    assert fit.topology in topologies


def test_two_dimensions():
    topology = pool((512, 320), (0.5, 0.5))
    assert topology.strides == ((2, 2),) * 6  # 8 x 5 remain: a lone axis of 8 is not halved
    assert topology.patch == (512, 320)
