"""The target grid: to which spacing to resample, which axis comes first, how large the median image is (rules 1-3)."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from unetrpp.core.text import counted, listed
from unetrpp.io.geometry import Axes, Spacing, reorder, resampled_shape
from unetrpp.planners.rules.wording import ANATOMICAL, AxisNames, lengths, order_of, span
from unetrpp.plans.fingerprint import CaseFingerprint, Fingerprint
from unetrpp.plans.plans import Decision

ANISOTROPIC = 3  # a coarse axis exceeds the others by this factor, in spacing and (inversely) in voxels
COARSE_PERCENTILE = 10
BIMODAL = 2  # two clusters of spacings further apart than this factor
COARSER = 1.03  # step of the search for a low-resolution spacing (rule 8)
NEARLY_ANISOTROPIC = 1.5  # from this factor on the reason compares the coarse axis with the limits
SMALLEST_CLUSTER = 0.1  # share of the cases below which a cluster is an outlier
FLAT = 2  # a median image with fewer voxels along an axis is two-dimensional
TIE = 1e-3  # spacings that differ by less than this share are equal: headers round them, to 1e-7 and worse


@dataclass(frozen=True)
class TargetGrid:
    """The grid that images are resampled to, in plan order: the coarsest axis first."""

    order: Axes  # canonical axes in plan order
    spacing: Spacing  # mm
    shape: tuple[float, float, float]  # voxels, median over the cases at that spacing
    cases: int
    names: AxisNames = ANATOMICAL  # of the canonical axes
    unit: str = "mm"  # of lengths: mm, or pixels (voxels) where the files give no size
    voxel_name: str = "voxels"  # what the images consist of: voxels, or pixels where all have one slice

    @property
    def flat(self) -> bool:
        return self.shape[0] < FLAT

    def name(self, plan_axis: int) -> str:
        """The name of a plan axis: z (head-feet), y (front-back), x (left-right)."""
        return self.names[self.order[plan_axis]]


class GridPlan(NamedTuple):
    grid: TargetGrid
    decisions: tuple[Decision, ...]
    warnings: tuple[str, ...]


def plan_target_grid(fingerprint: Fingerprint, asked: Spacing | None = None, names: AxisNames = ANATOMICAL) -> GridPlan:
    """The grid and its reasons.

    Args:
        asked: the user's spacing, canonical (z, y, x); mm, or voxels where the files give no size. Along the axis of flat
            images it has no effect, and a warning says so.
        names: of the canonical axes, for the reasons.
    """
    spacing, decision, warnings = target_spacing(fingerprint.cases, names)
    unit = fingerprint.length_unit
    if fingerprint.in_pixels:
        why = f"the files hold no physical size, so every {unit.removesuffix('s')} counts as one"
        decision = Decision(about=decision.about, value=lengths(spacing, unit), why=why)
    if asked is not None:
        why = f"asked for; the rule gives {lengths(spacing, unit)} ({decision.why})"
        spacing, ignored = _along_slices(asked, spacing, fingerprint, names)
        warnings += ignored
        decision = Decision(about=decision.about, value=f"{lengths(spacing, unit)} (z, y, x)", why=why)
    shape = median_resampled_shape(fingerprint.cases, spacing)
    # A flat axis comes first whatever its nominal spacing: slices are taken along it.
    order = plan_order([math.inf if n < FLAT else mm for n, mm in zip(shape, spacing, strict=True)])
    grid = TargetGrid(
        order=order,
        spacing=reorder(spacing, order),
        shape=reorder(shape, order),
        cases=len(fingerprint.cases),
        names=names,
        unit=unit,
        voxel_name=fingerprint.voxel_name,
    )
    return GridPlan(grid, (decision, _order_decision(grid)), warnings)


def _along_slices(
    asked: Spacing, measured: Spacing, fingerprint: Fingerprint, names: AxisNames
) -> tuple[Spacing, tuple[str, ...]]:
    """The asked spacing, except along an axis where the images are flat: a single slice is not resampled."""
    flat = np.median([case.cropped_shape for case in fingerprint.cases], axis=0) < FLAT
    z, y, x = (old if one else new for old, new, one in zip(measured, asked, flat, strict=True))
    unit = fingerprint.length_unit
    ignored = [
        f"--spacing {new:g} along {names[axis]} has no effect: the images have one slice, which keeps its {old:.4g} {unit}"
        for axis, (old, new) in enumerate(zip(measured, asked, strict=True))
        if flat[axis] and not _equal(old, new)
    ]
    return (z, y, x), tuple(ignored)


def _order_decision(grid: TargetGrid) -> Decision:
    why = f"{_coarsest(grid)}; slices are taken along the first axis"
    return Decision(about="axis order", value=order_of(grid.order), why=why)


def _coarsest(grid: TargetGrid) -> str:
    """Why the first plan axis is the first."""
    first, *others = grid.spacing
    if grid.flat:
        return f"{grid.name(0)} is flat ({counted(grid.shape[0], grid.voxel_name.removesuffix('s'))})"
    tied = [grid.name(0), *(grid.name(axis) for axis in (1, 2) if _equal(grid.spacing[axis], first))]
    if len(tied) == 3:
        size = span(min(grid.spacing), max(grid.spacing))
        each = f"{size} {grid.unit.removesuffix('s') if size == '1' else grid.unit}"
        return f"a tie: all axes have {each} (within {TIE:.1%}), so they keep their order"
    if len(tied) == 2:
        return f"a tie: {listed(tied)} are equally coarse ({first:.4g} {grid.unit}, within {TIE:.1%}), so they keep their order"
    finer = " and ".join(dict.fromkeys(f"{mm:.4g}" for mm in others))
    return f"{tied[0]} is the coarsest, {first:.4g} {grid.unit} against {finer} {grid.unit}"


class TargetSpacing(NamedTuple):
    """mm per axis in the canonical frame, and why."""

    spacing: Spacing
    decision: Decision
    warnings: tuple[str, ...]


def target_spacing(cases: Sequence[CaseFingerprint], names: AxisNames = ANATOMICAL) -> TargetSpacing:
    """The median spacing, except along an axis of several slices that is much coarser in the median: its 10th percentile (rule 1).

    Where the spacings of an axis fall into two clusters, the median of the larger one is used.
    """
    spacings = np.array([c.spacing_mm for c in cases])
    shapes = np.array([c.cropped_shape for c in cases])
    used, warnings = _main_cluster(spacings, names)
    median, shape = np.median(spacings[used], axis=0), np.median(shapes, axis=0)
    target, axis = median.copy(), int(np.argmax(median))
    why = _median_of(spacings, used)
    if shape[axis] < FLAT:
        why += f"; the images have one slice along {names[axis]}, which keeps its median"
    elif _is_coarse(median, shape, axis):
        target[axis], taken = _coarse_spacing(median, spacings[used, axis], axis)
        why += f"; {names[axis]} is {_compared(median, shape, axis)}, so {taken}"
    elif (median[axis] > NEARLY_ANISOTROPIC * np.delete(median, axis)).all():
        why += f"; {names[axis]} is {_compared(median, shape, axis)}, so it keeps its median"
    z, y, x = (float(v) for v in target)
    decision = Decision(about="target spacing", value=f"{_list((z, y, x))} mm (z, y, x)", why=why)
    return TargetSpacing((z, y, x), decision, warnings)


def _median_of(spacings: np.ndarray, used: np.ndarray) -> str:
    every = " x ".join(span(low, high) for low, high in zip(spacings.min(axis=0), spacings.max(axis=0), strict=True))
    if len(spacings) == 1:
        return "the spacing of the only case"
    some = f"{used.sum()} of {len(used)} cases" if not used.all() else f"{len(used)} cases"
    return f"median of {some} per axis; " + (f"the cases span {every} mm" if "-" in every else f"all have {every} mm")


def _compared(spacing: np.ndarray, shape: np.ndarray, axis: int) -> str:
    """A coarse axis against the other two, with the limits of rule 1."""
    coarser, voxels = np.delete(spacing, axis).max(), np.delete(shape, axis).min()
    fewer = voxels / shape[axis]
    return (
        f"{spacing[axis] / coarser:.3g} times coarser than the next axis and, with {shape[axis]:g} voxels against {voxels:g}, "
        f"{fewer:.3g} times shorter (limit {ANISOTROPIC} for both)"
    )


def _coarse_spacing(target: np.ndarray, spacings: np.ndarray, axis: int) -> tuple[float, str]:
    """The 10th percentile of the coarse axis's ``spacings``, not below the other axes, and that in words."""
    percentile, finest = float(np.percentile(spacings, COARSE_PERCENTILE)), float(np.delete(target, axis).max())
    tenth = f"its {COARSE_PERCENTILE}th percentile"
    if percentile < finest:
        return finest, f"the next axis's {finest:.4g} mm is the floor, because {tenth}, {percentile:.4g} mm, is finer"
    if _equal(percentile, float(target[axis])):
        return percentile, f"{tenth} is taken, which is the median ({percentile:.4g} mm)"
    return percentile, f"{tenth}, {percentile:.4g} mm, is taken instead of {target[axis]:.4g}"


