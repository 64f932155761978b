"""The target grid: to which spacing to resample, which axis comes first, how large the median image is (rules 1-3)."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from unetrpp.core.text import format_mm
from unetrpp.io.geometry import Axes, Spacing, reorder, resampled_shape
from unetrpp.plans.fingerprint import CaseFingerprint, Fingerprint
from unetrpp.plans.plans import Decision

ANISOTROPIC = 3  # a coarse axis exceeds the others by this factor, in spacing and (inversely) in voxels
COARSE_PERCENTILE = 10
BIMODAL = 2  # two clusters of spacings further apart than this factor
COARSER = 1.03  # step of the search for a low-resolution spacing (rule 8)
SMALLEST_CLUSTER = 0.1  # share of the cases below which a cluster is an outlier
FLAT = 2  # a median image with fewer voxels along an axis is two-dimensional


@dataclass(frozen=True)
class TargetGrid:
    """The grid that images are resampled to, in plan order: the coarsest axis first."""

    order: Axes  # canonical axes in plan order
    spacing: Spacing  # mm
    shape: tuple[float, float, float]  # voxels, median over the cases at that spacing
    cases: int

    @property
    def flat(self) -> bool:
        return self.shape[0] < FLAT


class GridPlan(NamedTuple):
    grid: TargetGrid
    decisions: tuple[Decision, ...]
    warnings: tuple[str, ...]


def plan_target_grid(fingerprint: Fingerprint, asked: Spacing | None = None) -> GridPlan:
    """``asked``: the user's spacing in mm, canonical (z, y, x)."""
    spacing, decision, warnings = target_spacing(fingerprint.cases)
    if asked is not None:
        why = f"asked for; the rule gives {format_mm(spacing)} ({decision.why})"
        spacing = asked
        decision = Decision(about=decision.about, value=f"{format_mm(spacing)} (z, y, x)", why=why)
    shape = median_resampled_shape(fingerprint.cases, spacing)
    # A flat axis comes first whatever its nominal spacing: slices are taken along it.
    order = plan_order([math.inf if n < FLAT else mm for n, mm in zip(shape, spacing, strict=True)])
    grid = TargetGrid(order, reorder(spacing, order), reorder(shape, order), len(fingerprint.cases))
    return GridPlan(grid, (decision, _order_decision(grid)), warnings)


def _order_decision(grid: TargetGrid) -> Decision:
    equal = len(set(grid.spacing)) == 1 and not grid.flat
    reason = f"{'zyx'[grid.order[0]]} is {'flat' if grid.flat else 'the coarsest'}"
    why = f"{'all axes are equally fine' if equal else reason}; slices are taken along the first axis"
    return Decision(about="axis order", value=", ".join("zyx"[axis] for axis in grid.order), why=why)


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
    """Cases (bool) of the larger cluster where an axis has two, and a warning for every such axis."""
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
    """Canonical axes in plan order: the coarsest first, the others as they were (rule 2).

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
    """The next spacing (mm) in the search for a low resolution (rule 8): axes finer than half the coarsest first.

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
