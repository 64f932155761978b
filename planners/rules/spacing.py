"""Which spacing to resample to, which axis comes first and how large the median image then is: nnU-Net v2's rules 1-3."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from unetrpp.io.geometry import resampled_shape
from unetrpp.plans.fingerprint import CaseFingerprint
from unetrpp.plans.plans import Decision

ANISOTROPIC = 3  # a coarse axis exceeds the others by this factor, in spacing and (inversely) in voxels
COARSE_PERCENTILE = 10
BIMODAL = 2  # two clusters of spacings further apart than this factor
COARSER = 1.03  # step of the search for a low-resolution spacing (rule 8)
SMALLEST_CLUSTER = 0.1  # share of the cases below which a cluster is an outlier

Spacing = tuple[float, float, float]


class TargetSpacing(NamedTuple):
    """mm per axis in the canonical frame, and why."""

    spacing: Spacing
    decision: Decision
    warnings: tuple[str, ...]


def target_spacing(cases: Sequence[CaseFingerprint]) -> TargetSpacing:
    """The median spacing, except along an axis that is much coarser in the median: its 10th percentile (rule 1).

    Where the spacings of an axis fall into two clusters, the median of the larger one is used.
    """
    spacings = np.array([c.spacing_mm for c in cases])
    shapes = np.array([c.cropped_shape for c in cases])
    used, warnings = _main_cluster(spacings)
    target = np.median(spacings[used], axis=0)
    why = f"median of {used.sum()} cases per axis; the cases span {_span(spacings)} mm"
    coarse = _coarse_axis(target, np.median(shapes, axis=0))
    if coarse is not None:
        median = target[coarse]
        finest_allowed = np.delete(target, coarse).max()
        target[coarse] = max(np.percentile(spacings[used, coarse], COARSE_PERCENTILE), finest_allowed)
        why += (
            f"; axis {'zyx'[coarse]} is more than {ANISOTROPIC} times coarser and shorter than the others, "
            f"so its {COARSE_PERCENTILE}th percentile is taken instead of {median:.4g}"
        )
    z, y, x = (float(v) for v in target)
    decision = Decision(about="target spacing", value=f"{_list((z, y, x))} mm (z, y, x)", why=why)
    return TargetSpacing((z, y, x), decision, warnings)


def _coarse_axis(spacing: np.ndarray, shape: np.ndarray) -> int | None:
    axis = int(np.argmax(spacing))
    others = np.delete(spacing, axis)
    fewer = np.delete(shape, axis)
    coarse = (spacing[axis] > ANISOTROPIC * others).all() and (shape[axis] * ANISOTROPIC < fewer).all()
    return axis if coarse else None


def _main_cluster(spacings: np.ndarray) -> tuple[np.ndarray, tuple[str, ...]]:
    """Cases (bool) of the larger cluster where an axis has two, and what to say about it."""
    used = np.ones(len(spacings), bool)
    warnings = []
    for axis, values in enumerate(spacings.T):
        ordered = np.sort(values)
        ratios = ordered[1:] / ordered[:-1]
        if not len(ratios) or ratios.max() <= BIMODAL:
            continue
        split = int(np.argmax(ratios)) + 1
        below, above = ordered[:split], ordered[split:]
        if min(len(below), len(above)) < max(2, SMALLEST_CLUSTER * len(values)):
            continue
        larger = below if len(below) >= len(above) else above
        used &= (values >= larger[0]) & (values <= larger[-1])
        warnings.append(
            f"the spacing along {'zyx'[axis]} has two clusters, {len(below)} cases at {below[0]:.3g}-{below[-1]:.3g} mm and "
            f"{len(above)} at {above[0]:.3g}-{above[-1]:.3g} mm; the plans follow the larger one (--spacing overrides)"
        )
    return (used, tuple(warnings)) if used.any() else (np.ones(len(spacings), bool), tuple(warnings))


def plan_order(spacing: Sequence[float]) -> tuple[int, int, int]:
    """The coarsest axis goes first; the others keep their order (rule 2).

    >>> plan_order((1.0, 1.0, 3.0)), plan_order((1.0, 1.0, 1.0))
    ((2, 0, 1), (0, 1, 2))
    """
    coarsest = int(np.argmax(spacing))
    first, second = (axis for axis in range(3) if axis != coarsest)
    return coarsest, first, second


def median_resampled_shape(cases: Sequence[CaseFingerprint], spacing: Sequence[float]) -> tuple[float, float, float]:
    """Median over the cases of their shapes at ``spacing`` mm, canonical frame (rule 3)."""
    shapes = [resampled_shape(c.cropped_shape, c.spacing_mm, tuple(spacing)) for c in cases]
    z, y, x = (float(v) for v in np.median(shapes, axis=0))
    return z, y, x


def coarser(spacing: Spacing) -> Spacing:
    """The next spacing (mm) on the way to a low-resolution configuration: axes finer than half the coarsest first.

    >>> coarser((4.0, 1.0, 1.0))
    (4.0, 1.03, 1.03)
    """
    fine = [max(spacing) / mm > 2 for mm in spacing]
    grow = fine if any(fine) else [True] * 3
    z, y, x = (mm * COARSER if g else mm for mm, g in zip(spacing, grow, strict=True))
    return z, y, x


def _span(spacings: np.ndarray) -> str:
    return " x ".join(
        f"{low:.4g}-{high:.4g}" for low, high in zip(spacings.min(axis=0), spacings.max(axis=0), strict=True)
    )


def _list(values: Sequence[float]) -> str:
    return ", ".join(f"{v:.4g}" for v in values)
