"""Mistakes made on purpose in a cascade's first segmentation, so that the second stage learns to mend and not to copy.

nnU-Net's two: each class grown, shrunk, closed or opened by a ball, and one of its components forgotten. On new images
the first stage errs more than on the cases that were at hand when it was designed.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy import ndimage

MORPHOLOGY_PROBABILITY, RADII = 0.4, (1, 8)  # voxels
REMOVAL_PROBABILITY = 0.2
LARGEST_REMOVED = 0.15  # of the patch: what is larger was hardly overlooked

Operation = Literal["dilation", "erosion", "closing", "opening"]
OPERATIONS: tuple[Operation, ...] = ("dilation", "erosion", "closing", "opening")


@dataclass(frozen=True)
class CorruptionDraw:
    """One sample's mistakes, one entry a foreground class; empty where nothing was drawn.

    ``removed`` says which of a class's components goes, from 0 (the first) to 1.
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
    """Every class that is present, with the box that held it at the beginning: others only ever take from it."""
    found = ndimage.find_objects(indices, classes) if classes else []
    yield from ((c, box) for c, box in enumerate(found, 1) if box is not None)


def _reshape_class(part: np.ndarray, c: int, operation: Operation, radius: int) -> None:
    """In place; what a class gains it takes from the others, what it loses becomes background."""
    before = part == c
    after = morph(before, operation, radius)
    part[before & ~after] = 0
    part[after] = c


def morph(mask: np.ndarray, operation: Operation, radius: int) -> np.ndarray:
    """``mask`` (Z, Y, X) grown, shrunk, closed or opened by a ball of ``radius`` voxels.

    Distances make it cost the same for every radius. Nothing is known beyond the patch, so nothing is eaten from there.
    """
    if operation in ("dilation", "closing"):
        grown = _grown(mask, radius)
        return grown if operation == "dilation" else ~_grown(~grown, radius)
    shrunk = ~_grown(~mask, radius)
    return shrunk if operation == "erosion" else _grown(shrunk, radius)


def _grown(mask: np.ndarray, radius: int) -> np.ndarray:
    if not mask.any():  # no voxel to be distant from
        return mask
    grown: np.ndarray = ndimage.distance_transform_edt(~mask) <= radius
    return grown


def _remove_component(part: np.ndarray, c: int, which: float, largest: float) -> None:
    """In place, one of the components of at most ``largest`` voxels."""
    components, _ = ndimage.label(part == c)
    sizes = np.bincount(components.ravel())[1:]
    small = np.flatnonzero(sizes <= largest) + 1
    if len(small):
        part[components == small[int(which * len(small))]] = 0
