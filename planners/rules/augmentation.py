"""How far patches are rotated in augmentation, by the patch's shape: nnU-Net v2's rule 11."""

from collections.abc import Sequence

from unetrpp.plans.plans import AugmentationPlan, Decision

ANISOTROPIC = 3  # a 3D patch this much longer than its first axis is augmented in plane only
ELONGATED = 1.5  # a 2D patch more elongated than this is hardly rotated


def plan_augmentation(patch: Sequence[int]) -> tuple[AugmentationPlan, Decision]:
    """
    >>> [plan_augmentation(patch)[0].rotation_degrees for patch in [(16, 320, 320), (128, 128, 128)]]
    [(180.0, 0.0, 0.0), (30.0, 30.0, 30.0)]
    """
    plan = _rotation(patch)
    flat = len(patch) == 2
    ratio = max(patch) / (min(patch) if flat else patch[0])
    where = "in plane only" if plan.in_plane_only else "about all axes"
    value = f"up to {max(plan.rotation_degrees):g} degrees, {where}"
    unit, edge = ("pixels", "shortest") if flat else ("voxels", "first")
    limit = f"above {ELONGATED:g}, at most 15 degrees" if flat else f"above {ANISOTROPIC}, in plane only"
    edges = f"{max(patch)} against {min(patch) if flat else patch[0]} {unit}"
    why = f"the patch's longest edge is {ratio:.3g} times the {edge} ({edges}; {limit})"
    return plan, Decision(about="rotation", value=value, why=why)


def _rotation(patch: Sequence[int]) -> AugmentationPlan:
    if len(patch) == 2:
        angle = 15.0 if max(patch) > ELONGATED * min(patch) else 180.0
        return AugmentationPlan(rotation_degrees=(angle, 0.0, 0.0), in_plane_only=True)
    if max(patch) > ANISOTROPIC * patch[0]:
        return AugmentationPlan(rotation_degrees=(180.0, 0.0, 0.0), in_plane_only=True)
    return AugmentationPlan(rotation_degrees=(30.0, 30.0, 30.0))
