"""Random mistakes in the first stage's segmentation of a cascade, so that the second stage learns to correct it.

The two kinds are nnU-Net's: each class is dilated, eroded, closed or opened by a ball, and one of its components is
removed. Without them the second stage would learn to copy, and on new images the first stage makes more mistakes.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy import ndimage

MORPHOLOGY_PROBABILITY, RADII = 0.4, (1, 8)  # voxels
REMOVAL_PROBABILITY = 0.2
LARGEST_REMOVED = 0.15  # share of the patch; a first stage rarely misses larger components

Operation = Literal["dilation", "erosion", "closing", "opening"]
OPERATIONS: tuple[Operation, ...] = ("dilation", "erosion", "closing", "opening")


@dataclass(frozen=True)
class CorruptionDraw:
    """The mistakes of one sample, with one entry for each foreground class; empty where none were drawn.

    ``removed`` chooses the component of a class that is removed, from 0 (the first) to 1.
    """

    morphology: tuple[tuple[Operation, int], ...] = ()  # with the ball's radius
    removed: tuple[float, ...] = ()


def draw_corruption(rng: np.random.Generator, classes: int) -> CorruptionDraw:
    """Draw the mistakes of one sample with ``classes`` foreground classes."""
    morphology: tuple[tuple[Operation, int], ...] = ()
    removed: tuple[float, ...] = ()
    if rng.random() < MORPHOLOGY_PROBABILITY:
        low, high = RADII
        morphology = tuple(
            (OPERATIONS[rng.integers(len(OPERATIONS))], int(rng.integers(low, high + 1))) for _ in range(classes)
        )
    if rng.random() < REMOVAL_PROBABILITY:
        removed = tuple(float(u) for u in rng.random(classes))
    return CorruptionDraw(morphology, removed)


def corrupt(indices: np.ndarray, draw: CorruptionDraw) -> np.ndarray:
    """A copy of the segmentation (Z, Y, X) of training indices with the mistakes of ``draw``."""
    indices = indices.copy()
    for c, box in _boxes(indices, len(draw.morphology)):
        operation, radius = draw.morphology[c - 1]
        margin = radius + 1  # nothing beyond it can change
        around = tuple(slice(max(0, s.start - margin), s.stop + margin) for s in box)
        _reshape_class(indices[around], c, operation, radius)
    for c, box in _boxes(indices, len(draw.removed)):
        _remove_component(indices[box], c, draw.removed[c - 1], LARGEST_REMOVED * indices.size)
    return indices


def _boxes(indices: np.ndarray, classes: int) -> Iterator[tuple[int, tuple[slice, ...]]]:
    """Every class that is present, with its bounding box. A class never leaves its box while others are changed."""
    found = ndimage.find_objects(indices, classes) if classes else []
    yield from ((c, box) for c, box in enumerate(found, 1) if box is not None)


def _reshape_class(part: np.ndarray, c: int, operation: Operation, radius: int) -> None:
    """Reshape a class in place. Voxels that it gains are taken from other classes; voxels that it loses become background."""
    before = part == c
    after = morph(before, operation, radius)
    part[before & ~after] = 0
    part[after] = c


def morph(mask: np.ndarray, operation: Operation, radius: int) -> np.ndarray:
    """``mask`` (Z, Y, X) dilated, eroded, closed or opened by a ball of ``radius`` voxels.

    It is computed from distances, so every radius takes the same time. Voxels beyond the patch are unknown, so erosion
    does not start from its border.
    """
    if operation in ("dilation", "closing"):
        grown = _grown(mask, radius)
        return grown if operation == "dilation" else ~_grown(~grown, radius)
    shrunk = ~_grown(~mask, radius)
    return shrunk if operation == "erosion" else _grown(shrunk, radius)


def _grown(mask: np.ndarray, radius: int) -> np.ndarray:
    if not mask.any():  # there would be no voxel to measure the distance to
        return mask
    grown: np.ndarray = ndimage.distance_transform_edt(~mask) <= radius
    return grown


def _remove_component(part: np.ndarray, c: int, which: float, largest: float) -> None:
    """Remove, in place, one of the components of the class that have at most ``largest`` voxels."""
    components, _ = ndimage.label(part == c)
    sizes = np.bincount(components.ravel())[1:]
    small = np.flatnonzero(sizes <= largest) + 1
    if len(small):
        part[components == small[int(which * len(small))]] = 0
