"""Warnings about data and plans: structures that vanish or fit no patch, rare classes, mixed acquisition planes."""

from collections import Counter
from collections.abc import Iterator

import numpy as np

from unetrpp.planners.rules.spacing import TIE, TargetGrid
from unetrpp.planners.rules.wording import counted, listed
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
        yield f"{counted(cases, 'case')}: {folds}, and a score on so few cases means little"
    if not grid.flat:
        yield from _thin(fingerprint)
    yield from _rare(fingerprint)
    yield from _mixed_planes(fingerprint)
    yield from _vanishing(fingerprint, grid)


def patch_warnings(fingerprint: Fingerprint, grid: TargetGrid, configuration: Configuration) -> Iterator[str]:
    """Warnings about structures that are larger than the patch in the median."""
    spacing = configuration.preprocessing.target_spacing(grid.spacing)
    patch = [n * mm for n, mm in zip(configuration.patch_3d, spacing, strict=True)]
    first = 3 - len(configuration.patch)  # a 2D patch has no extent along the slices
    full_resolution = first == 0 and configuration.preprocessing.spacing_mm == grid.spacing
    remedy = "a coarser spacing or 3d_lowres" if full_resolution else "a coarser spacing"
    unit = "pixels" if grid.in_pixels else "mm"
    for name, extents in _extents_mm(fingerprint, grid):
        median = np.median(extents, axis=0)
        axes = [axis for axis in range(first, 3) if median[axis] > patch[axis]]
        if axes:
            have = listed([f"{median[a]:.3g} {unit} along {grid.name(a)} against {patch[a]:.3g}" for a in axes])
            whole = int((extents[:, first:] <= patch[first:]).all(axis=1).sum())
            inside = (
                f"lies whole inside a patch in only {whole} of {len(extents)} cases"
                if whole
                else "never lies whole inside a patch"
            )
            yield f"{name!r} {inside}: its components have {have} in the median; {remedy} would show more of it at once"


def _thin(fingerprint: Fingerprint) -> Iterator[str]:
    """Warnings about scouts and single slices in a dataset of volumes."""
    thin = [case for case in fingerprint.cases if min(case.cropped_shape) < THIN]
    if thin:
        least = min(thin, key=lambda case: min(case.cropped_shape))
        size = " x ".join(map(str, least.cropped_shape))
        yield (
            f"{len(thin)} of {len(fingerprint.cases)} cases have fewer than {THIN} voxels along an axis, such as "
            f"{least.case} ({size}): remove images that are not volumes, such as scouts; if they are intended, train 2d as well"
        )


def _rare(fingerprint: Fingerprint) -> Iterator[str]:
    """Warnings about classes that no fold, or not every fold, trains on."""
    cases = fingerprint.cases
    for name in cases[0].classes if len(cases) > 1 else ():
        having = [case.case for case in cases if case.classes[name].voxels]
        if not having:
            yield f"{name!r} is in no case, so it cannot be learned: label it, or remove it from dataset.json"
        elif len(having) == 1:
            yield f"{name!r} is in {having[0]} only: the fold that holds this case out never learns it"


def _vanishing(fingerprint: Fingerprint, grid: TargetGrid) -> Iterator[str]:
    """Warnings about structures that are thinner than a voxel of the grid in the median."""
    for name, extents in _extents_mm(fingerprint, grid):
        median = [float(mm) for mm in np.median(extents, axis=0)]
        thin = [axis for axis in range(3) if median[axis] < grid.spacing[axis] * (1 - TIE)]
        if thin and not grid.flat:
            keep = [min(pair) for pair in zip(median, grid.spacing, strict=True)]
            asked = " ".join(f"{keep[grid.order.index(axis)]:.3g}" for axis in range(3))
            have = listed([f"{median[a]:.3g} mm along {grid.name(a)} against {grid.spacing[a]:.3g}" for a in thin])
            yield (
                f"{name!r} may vanish: its median component is thinner than a target voxel ({have}); "
                f"--spacing {asked} would keep it"
            )


def _extents_mm(fingerprint: Fingerprint, grid: TargetGrid) -> Iterator[tuple[str, np.ndarray]]:
    """The median size of each class's components in every case that has it: (cases, 3) mm, in plan order."""
    names = fingerprint.cases[0].classes if fingerprint.cases else ()
    for name in names:
        found = [(c, voxels) for c in fingerprint.cases if (voxels := c.classes[name].smallest_extent_voxels)]
        if found:
            extents = np.array([np.multiply(voxels, case.spacing_mm) for case, voxels in found])
            yield name, extents[:, list(grid.order)]


def _mixed_planes(fingerprint: Fingerprint) -> Iterator[str]:
    coarse: Counter[int] = Counter()
    for case in fingerprint.cases:
        axis = int(np.argmax(case.spacing_mm))
        if case.spacing_mm[axis] > ANISOTROPIC * (1 + TIE) * sorted(case.spacing_mm)[1]:
            coarse[axis] += 1
    if len(coarse) < 2:
        return
    if coarse.total() - max(coarse.values()) >= MIXED * coarse.total():
        planes = {0: "axial", 1: "coronal", 2: "sagittal"}
        counts = ", ".join(
            f"{n} {planes[axis]}" for axis, n in sorted(coarse.items(), key=lambda item: (-item[1], item[0]))
        )
        consequence = "one network would see thick slices in every direction; consider one dataset per plane"
        yield f"acquisition planes are mixed ({counts}): {consequence}"
