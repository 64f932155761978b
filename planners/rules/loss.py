"""The focal losses of ``--loss``: gamma by how rare the foreground is, a distance penalty by how thin structures are (ours)."""

import math
import statistics
from collections.abc import Sequence

from unetrpp.dataset.labels import LabelScheme
from unetrpp.planners.options import LossMode
from unetrpp.plans.fingerprint import ClassStatistics, Fingerprint, disc_radius
from unetrpp.plans.plans import Decision, LossPlan

DELTA = 0.6
GAMMAS = (0.1, 0.75)  # smallest and largest
GAMMA_PER_BIT = 0.1
FACES = 1.5  # the fingerprint's surface counts voxel faces, 1.5 times the area of a smooth surface
MOSTLY_BOUNDARY = 0.5  # share of a structure within a voxel of its surface
SCALES = (2.0, 10.0)  # smallest and largest tau, in voxels of the finest axis


def plan_focal_loss(
    voxel_bits: float,
    fingerprint: Fingerprint,
    labels: LabelScheme,
    spacing_mm: Sequence[float],
    *,
    batch_dice: bool,
    mode: LossMode = "auto",
) -> tuple[LossPlan, list[Decision]]:
    """The Unified Focal loss of a dataset (docs/focal_attention.md), and the decisions about it.

    Args:
        voxel_bits: bits that it takes to find the foreground at full resolution (planners/measure/occupancy.py).
        spacing_mm: of the training grid, one per axis of the patch.
        mode: a focal loss as asked for, with or without the distance penalty; or ``auto``: the share of the boundary decides.
    """
    gamma = min(max(GAMMA_PER_BIT * voxel_bits, GAMMAS[0]), GAMMAS[1])
    why = f"asked for with --loss {mode}; {GAMMA_PER_BIT} of gamma per bit, and {voxel_bits:.2f} bits to find the foreground "
    why += f"among the voxels{_bound(voxel_bits)}"
    decision = Decision(about="loss", value=f"Unified Focal, gamma {gamma:.2f}, delta {DELTA}", why=why)
    scales, penalty = _plan_penalty(fingerprint, labels, spacing_mm, mode)
    plan = LossPlan(
        name="unified_focal_distance" if scales else "unified_focal",
        batch_dice=batch_dice,
        gamma=round(gamma, 3),
        delta=DELTA,
        distance_scale_mm=scales,
    )
    return plan, [decision, penalty]


def _plan_penalty(
    fingerprint: Fingerprint, labels: LabelScheme, spacing_mm: Sequence[float], mode: LossMode
) -> tuple[tuple[float, ...], Decision]:
    """The scales of the distance penalty, none where it is off, and the decision about it."""
    share = boundary_share(fingerprint, labels, spacing_mm)
    by_rule = share >= MOSTLY_BOUNDARY
    on = by_rule if mode == "auto" else mode == "unified_focal_distance"
    scales = distance_scales(fingerprint, labels, min(spacing_mm)) if on else ()
    why = (
        ""
        if mode == "auto"
        else f"asked for with --loss {mode}; with --loss auto it would be {'on' if by_rule else 'off'}: "
    )
    why += f"the median structure has {share:.0%} of its volume within a voxel of its surface (on if at least {MOSTLY_BOUNDARY:.0%})"
    if on:
        low, high = (f"{scale * min(spacing_mm):.3g}" for scale in SCALES)
        why += f"; each distance is half the median radius of a class's components, within {low} to {high} mm"
    value = f"on, {', '.join(f'{s:.1f}' for s in scales)} mm" if on else "off"
    return scales, Decision(about="distance penalty", value=value, why=why)


def _bound(voxel_bits: float) -> str:
    """Which bound of gamma was taken, for the reason."""
    gamma = GAMMA_PER_BIT * voxel_bits
    if gamma < GAMMAS[0]:
        return f"; gamma is at least {GAMMAS[0]}"
    return f"; gamma is at most {GAMMAS[1]}" if gamma > GAMMAS[1] else ""


def boundary_share(fingerprint: Fingerprint, labels: LabelScheme, spacing_mm: Sequence[float]) -> float:
    """The share of a structure in a layer one voxel thick: surface / volume x voxel size, median over cases and classes."""
    voxel_mm = math.prod(spacing_mm) ** (1 / len(spacing_mm))
    ratios = [
        statistic.surface_to_volume_per_mm / FACES * voxel_mm
        for index in labels.foreground
        for statistic in _of_class(fingerprint, labels.names[index])
        if statistic.surface_to_volume_per_mm is not None
    ]
    return min(1.0, statistics.median(ratios)) if ratios else 0.0


def distance_scales(fingerprint: Fingerprint, labels: LabelScheme, finest_mm: float) -> tuple[float, ...]:
    """tau of every foreground class: half its median component radius, within 2 to 10 voxels; of a region, its largest."""
    taus = {index: _tau(_radii(fingerprint, labels.names[index]), finest_mm) for index in labels.foreground}
    return tuple(max(taus[member] for member in target.members if member) for target in labels.targets)


def _radii(fingerprint: Fingerprint, name: str) -> list[float]:
    """Of the components of a class, mm: of spheres of their volumes, in flat images of discs of their areas."""
    found = [
        (r, case.spacing_mm[0])
        for case in fingerprint.cases
        if name in case.classes
        for r in case.classes[name].component_radii_mm
    ]
    return [disc_radius(r, slice_mm) if fingerprint.flat else r for r, slice_mm in found]


def _tau(radii_mm: Sequence[float], finest_mm: float) -> float:
    half = statistics.median(radii_mm) / 2 if radii_mm else 0.0
    return round(min(max(half, SCALES[0] * finest_mm), SCALES[1] * finest_mm), 3)


def _of_class(fingerprint: Fingerprint, name: str) -> list[ClassStatistics]:
    return [case.classes[name] for case in fingerprint.cases if name in case.classes]
