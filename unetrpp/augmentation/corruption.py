"""Random mistakes in the first stage's segmentation of a cascade, so that the second stage learns to correct it.

The two kinds, their probabilities and ranges are those of nnU-Net 2.8.1: a class is dilated, eroded, closed or opened by a
ball, or one of its components is removed. Without them the second stage would learn to copy, and on new images the
first stage makes more mistakes. Two details differ: here mistakes are made before rotation and zoom, in nnU-Net afterwards;
and here a ball is centred on a voxel, while half of nnU-Net's are centred between voxels.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy import ndimage

MORPHOLOGY_PROBABILITY, RADII = 0.4, (1.0, 8.0)  # voxels
REMOVAL_PROBABILITY = 0.2
CLASS_PROBABILITY = 0.5  # of a class to get mistakes of a kind, when the sample gets them
TOUCHING = np.ones((3, 3, 3), bool)  # voxels that share a corner belong to one component
LARGEST_REMOVED = 0.15  # share of the patch; a first stage rarely misses larger components

Operation = Literal["dilation", "erosion", "closing", "opening"]
OPERATIONS: tuple[Operation, ...] = ("dilation", "erosion", "closing", "opening")


@dataclass(frozen=True)
class CorruptionDraw:
    """The mistakes of one sample, in the order in which classes get them; empty where none were drawn."""

    morphology: tuple[tuple[int, Operation, float], ...] = ()  # class, operation, the ball's radius
    removed: tuple[tuple[int, float], ...] = ()  # class, and which of its components, from 0 (the first) to 1


def draw_corruption(rng: np.random.Generator, classes: int) -> CorruptionDraw:
    """Draw the mistakes of one sample with ``classes`` foreground classes."""

    def some_classes() -> Iterator[int]:
        return (int(c) for c in rng.permutation(classes) + 1 if rng.random() < CLASS_PROBABILITY)

    morphology: tuple[tuple[int, Operation, float], ...] = ()
    removed: tuple[tuple[int, float], ...] = ()
    if rng.random() < MORPHOLOGY_PROBABILITY:
        morphology = tuple(
            (c, OPERATIONS[rng.integers(len(OPERATIONS))], float(rng.uniform(*RADII))) for c in some_classes()
        )
    if rng.random() < REMOVAL_PROBABILITY:
        removed = tuple((c, float(rng.random())) for c in some_classes())
    return CorruptionDraw(morphology, removed)


def corrupt(indices: np.ndarray, draw: CorruptionDraw) -> np.ndarray:
    """A copy of the segmentation (Z, Y, X) of training indices with the mistakes of ``draw``."""
    indices = indices.copy()
    boxes = _boxes(indices, [c for c, *_ in draw.morphology])
    for c, operation, radius in draw.morphology:
        if c in boxes:
            margin = math.ceil(radius) + 1  # nothing beyond it can change
            around = tuple(slice(max(0, s.start - margin), s.stop + margin) for s in boxes[c])
            _reshape_class(indices[around], c, operation, radius)
    boxes = _boxes(indices, [c for c, _ in draw.removed])
    for c, which in draw.removed:
        if c in boxes:
            _remove_component(indices[boxes[c]], c, which, LARGEST_REMOVED * indices.size)
    return indices


def _boxes(indices: np.ndarray, classes: Sequence[int]) -> dict[int, tuple[slice, ...]]:
    """The bounding boxes of the classes that are present. A class never leaves its box while others are changed."""
    found = ndimage.find_objects(indices, max(classes)) if classes else []
    return {c: found[c - 1] for c in classes if found[c - 1] is not None}


def _reshape_class(part: np.ndarray, c: int, operation: Operation, radius: float) -> None:
    """Reshape a class in place. Voxels that it gains are taken from other classes; voxels that it loses become background."""
    before = part == c
    after = morph(before, operation, radius)
    part[before & ~after] = 0
    part[after] = c


def morph(mask: np.ndarray, operation: Operation, radius: float) -> np.ndarray:
    """``mask`` (Z, Y, X) dilated, eroded, closed or opened by a ball of ``radius`` voxels.

    It is computed from distances, so every radius takes the same time. Voxels beyond the patch are unknown, so erosion
    does not start from its border.
    """
    if operation in ("dilation", "closing"):
        grown = _grown(mask, radius)
        return grown if operation == "dilation" else ~_grown(~grown, radius)
    shrunk = ~_grown(~mask, radius)
    return shrunk if operation == "erosion" else _grown(shrunk, radius)


def _grown(mask: np.ndarray, radius: float) -> np.ndarray:
    if not mask.any():  # there would be no voxel to measure the distance to
        return mask
    grown: np.ndarray = ndimage.distance_transform_edt(~mask) <= radius
    return grown


def _remove_component(part: np.ndarray, c: int, which: float, largest: float) -> None:
    """Remove, in place, one of the components of the class that have fewer than ``largest`` voxels."""
    components, _ = ndimage.label(part == c, TOUCHING)
    sizes = np.bincount(components.ravel())[1:]
    small = np.flatnonzero(sizes < largest) + 1
    if len(small):
        part[components == small[int(which * len(small))]] = 0
