"""The loss chosen from the fingerprint of balls whose surface and radius are known."""

import math

import msgspec
import pytest

from unetrpp.dataset.labels import LabelScheme, Region
from unetrpp.planners.rules.loss import boundary_share, distance_scales, plan_focal_loss
from unetrpp.plans.fingerprint import CaseFingerprint, ClassStatistics, Fingerprint

ONE = LabelScheme(names=("background", "ball"), values=(0, 1))
TWO = LabelScheme(names=("background", "ball", "other"), values=(0, 1, 2))


def balls(radius_mm, count=1):
    volume = 4 / 3 * math.pi * radius_mm**3
    return ClassStatistics(
        voxels=int(count * volume),
        volume_mm3=count * volume,
        components=count,
        component_radii_mm=(radius_mm,) * count,
        surface_to_volume_per_mm=1.5 * 3 / radius_mm,  # by voxel faces
        smallest_extent_voxels=(1, 1, 1),
        center_lps_mm=(0, 0, 0),
    )


ABSENT = ClassStatistics(
    voxels=0,
    volume_mm3=0,
    components=0,
    component_radii_mm=(),
    surface_to_volume_per_mm=None,
    smallest_extent_voxels=None,
    center_lps_mm=None,
)


def fingerprint(*cases):
    return Fingerprint(
        dataset="balls",
        cases=tuple(
            CaseFingerprint(
                case=str(i),
                shape=(64, 64, 64),
                spacing_mm=(1, 1, 1),
                cropped_shape=(64, 64, 64),
                coarse_axis_in_file=0,
                classes=classes,
                inputs_digest="",
            )
            for i, classes in enumerate(cases)
        ),
        intensities=(),
        median_relative_size_after_crop=1,
        median_spacing_mm=(1, 1, 1),
        median_shape=(64, 64, 64),
    )


@pytest.mark.parametrize(("bits", "gamma"), [(0.2, 0.1), (3.0, 0.3), (12.0, 0.75)])
def test_gamma_grows_with_rarity_within_bounds(bits, gamma):
    plan, decisions = plan_focal_loss(bits, fingerprint({"ball": balls(20)}), ONE, (1, 1, 1), batch_dice=True)
    assert plan.gamma == pytest.approx(gamma)
    assert plan.delta == 0.6
    assert plan.batch_dice
    assert f"{bits:.2f} bits" in decisions[0].why


def test_large_balls_need_no_distance_penalty_and_small_ones_do():
    assert (
        plan_focal_loss(3, fingerprint({"ball": balls(20)}), ONE, (1, 1, 1), batch_dice=False)[0].name
        == "unified_focal"
    )
    plan, decisions = plan_focal_loss(3, fingerprint({"ball": balls(5)}), ONE, (1, 1, 1), batch_dice=False)
    assert plan.name == "unified_focal_distance"
    assert plan.distance_scale_mm == (2.5,)
    assert decisions[1].value == "on, 2.5 mm"


@pytest.mark.parametrize(("radius", "by_rule"), [(20, "off"), (5, "on")])
def test_a_penalty_that_was_asked_for_is_on_whatever_the_rule_says(radius, by_rule):
    found = fingerprint({"ball": balls(radius)})
    rule, _ = plan_focal_loss(3, found, ONE, (1, 1, 1), batch_dice=False)
    near, (loss, penalty) = plan_focal_loss(3, found, ONE, (1, 1, 1), batch_dice=False, mode="unified_focal_distance")
    assert (near.name, near.gamma, near.distance_scale_mm) == ("unified_focal_distance", rule.gamma, (radius / 2,))
    assert f"with --loss auto it would be {by_rule}: the median structure has" in penalty.why
    assert penalty.value == f"on, {radius / 2} mm"
    plain, (_, penalty) = plan_focal_loss(3, found, ONE, (1, 1, 1), batch_dice=False, mode="unified_focal")
    assert (plain.name, plain.gamma, plain.distance_scale_mm) == ("unified_focal", rule.gamma, ())
    assert penalty.value == "off"
    assert "asked for with --loss unified_focal;" in penalty.why
    assert "asked for with --loss unified_focal_distance; 0.1 of gamma per bit" in loss.why


def test_the_share_of_the_boundary_is_in_voxels():
    ball = fingerprint({"ball": balls(6)})
    assert boundary_share(ball, ONE, (1, 1, 1)) == pytest.approx(0.5)
    assert boundary_share(ball, ONE, (4, 0.5, 0.5)) == pytest.approx(0.5)  # voxels of the same volume
    assert boundary_share(ball, ONE, (2, 2, 2)) == 1


@pytest.mark.parametrize(("radius", "tau"), [(1, 2), (8, 4), (100, 10)])
def test_tau_is_half_the_radius_within_two_and_ten_voxels(radius, tau):
    assert distance_scales(fingerprint({"ball": balls(radius)}), ONE, 1.0) == (tau,)


def test_tau_is_a_median_over_components_and_absent_classes_do_not_break_it():
    found = fingerprint({"ball": balls(6, 3), "other": ABSENT}, {"ball": balls(10, 2), "other": ABSENT})
    assert distance_scales(found, TWO, 1.0) == (3, 2)
    assert boundary_share(found, TWO, (1, 1, 1)) == pytest.approx(0.4)


def test_a_region_takes_the_scale_of_its_largest_member():
    regions = (Region(name="all", members=(1, 2), value=1), Region(name="core", members=(2,), value=2))
    labels = LabelScheme(names=TWO.names, values=TWO.values, regions=regions)
    assert distance_scales(fingerprint({"ball": balls(16), "other": balls(6)}), labels, 1.0) == (8, 3)


def test_in_flat_images_a_component_is_a_disc():
    """Of radius 20, in a slice 3 mm thick: a ball of its volume would have a radius of 9.7."""
    slices = fingerprint({"ball": balls((3 / 4 * 3 * 20**2) ** (1 / 3))})
    case = msgspec.structs.replace(
        slices.cases[0], shape=(1, 64, 64), cropped_shape=(1, 64, 64), spacing_mm=(3.0, 1.0, 1.0)
    )
    flat = msgspec.structs.replace(slices, cases=(case,), median_shape=(1, 64, 64))
    assert flat.flat
    assert distance_scales(flat, ONE, 1.0) == (10,)
    assert distance_scales(slices, ONE, 1.0)[0] == pytest.approx(4.8, abs=0.1)
