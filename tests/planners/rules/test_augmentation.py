"""Rotation by the patch's shape."""

import pytest

from unetrpp.planners.rules.augmentation import plan_augmentation


@pytest.mark.parametrize(
    ("patch", "degrees", "in_plane", "why"),
    [
        ((96, 96, 288), (30.0, 30.0, 30.0), False, "288 voxels, is 3 times its first, 96"),
        ((96, 96, 289), (180.0, 0.0, 0.0), True, "289 voxels, is 3.01 times its first, 96"),
        ((256, 256), (180.0, 0.0, 0.0), True, "256 pixels, is 1 times its shortest, 256"),
        ((200, 320), (15.0, 0.0, 0.0), True, "320 pixels, is 1.6 times its shortest, 200"),
    ],
)
def test_anisotropic_patches_rotate_in_plane_only(patch, degrees, in_plane, why):
    plan, decision = plan_augmentation(patch)
    assert plan.rotation_degrees == degrees
    assert plan.in_plane_only is in_plane
    assert decision.value.startswith(f"up to {max(degrees):g} degrees")
    limit = "1.5 times only 15 degrees" if len(patch) == 2 else "3 times in plane only"
    assert decision.why == f"the patch's longest edge, {why} (from more than {limit})"