def _equal(a: float, b: float) -> bool:
    return abs(a - b) <= TIE * max(a, b)


def _is_coarse(spacing: np.ndarray, shape: np.ndarray, axis: int) -> bool:
    others, fewer = np.delete(spacing, axis), np.delete(shape, axis)
    coarser = (spacing[axis] > ANISOTROPIC * (1 + TIE) * others).all()
    return bool(coarser and (shape[axis] * ANISOTROPIC < fewer).all())


def _main_cluster(spacings: np.ndarray, names: AxisNames) -> tuple[np.ndarray, tuple[str, ...]]:
    """Cases (bool) of the larger cluster where an axis has two, and a warning for every such axis."""
    used = np.ones(len(spacings), bool)
    warnings = []
    for axis, values in enumerate(spacings.T):
        ordered = np.sort(values)
        ratios = ordered[1:] / ordered[:-1]
        if not len(ratios) or ratios.max() <= BIMODAL * (1 + TIE):
            continue
        split = int(np.argmax(ratios)) + 1
        below, above = ordered[:split], ordered[split:]
        if min(len(below), len(above)) < max(2, SMALLEST_CLUSTER * len(values)):
            continue
        larger = below if len(below) >= len(above) else above
        used &= (values >= larger[0]) & (values <= larger[-1])
        warnings.append(
            f"the spacing along {names[axis]} has two clusters, {len(below)} cases at {span(below[0], below[-1])} mm and "
            f"{len(above)} at {span(above[0], above[-1])} mm; the plans follow {_chosen(below, above)} (--spacing overrides)"
        )
    return (used, tuple(warnings)) if used.any() else (np.ones(len(spacings), bool), tuple(warnings))


def _chosen(below: np.ndarray, above: np.ndarray) -> str:
    return "the finer one, because they are equally large" if len(below) == len(above) else "the larger one"


def plan_order(spacing: Sequence[float]) -> tuple[int, int, int]:
    """Canonical axes in plan order: the coarsest first, the earliest of equal ones, the others as they were (rule 2).

    >>> plan_order((1.0, 1.0, 3.0)), plan_order((1.0, 1.0, 1.0000001))
    ((2, 0, 1), (0, 1, 2))
    """
    coarsest = next(axis for axis, mm in enumerate(spacing) if mm >= max(spacing) * (1 - TIE))
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
    fine = [max(spacing) / mm > 2 * (1 + TIE) for mm in spacing]
    grow = fine if any(fine) else [True] * 3
    z, y, x = (mm * COARSER if g else mm for mm, g in zip(spacing, grow, strict=True))
    return z, y, x


def _list(values: Sequence[float]) -> str:
    return ", ".join(f"{v:.4g}" for v in values)
