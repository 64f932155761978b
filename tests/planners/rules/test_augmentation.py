"""Rotation by the patch's shape."""

import pytest

from unetrpp.planners.rules.augmentation import plan_augmentation


@pytest.mark.parametrize(
    ("patch", "degrees", "in_plane", "why"),
    [
        ((96, 96, 288), (30.0, 30.0, 30.0), False, "3 times the first (288 against 96 voxels; above 3, in plane only)"),
        (
            (96, 96, 289),
            (180.0, 0.0, 0.0),
            True,
            "3.01 times the first (289 against 96 voxels; above 3, in plane only)",
        ),
        (
            (256, 256),
            (180.0, 0.0, 0.0),
            True,
            "1 times the shortest (256 against 256 pixels; above 1.5, at most 15 degrees)",
        ),
        (
            (200, 320),
            (15.0, 0.0, 0.0),
            True,
            "1.6 times the shortest (320 against 200 pixels; above 1.5, at most 15 degrees)",
        ),
    ],
)
def test_anisotropic_patches_rotate_in_plane_only(patch, degrees, in_plane, why):
    plan, decision = plan_augmentation(patch)
    assert plan.rotation_degrees == degrees
    assert plan.in_plane_only is in_plane
    assert decision.value.startswith(f"up to {max(degrees):g} degrees")
    assert decision.why == f"the patch's longest edge is {why}"
