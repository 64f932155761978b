"""Rotation and zoom as one affine map for each sample, drawn first and applied later.

Probabilities, ranges and interpolation are those of nnU-Net 2.8.1. A sample without a map is read at its final size and not
interpolated; for others the box that the map needs is read, up to ``MOST_READ`` times the patch. (nnU-Net reads boxes of one
size, four to six times the patch. Where a draw reaches beyond this box, it sees zeros and background.)
"""

import math
from dataclasses import dataclass

import numpy as np
import torch

from unetrpp.augmentation.interpolation import sample, sample_axes
from unetrpp.plans.plans import AugmentationPlan

ROTATION_PROBABILITY = 0.2
SCALE_PROBABILITY = 0.2
MOST_READ = 5  # times the voxels of the patch; one map in a hundred needs more, up to 13 times


def draw_affine(rng: np.random.Generator, plan: AugmentationPlan) -> np.ndarray | None:
    """Draw a (3, 3) map from output to input offsets (z, y, x) about the patch centre; None is the identity.

    Angles are uniform, and so is the zoom factor, one for all axes; above 1 the patch shows more.
    """
    rotate, scale = rng.random() < ROTATION_PROBABILITY, rng.random() < SCALE_PROBABILITY
    if not (rotate or scale):
        return None
    matrix = np.eye(3)
    if rotate:
        for axis, largest in enumerate(plan.rotation_degrees):
            matrix = rotation(axis, math.radians(rng.uniform(-largest, largest))) @ matrix
    if scale:
        factor = rng.uniform(*plan.scale)
        matrix = matrix @ np.diag([1.0 if plan.in_plane_only else factor, factor, factor])
    return matrix


def rotation(axis: int, angle: float) -> np.ndarray:
    """The (3, 3) rotation about one of the axes (z, y, x), ``angle`` in radians."""
    a, b = (i for i in range(3) if i != axis)
    matrix = np.eye(3)
    matrix[a, a] = matrix[b, b] = math.cos(angle)
    matrix[a, b], matrix[b, a] = -math.sin(angle), math.sin(angle)
    return matrix


def read_size(affine: np.ndarray | None, patch: tuple[int, int, int]) -> tuple[int, int, int]:
    """Voxels to read for a patch: the bounding box of what the map needs, odd or even along each axis as the patch is.

    Equal parity keeps the centres of both on the same point.
    """
    if affine is None:
        return patch
    half = np.abs(affine) @ ((np.array(patch) - 1) / 2)
    z, y, x = (p + 2 * max(0, math.ceil(h - (p - 1) / 2)) if p > 1 else 1 for h, p in zip(half, patch, strict=True))
    return z, y, x


@dataclass(frozen=True)
class ReadBox:
    """The box that is read for a patch, and the axes (z, y, x) along which the map reaches beyond it."""

    size: tuple[int, int, int]
    cut: tuple[int, ...] = ()

    def close(self, array: np.ndarray, outside: int) -> None:
        """Fill, in place, the outermost layers (..., Z, Y, X) along the cut axes with the value outside a case.

        Beyond a box its edge is replicated, so the map finds this value there.
        """
        for axis in self.cut:
            np.moveaxis(array, axis - 3, 0)[[0, -1]] = outside


def read_box(affine: np.ndarray | None, patch: tuple[int, int, int]) -> ReadBox:
    """The box of :func:`read_size`, cut down to ``MOST_READ`` times the patch where it is larger.

    The axis along which it exceeds the patch by the largest factor is cut first, by a voxel at either end.
    """
    needed = read_size(affine, patch)
    size = np.array(needed)
    while size.prod() > MOST_READ * math.prod(patch):
        size[(size / patch).argmax()] -= 2
    z, y, x = size.tolist()
    return ReadBox((z, y, x), tuple(axis for axis in range(3) if size[axis] < needed[axis]))


def apply_affine(
    image: torch.Tensor, label: torch.Tensor, affine: np.ndarray, patch: tuple[int, int, int]
) -> tuple[torch.Tensor, torch.Tensor]:
    """Sample image (C, Z, Y, X) linearly, and label (Z, Y, X) or several maps (L, Z, Y, X) by their linear votes.

    Both results have the size of the patch. Beyond the image its edge is replicated (:class:`ReadBox`).
    """
    maps = label.reshape(-1, *label.shape[-3:])
    if np.any(affine != np.diag(np.diagonal(affine))):
        moved, chosen = sample(image, maps, affine, patch)
    else:
        sizes = zip(np.diagonal(affine), image.shape[1:], patch, strict=True)
        positions = [(np.arange(n) - (n - 1) / 2) * factor + (n_in - 1) / 2 for factor, n_in, n in sizes]
        moved, chosen = sample_axes(image, maps, positions)
    return moved, chosen.view(*label.shape[:-3], *patch)
