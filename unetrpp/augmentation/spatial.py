"""Rotation and zoom as one affine map per sample: drawn first, applied later, so that every sample replays.

Probabilities and ranges are nnU-Net v2's. A sample for which nothing was drawn is read at its final size and not
interpolated at all; otherwise just the box that its map needs is read.
"""

import math

import numpy as np
import torch
from torch.nn.functional import grid_sample

from unetrpp.plans import AugmentationPlan

ROTATION_PROBABILITY = 0.2
SCALE_PROBABILITY = 0.2


def draw_affine(rng: np.random.Generator, plan: AugmentationPlan) -> np.ndarray | None:
    """Draw a (3, 3) map from output to input offsets (z, y, x) about the patch centre; None is the identity.

    Angles are uniform; zoom factors are drawn with equal weight below and above 1.
    """
    rotate, scale = rng.random() < ROTATION_PROBABILITY, rng.random() < SCALE_PROBABILITY
    if not (rotate or scale):
        return None
    matrix = np.eye(3)
    if rotate:
        for axis, largest in enumerate(plan.rotation_degrees):
            matrix = matrix @ rotation(axis, math.radians(rng.uniform(-largest, largest)))
    if scale:
        low, high = plan.scale
        factor = rng.uniform(low, 1) if rng.random() < 0.5 else rng.uniform(1, high)
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
    """Voxels to read so that the map of a patch falls inside: its bounding box, of the patch's parity.

    Equal parity keeps the two centres on the same point.
    """
    if affine is None:
        return patch
    half = np.abs(affine) @ ((np.array(patch) - 1) / 2)
    z, y, x = (p + 2 * max(0, math.ceil(h - (p - 1) / 2)) if p > 1 else 1 for h, p in zip(half, patch, strict=True))
    return z, y, x


def apply_affine(
    image: torch.Tensor, label: torch.Tensor, affine: np.ndarray, patch: tuple[int, int, int]
) -> tuple[torch.Tensor, torch.Tensor]:
    """Sample image (C, Z, Y, X) linearly and label (Z, Y, X), or several maps (L, Z, Y, X), by nearest voxel.

    Both come out on the patch. Beyond what was read the image is 0 and the label -1 (outside the case).
    """
    grid = _grid(affine, patch, tuple(image.shape[1:]), image.device)
    moved = grid_sample(image[None], grid, mode="bilinear", align_corners=True)[0]
    # Zero padding of label + 1 is -1 in the label.
    shifted = (label + 1).float().reshape(1, -1, *image.shape[1:])
    shifted = grid_sample(shifted, grid, mode="nearest", align_corners=True)
    return moved, shifted.to(label.dtype).view(*label.shape[:-3], *patch) - 1


def _grid(affine: np.ndarray, patch: tuple[int, ...], read: tuple[int, ...], device: torch.device) -> torch.Tensor:
    """Sampling positions (1, Z, Y, X, 3) in grid_sample's units: x first, -1..1 from first to last voxel centre."""
    half = [(n - 1) / 2 or 1.0 for n in read]
    # One row an input axis, scaled; columns act on output offsets. x, y, z is grid_sample's order.
    scaled = torch.tensor(affine / np.array(half)[:, None], dtype=torch.float32, device=device).flip(0)
    z, y, x = (torch.arange(n, device=device, dtype=torch.float32) - (n - 1) / 2 for n in patch)
    along = [axis[..., None] * scaled[:, i] for i, axis in enumerate((z, y, x))]
    return (along[0][:, None, None] + along[1][None, :, None] + along[2][None, None])[None]
