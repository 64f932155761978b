"""Focal distance penalty (ours): weights of voxels that grow near the boundary of a class, or far from it, in mm.

The distance maps are computed axis by axis on the training device, exact up to a reach, and without gradient.
"""

import math
from collections.abc import Iterator, Sequence
from typing import Literal

import torch
from torch import Tensor, nn

MANY_CLASSES = 16  # with more of them in a patch, one map over the union of all boundaries serves every class
RAMP = 0.2  # share of the training over which the penalty grows to full strength

Extent = tuple[tuple[int, int], ...]  # first and last voxel along each axis


class BoundaryWeights(nn.Module):
    """w_c = 1 + kappa Phi_c^gamma for every foreground class; background has 1 (docs/focal_attention.md).

    ``progress`` is the share of the training that is done; over the first fifth kappa grows from 0 to ``strength``.

    Args:
        scales_mm: tau of every foreground class, or of every region. With regions the batch axis must run fastest over
            the regions, as :func:`unetrpp.losses.unified_focal.as_two_classes` orders it.
        spacing_mm: one value for every axis of the patch.
        mode: weight voxels "near" the boundary or "far" from it.
    """

    def __init__(
        self,
        scales_mm: Sequence[float],
        spacing_mm: Sequence[float],
        *,
        strength: float,
        gamma: float,
        mode: Literal["near", "far"],
    ):
        super().__init__()
        self.scales_mm = tuple(scales_mm)
        self.spacing_mm = tuple(spacing_mm)
        self.strength = strength
        self.gamma = gamma
        self.mode = mode
        self.progress = 1.0

    @torch.no_grad()
    def forward(self, onehot: Tensor, valid: Tensor) -> Tensor | None:
        """Weights (B, C, *patch) float32 for ``onehot`` (B, C, *patch); None where nothing is weighted.

        ``valid`` (B, 1, *patch): voxels that are not valid are neither inside nor outside, so their border is no boundary.
        """
        strength = self.strength * min(1.0, self.progress / RAMP)
        if strength == 0 or self.gamma == 0:
            return None
        weights = torch.ones(onehot.shape, device=onehot.device)
        for sample, classes in enumerate(weighable(onehot, valid)):
            if len(classes) > MANY_CLASSES:
                scale = sorted(self.scales_mm)[len(self.scales_mm) // 2]
                spacing, reach = self._grid(scale)
                distance = union_distance(onehot[sample], valid[sample, 0], spacing, reach)
                added = strength * self._phi(distance, scale) ** self.gamma
                for c in classes:
                    weights[sample, c] += added
                continue
            for c, extent in classes.items():
                scale = self._scale(sample, c, onehot.shape[1])
                spacing, reach = self._grid(scale)
                mask, known = onehot[sample, c], valid[sample, 0]
                distance = boundary_distance(mask, known, extent, spacing_mm=spacing, reach_mm=reach)
                weights[sample, c] += strength * self._phi(distance, scale) ** self.gamma
        return weights

    def _scale(self, sample: int, c: int, channels: int) -> float:
        return self.scales_mm[(sample * (channels - 1) + c - 1) % len(self.scales_mm)]

    def _grid(self, scale_mm: float) -> tuple[tuple[float, ...], float]:
        """Spacing in mm, and the reach up to which distances must be exact.

        Spacing is capped so that the voxels beside a boundary have a weight along a coarse axis, too.
        """
        spacing = tuple(min(s, scale_mm / 1.5) for s in self.spacing_mm)
        return spacing, scale_mm + min(spacing)

    def _phi(self, distance: Tensor, scale_mm: float) -> Tensor:
        """Phi of a distance in mm. near: 1 beside the boundary, falling to 0. far: 0 at the boundary, rising to 1."""
        if self.mode == "far":
            return (distance / scale_mm).clamp(0, 1)
        nearest = min(self._grid(scale_mm)[0])
        return (1 - (distance - nearest) / scale_mm).clamp(0, 1)


def weighable(onehot: Tensor, valid: Tensor) -> list[dict[int, Extent]]:
    """The extents, in every sample, of the foreground classes that have a boundary: those that are present and do not
    fill the sample.

    The values are copied to the host in one transfer for all samples and classes.
    """
    counts, known = onehot.flatten(2).sum(-1), valid.flatten(1).sum(-1, keepdim=True)
    table = torch.stack([counts, known.expand_as(counts), *_ends(onehot)], dim=-1)
    return [
        {c: tuple(zip(ends[::2], ends[1::2], strict=True)) for c, (n, all_, *ends) in rows if c > 0 and 0 < n < all_}
        for rows in map(enumerate, table.tolist())
    ]


def _ends(onehot: Tensor) -> Iterator[Tensor]:
    """First and last voxel (B, C) of every class along one axis after the other."""
    axes = range(2, onehot.ndim)
    for axis in axes:
        n = onehot.shape[axis]
        present = onehot.amax([a for a in axes if a != axis])  # (B, C, n)
        position = torch.arange(n, device=onehot.device)
        yield torch.where(present, position, n).amin(-1)
        yield torch.where(present, position, -1).amax(-1)


def boundary_distance(
    mask: Tensor, valid: Tensor, extent: Extent, *, spacing_mm: Sequence[float], reach_mm: float
) -> Tensor:
    """Distance in mm of every voxel (*patch) to the other side of the mask's boundary; inf beyond ``reach_mm``.

    Only the box of the mask (``extent``), grown by the reach, is computed.
    """
    box = _grown_box(extent, spacing_mm, reach_mm)
    inside = mask[box]
    sides = torch.stack([inside, valid[box] & ~inside])
    to_mask, to_other = truncated_distance(sides, spacing_mm, reach_mm)
    distance = torch.full(mask.shape, torch.inf, device=mask.device)
    distance[box] = torch.where(inside, to_other, to_mask)
    return distance


def union_distance(onehot: Tensor, valid: Tensor, spacing_mm: Sequence[float], reach_mm: float) -> Tensor:
    """Distance in mm to any boundary between the classes of (C, *patch): one map (*patch).

    The sources of the map are the voxels on both sides of a boundary. The smallest spacing is added, since the other
    side is one voxel away from them.
    """
    index = torch.where(valid, onehot.byte().argmax(0), -1)
    sources = torch.zeros_like(valid)
    for axis in range(index.ndim):
        n = index.shape[axis] - 1
        left, right = index.narrow(axis, 0, n), index.narrow(axis, 1, n)
        differ = (left != right) & (left >= 0) & (right >= 0)
        sources.narrow(axis, 0, n).logical_or_(differ)
        sources.narrow(axis, 1, n).logical_or_(differ)
    return truncated_distance(sources[None], spacing_mm, reach_mm)[0] + min(spacing_mm)


def truncated_distance(sources: Tensor, spacing_mm: Sequence[float], reach_mm: float) -> Tensor:
    """Euclidean distance in mm to the nearest source, exact up to ``reach_mm`` and inf beyond.

    ``sources`` (N, *patch) bool -> (N, *patch) float32. Along one axis after the other, the squared distance becomes the
    minimum over offsets o of D + (o s)^2, s being the spacing.
    """
    square = torch.where(sources, 0.0, torch.inf)
    for axis, spacing in enumerate(spacing_mm, start=1):
        size = square.shape[axis]
        nearest = square.clone()
        for offset in range(1, min(math.ceil(reach_mm / spacing), size - 1) + 1):
            moved = square + (offset * spacing) ** 2
            for target, source in ((0, offset), (offset, 0)):
                view = nearest.narrow(axis, target, size - offset)
                torch.minimum(view, moved.narrow(axis, source, size - offset), out=view)
        square = nearest
    distance = square.sqrt()
    return distance.masked_fill(distance > reach_mm, torch.inf)


def _grown_box(extent: Extent, spacing_mm: Sequence[float], reach_mm: float) -> tuple[slice, ...]:
    box = []
    for (first, last), spacing in zip(extent, spacing_mm, strict=True):
        margin = math.ceil(reach_mm / spacing)
        box.append(slice(max(0, first - margin), last + margin + 1))
    return tuple(box)
