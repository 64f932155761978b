"""Warnings about data and plans: sizes, structures that vanish or fit no patch, rare classes, mixed planes.

Each is one sentence, however many classes or cases it is about.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from unetrpp.core.text import counted, counted_of, format_mm, listed
from unetrpp.planners.rules.spacing import TIE, TargetGrid
from unetrpp.plans.fingerprint import Fingerprint
from unetrpp.plans.plans import Configuration

FEW_CASES = 5
THIN = 4  # voxels; an image with fewer along an axis is not treated as a volume
ANISOTROPIC = 2  # a case with one axis this much coarser has an acquisition plane
MOST_NAMED = 5  # classes in one warning
COARSE_MM = 25  # voxels with a longer edge are hardly of a patient; the size may be in micrometres
MIXED = 0.1  # share of the cases with another plane, from which on there is a warning


def dataset_warnings(
    fingerprint: Fingerprint, grid: TargetGrid, groups: Mapping[str, str] | None = None
) -> Iterator[str]:
    """Warnings about the data, for every configuration. ``groups``: case -> patient, where that is known."""
    cases = len(fingerprint.cases)
    if cases < FEW_CASES:
        folds = (
            f"cross-validation leaves one out ({cases} folds)" if cases > 1 else "only the fold 'all' can be trained"
        )
        yield f"{counted(cases, 'case')}: {folds}, and a score on so few cases means little"
    yield from _implausible(fingerprint)
    if not grid.flat:
        yield from _thin(fingerprint)
    yield from _rare(fingerprint, groups or {})
    yield from _mixed_planes(fingerprint)
    yield from _vanishing(fingerprint, grid)


def patch_warnings(
    fingerprint: Fingerprint, grid: TargetGrid, configuration: Configuration, *, patch_asked: bool = False
) -> Iterator[str]:
    """Warns of the structures that are larger than the patch in the median: one sentence, however many there are.

    Args:
        patch_asked: whether the user, not memory, decided the size of the patch.
    """
    spacing = configuration.preprocessing.target_spacing(grid.spacing)
    patch = [n * mm for n, mm in zip(configuration.patch_3d, spacing, strict=True)]
    first = 3 - len(configuration.patch)  # a 2D patch has no extent along the slices
    full_resolution = first == 0 and configuration.preprocessing.spacing_mm == grid.spacing
    # Where there is a low-resolution stage, Dice is over the batch (rule 12).
    has_lowres = full_resolution and configuration.loss.batch_dice
    remedies = [*(["a larger --patch"] if patch_asked else []), "a coarser spacing", *["3d_lowres"] * has_lowres]
    larger = []
    for name, extents in _extents_mm(fingerprint, grid):
        median = np.median(extents, axis=0)
        axes = [axis for axis in range(first, 3) if median[axis] > patch[axis]]
        if axes:
            have = [f"{_length(median[a])} {grid.unit} along {grid.name(a)} against {_length(patch[a])}" for a in axes]
            whole = int((extents[:, first:] <= patch[first:]).all(axis=1).sum())
            larger.append(_Larger(name, max(median[a] / patch[a] for a in axes), listed(have), whole, len(extents)))
    if larger:
        yield f"{_larger_than_a_patch(larger)}; {listed(remedies, last='or')} would show more of {_it(larger)} at once"


class _Larger(NamedTuple):
    """A class whose components are larger than a patch in the median."""

    name: str
    times: float  # along the axis where it exceeds the patch most
    have: str  # its sizes along these axes, and the patch's
    whole: int  # cases in which a component of median size lies whole inside a patch
    cases: int  # that have it


def _larger_than_a_patch(larger: Sequence[_Larger]) -> str:
    if len(larger) == 1:
        name, _, have, whole, cases = larger[0]
        only = f"lies whole inside a patch in only {whole} of {cases} cases"
        return (
            f"{name!r} {only if whole else 'never lies whole inside a patch'}: its components have {have} in the median"
        )
    most = max(larger, key=lambda found: found.times)
    named = _named([found.name for found in larger])
    return (
        f"{len(larger)} classes ({named}) are larger than a patch in the median case, most of all {most.name!r}, whose "
        f"components have {most.have}"
    )


def _it(larger: Sequence[_Larger]) -> str:
    return "it" if len(larger) == 1 else "them"


def _length(value: float) -> str:
    """
    >>> _length(1234.5), _length(17.36), _length(0.1234)
    ('1234', '17.4', '0.123')
    """
    return f"{value:.0f}" if value >= 1000 else f"{value:.3g}"


def _implausible(fingerprint: Fingerprint) -> Iterator[str]:
    """A warning about voxels whose size in mm is hardly right."""
    coarse = [case for case in fingerprint.cases if max(case.spacing_mm) > COARSE_MM and not fingerprint.flat]
    if coarse:
        most = max(coarse, key=lambda case: max(case.spacing_mm))
        yield (
            f"{counted_of(len(coarse), len(fingerprint.cases), 'case', 'has/have')} voxels longer than {COARSE_MM} mm, such as "
            f"{most.case} ({format_mm(most.spacing_mm)}): if the files give sizes in micrometres, divide them by 1000 "
            "and convert again, because distances, volumes and radii are taken as mm"
        )


def _thin(fingerprint: Fingerprint) -> Iterator[str]:
    """Warnings about scouts and single slices in a dataset of volumes."""
    thin = [case for case in fingerprint.cases if min(case.cropped_shape) < THIN]
    if thin:
        least = min(thin, key=lambda case: min(case.cropped_shape))
        size = " x ".join(map(str, least.cropped_shape))
        yield (
            f"{counted_of(len(thin), len(fingerprint.cases), 'case', 'has/have')} fewer than {THIN} voxels along an axis, such as "
            f"{least.case} ({size}): remove images that are not volumes, such as scouts; if they are intended, train 2d as well"
        )


def _rare(fingerprint: Fingerprint, groups: Mapping[str, str]) -> Iterator[str]:
    """Warnings about classes that no fold, or not every fold, trains on. A fold holds out all cases of a patient together."""
    cases = fingerprint.cases
    having = {name: [c.case for c in cases if c.classes[name].voxels] for name in cases[0].classes}
    nowhere = [name for name, found in having.items() if not found and len(cases) > 1]
    once = {
        name: found[0] if len(found) == 1 else f"{groups.get(found[0], found[0])!r} ({counted(len(found), 'case')})"
        for name, found in having.items()
        if len({groups.get(case, case) for case in found}) == 1 and len(cases) > 1
    }
    patients = any(len(having[name]) > 1 for name in once)
    this, one = ("this patient", "one patient") if patients else ("this case", "one case")
    if nowhere:
        are, them = ("are", "them") if len(nowhere) > 1 else ("is", "it")
        they = "they" if len(nowhere) > 1 else "it"
        yield (
            f"{_named(nowhere)} {are} in no case, so {they} cannot be learned: label {them}, or remove {them} from "
            "dataset.json"
        )
    if len(once) == 1:
        ((name, where),) = once.items()
        yield f"{name!r} is in {where} only: the fold that holds {this} out never learns it"
    elif once:
        where = listed([f"{name!r} in {place}" for name, place in once.items()], MOST_NAMED)
        yield f"{len(once)} classes are in {one} only ({where}): the fold that holds {this} out never learns the class"


def _vanishing(fingerprint: Fingerprint, grid: TargetGrid) -> Iterator[str]:
    """A warning about structures that are thinner than a voxel of the grid in the median."""
    if grid.flat:
        return
    thin: dict[str, np.ndarray] = {}
    for name, extents in _extents_mm(fingerprint, grid):
        median = np.median(extents, axis=0)
        if (median < np.multiply(grid.spacing, 1 - TIE)).any():
            thin[name] = median
    if thin:
        keep = np.minimum(np.min(list(thin.values()), axis=0), grid.spacing)
        asked = " ".join(f"{keep[grid.order.index(axis)]:.3g}" for axis in range(3))
        most = min(thin, key=lambda name: float(np.min(thin[name] / grid.spacing)))
        have = _thinner(thin[most], grid)
        if len(thin) == 1:
            what = f"{most!r} may vanish: its median component is thinner than a target voxel ({have})"
        else:
            what = (
                f"{len(thin)} classes ({_named(list(thin))}) may vanish: their median component is thinner than a target "
                f"voxel, most of all that of {most!r} ({have})"
            )
        yield f"{what}; --spacing {asked} would keep {'it' if len(thin) == 1 else 'them'}"


def _thinner(median: np.ndarray, grid: TargetGrid) -> str:
    """The sizes of a structure along the axes where it is thinner than a voxel."""
    axes = [axis for axis in range(3) if median[axis] < grid.spacing[axis] * (1 - TIE)]
    return listed(
        [f"{_length(median[a])} {grid.unit} along {grid.name(a)} against {_length(grid.spacing[a])}" for a in axes]
    )


def _named(names: Sequence[str]) -> str:
    return listed([repr(name) for name in names], MOST_NAMED)


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
