"""Warnings about data and plans: structures that vanish or fit no patch, rare classes, mixed acquisition planes."""

from collections import Counter
from collections.abc import Iterator, Sequence

import numpy as np

from unetrpp.planners.rules.spacing import TargetGrid
from unetrpp.plans.fingerprint import Fingerprint
from unetrpp.plans.plans import Configuration

FEW_CASES = 5
THIN = 4  # voxels; an image with fewer along an axis is not treated as a volume
ANISOTROPIC = 2  # a case with one axis this much coarser has an acquisition plane
MIXED = 0.1  # share of the cases with another plane, from which on there is a warning


def dataset_warnings(fingerprint: Fingerprint, grid: TargetGrid) -> Iterator[str]:
    """Warnings about the data, for every configuration."""
    cases = len(fingerprint.cases)
    if cases < FEW_CASES:
        folds = (
            f"cross-validation leaves one out ({cases} folds)" if cases > 1 else "only the fold 'all' can be trained"
        )
        yield f"{cases} {'case' if cases == 1 else 'cases'}: {folds}, and no score from so few says much"
    if not grid.flat:
        yield from _thin(fingerprint)
    yield from _rare(fingerprint)
    yield from _mixed_planes(fingerprint)
    yield from _vanishing(fingerprint, grid)


def patch_warnings(fingerprint: Fingerprint, grid: TargetGrid, configuration: Configuration) -> Iterator[str]:
    """Warnings about structures that are larger than the patch."""
    spacing = configuration.preprocessing.target_spacing(grid.spacing)
    patch = [n * mm for n, mm in zip(configuration.patch_3d, spacing, strict=True)]
    first = 3 - len(configuration.patch)  # a 2D patch has no extent along the slices
    remedy = "a coarser spacing" if first else "a coarser spacing or 3d_lowres"
    for name, extent in _extents_mm(fingerprint, grid):
        axes = [axis for axis in range(first, 3) if extent[axis] > patch[axis]]
        if axes:
            have = ", ".join(f"{extent[a]:.0f} mm along axis {a} against {patch[a]:.0f} mm" for a in axes)
            yield f"{name!r} never lies whole inside a patch: {have}; {remedy} would hold it"


def _thin(fingerprint: Fingerprint) -> Iterator[str]:
    """Warnings about scouts and single slices in a dataset of volumes."""
    thin = [case for case in fingerprint.cases if min(case.shape) < THIN]
    if thin:
        least = min(thin, key=lambda case: min(case.shape))
        size = " x ".join(map(str, least.shape))
        yield (
            f"{len(thin)} of {len(fingerprint.cases)} cases have fewer than {THIN} voxels along an axis, such as "
            f"{least.case} ({size}): remove what is no volume, such as scouts; if they are meant, train 2d as well"
        )


def _rare(fingerprint: Fingerprint) -> Iterator[str]:
    """Warnings about classes that no fold, or not every fold, trains on."""
    cases = fingerprint.cases
    for name in cases[0].classes if len(cases) > 1 else ():
        having = [case.case for case in cases if case.classes[name].voxels]
        if not having:
            yield f"{name!r} is in no case, so nothing can learn it: label it, or take it out of dataset.json"
        elif len(having) == 1:
            yield f"{name!r} is in {having[0]} only: the fold that holds this case out never learns it"


def _vanishing(fingerprint: Fingerprint, grid: TargetGrid) -> Iterator[str]:
    for name, extent in _extents_mm(fingerprint, grid):
        thin = [axis for axis in range(3) if extent[axis] < grid.spacing[axis]]
        if thin and not grid.flat:
            keep = list(grid.spacing)
            for axis in thin:
                keep[axis] = extent[axis]
            canonical = [keep[grid.order.index(axis)] for axis in range(3)]
            asked = " ".join(f"{mm:.3g}" for mm in canonical)
            yield f"{name!r} may vanish: its median component is thinner than a target voxel; --spacing {asked} would keep it"


def _extents_mm(fingerprint: Fingerprint, grid: TargetGrid) -> Iterator[tuple[str, Sequence[float]]]:
    """Median size of each class's components, plan order."""
    names = fingerprint.cases[0].classes if fingerprint.cases else ()
    for name in names:
        extents = [
            np.array(c.classes[name].smallest_extent_voxels) * c.spacing_mm
            for c in fingerprint.cases
            if c.classes[name].smallest_extent_voxels is not None
        ]
        if extents:
            median = np.median(extents, axis=0)
            yield name, [float(median[axis]) for axis in grid.order]


def _mixed_planes(fingerprint: Fingerprint) -> Iterator[str]:
    coarse: Counter[int] = Counter()
    for case in fingerprint.cases:
        axis = int(np.argmax(case.spacing_mm))
        if case.spacing_mm[axis] > ANISOTROPIC * sorted(case.spacing_mm)[1]:
            coarse[axis] += 1
    if len(coarse) < 2:
        return
    if coarse.total() - max(coarse.values()) >= MIXED * coarse.total():
        planes = {0: "axial", 1: "coronal", 2: "sagittal"}
        counts = ", ".join(f"{n} {planes[axis]}" for axis, n in coarse.most_common())
        consequence = "one network sees thick slices in every direction; consider one dataset a plane"
        yield f"acquisition planes are mixed ({counts}): {consequence}"
