"""How much of a training patch is foreground at every level of a network; the rules for gates and losses use it."""

import math
import zlib
from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from unetrpp.core.errors import UserError
from unetrpp.core.text import counted
from unetrpp.patches.sampling import PatchSampler
from unetrpp.plans.architecture import Architecture, as_3d
from unetrpp.preprocessing.store import StoredCase

MOST_CASES = 50
PATCHES_A_CASE = 9  # with a third of them forced onto foreground, as in training


def foreground_bits(fractions: Sequence[float]) -> tuple[float, ...]:
    """B = log2(1 / f): the bits it takes to locate foreground among the cells of a level.

    >>> foreground_bits([0.25, 1.0])
    (2.0, 0.0)
    """
    return tuple(math.log2(1 / f) for f in fractions)


def cell_strides(architecture: Architecture) -> list[tuple[int, int, int]]:
    """Voxels (z, y, x) of one cell at every level, full resolution first; a 2D cell is one slice thick."""
    strides, cell = [], (1,) * architecture.dimensions
    for level in architecture.levels:
        cell = tuple(c * s for c, s in zip(cell, level.stride, strict=True))
        strides.append(as_3d(cell))
    return strides


def foreground_fractions(
    patches: Iterable[np.ndarray], strides: Sequence[tuple[int, int, int]], ignore_index: int | None
) -> tuple[float, ...]:
    """f: the mean over patches of the share of cells that hold any foreground, for every stride.

    ``patches`` (Z, Y, X) hold training indices. Cells without any known voxel (ignore label, outside the case) do not
    count.

    Raises:
        UserError: no patch holds any foreground.
    """
    shares = []
    for patch in patches:
        known = patch >= 0 if ignore_index is None else (patch >= 0) & (patch != ignore_index)
        foreground = known & (patch > 0)
        if known.any():
            shares.append([any_in_cells(foreground, s).sum() / any_in_cells(known, s).sum() for s in strides])
    means = np.mean(shares, axis=0) if shares else np.zeros(len(strides))
    if not means.all():
        raise UserError(
            f"{counted(len(shares), 'training patch holds', 'training patches hold')} no foreground, whose share "
            "--attention focal and a --loss other than dice_ce need; label more cases, or leave these options out"
        )
    return tuple(float(f) for f in means)


def any_in_cells(mask: np.ndarray, stride: tuple[int, int, int]) -> np.ndarray:
    """Whether any voxel of every cell is set; the last cells are smaller where the stride does not divide the patch."""
    for axis, step in enumerate(stride):
        mask = np.logical_or.reduceat(mask, range(0, mask.shape[axis], step), axis=axis)
    return mask


def training_patches(
    cases: Sequence[StoredCase], patch: tuple[int, ...], foreground_fraction: float, ignore_index: int | None
) -> Iterator[np.ndarray]:
    """Label patches drawn as training draws them, from at most 50 cases; the same ones on every call.

    Neither the cases' names nor the numbers of the classes matter, for both are drawn in an order of their voxels.
    """
    rng = np.random.default_rng(0)
    voxels = {case.case: {c: _place_in_order(case, c) for c in case.classes} for case in cases}
    ordered = sorted(cases, key=lambda case: (case.shape, sorted(voxels[case.case].values())))
    chosen = [ordered[i] for i in np.sort(rng.permutation(len(cases))[:MOST_CASES])]
    size = as_3d(patch)
    sampler = PatchSampler(chosen, size, foreground_fraction, ignore_index)
    sampler.having = dict(sorted(sampler.having.items(), key=lambda item: [voxels[c.case][item[0]] for c in item[1]]))
    by_name = {case.case: case for case in chosen}
    for draw in sampler.draw(rng, PATCHES_A_CASE * len(chosen)):
        z, y, x = (center - n // 2 for center, n in zip(draw.center, size, strict=True))
        yield by_name[draw.case].read((z, y, x), size)[1]


def _place_in_order(case: StoredCase, class_index: int) -> tuple[int, int]:
    """By which a class of a case is ordered: the number of its indexed voxels, and a checksum of where they are."""
    voxels = case.foreground(class_index)
    return len(voxels), zlib.crc32(voxels.tobytes())
