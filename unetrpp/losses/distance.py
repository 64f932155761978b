"""Focal distance penalty (ours): weights of voxels that grow near the boundary of a class, or far from it, in mm.

The distance maps are computed axis by axis on the training device, exact up to a reach, and without gradient.
"""

import math
from collections.abc import Iterator, Sequence
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn

from unetrpp.core.devices import to_device

MANY_CLASSES = 16  # with more of them in a patch, one map over the union of all boundaries serves every class
RAMP = 0.2  # share of the training over which the penalty grows to full strength

# Voxels of class maps that are computed together: on a GPU one operator for many maps costs less than many operators, and
# 2 ** 22 voxels take about 100 MB. On a CPU every map is computed in its own box, which is the least work.
TOGETHER = {"cpu": 0}
TOGETHER_ELSEWHERE = 2**22

Extent = tuple[tuple[int, int], ...]  # first and last voxel along each axis


class ClassMap(NamedTuple):
    """A class of a sample whose boundary voxels are weighted."""

    sample: int
    channel: int
    box: tuple[tuple[int, int], ...]  # start and stop along each axis: the extent, grown by the reach
    scale_mm: float
    spacing_mm: tuple[float, ...]


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
        maps = []
        for sample, classes in enumerate(weighable(onehot, valid)):
            if len(classes) > MANY_CLASSES:
                scale = sorted(self.scales_mm)[len(self.scales_mm) // 2]
                spacing, reach = self._grid(scale)
                distance = union_distance(onehot[sample], valid[sample, 0], spacing, reach)
                added = strength * self._phi(distance, scale, min(spacing)) ** self.gamma
                for c in classes:
                    weights[sample, c] += added
                continue
            for c, extent in classes.items():
                scale = self._scale(sample, c, onehot.shape[1])
                spacing, reach = self._grid(scale)
                box = _grown_box(extent, onehot.shape[2:], spacing, reach)
                maps.append(ClassMap(sample, c, box, scale, spacing))
        for group in grouped(maps, TOGETHER.get(onehot.device.type, TOGETHER_ELSEWHERE)):
            self._weigh(weights, onehot, valid, group=group, strength=strength)
        return weights

    def _weigh(
        self, weights: Tensor, onehot: Tensor, valid: Tensor, *, group: Sequence[ClassMap], strength: float
    ) -> None:
        """Fill in the weights of class maps that are computed together."""
        windows = common_windows([m.box for m in group], onehot.shape[2:])
        inside = torch.stack([onehot[m.sample, m.channel][window] for m, window in zip(group, windows, strict=True)])
        known = torch.stack([valid[m.sample, 0][window] for m, window in zip(group, windows, strict=True)])
        distance = boundary_distance(
            inside, known, [m.spacing_mm for m in group], [self._grid(m.scale_mm)[1] for m in group]
        )
        table = torch.tensor([(m.scale_mm, min(m.spacing_mm)) for m in group])
        scale, nearest = to_device(table, onehot.device).T.reshape(2, -1, *(1,) * (inside.ndim - 1))
        added = strength * self._phi(distance, scale, nearest) ** self.gamma
        for m, window, each in zip(group, windows, added, strict=True):
            if self.mode == "far":
                weights[m.sample, m.channel] = 1 + strength  # beyond the reach
            weights[m.sample, m.channel][window] = 1 + each

    def _scale(self, sample: int, c: int, channels: int) -> float:
        return self.scales_mm[(sample * (channels - 1) + c - 1) % len(self.scales_mm)]

    def _grid(self, scale_mm: float) -> tuple[tuple[float, ...], float]:
        """Spacing in mm, and the reach up to which distances must be exact.

        Spacing is capped so that the voxels beside a boundary have a weight along a coarse axis, too.
        """
        spacing = tuple(min(s, scale_mm / 1.5) for s in self.spacing_mm)
        return spacing, scale_mm + min(spacing)

    def _phi(self, distance: Tensor, scale_mm: Tensor | float, nearest_mm: Tensor | float) -> Tensor:
        """Phi of a distance in mm. near: 1 beside the boundary (``nearest_mm``), falling to 0. far: 0 at the boundary, rising to 1."""
        if self.mode == "far":
            return (distance / scale_mm).clamp(0, 1)
        return (1 - (distance - nearest_mm) / scale_mm).clamp(0, 1)


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


def grouped(maps: Sequence[ClassMap], voxels: int) -> Iterator[list[ClassMap]]:
    """Consecutive maps, as many as have together no more than ``voxels`` in windows of one size, and at least one."""
    group: list[ClassMap] = []
    for each in maps:
        size = [
            max(stop - start for start, stop in axis) for axis in zip(*(m.box for m in [*group, each]), strict=True)
        ]
        if group and (len(group) + 1) * math.prod(size) > voxels:
            yield group
            group = []
        group = [*group, each]
    if group:
        yield group


def common_windows(boxes: Sequence[Extent], shape: Sequence[int]) -> list[tuple[slice, ...]]:
    """Around every box (start and stop along each axis) a window within ``shape``, all of the same size."""
    sizes = [max(stop - start for start, stop in axis) for axis in zip(*boxes, strict=True)]
    starts = [[min(start, n - size) for (start, _), n, size in zip(box, shape, sizes, strict=True)] for box in boxes]
    return [tuple(slice(at, at + size) for at, size in zip(start, sizes, strict=True)) for start in starts]


def boundary_distance(
    inside: Tensor, valid: Tensor, spacings_mm: Sequence[Sequence[float]], reaches_mm: Sequence[float]
) -> Tensor:
    """Distance in mm of every voxel to the other side of its mask's boundary; inf beyond the mask's reach.

    ``inside`` and ``valid`` are N masks (N, *patch), each with a spacing and a reach of its own.
    """
    sides = torch.cat([inside, valid & ~inside])
    to_mask, to_other = truncated_distance(sides, [*spacings_mm] * 2, [*reaches_mm] * 2).chunk(2)
    return torch.where(inside, to_other, to_mask)


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
    return truncated_distance(sources[None], [spacing_mm], [reach_mm])[0] + min(spacing_mm)


def truncated_distance(sources: Tensor, spacings_mm: Sequence[Sequence[float]], reaches_mm: Sequence[float]) -> Tensor:
    """Euclidean distance in mm to the nearest source, exact up to the reach and inf beyond.

    ``sources`` (N, *patch) bool -> (N, *patch) float32, each with a spacing and a reach of its own. Along one axis after the
    other, the squared distance becomes the minimum over offsets o of D + (o s)^2, s being the spacing.
    """
    axes = range(1, sources.ndim)
    counts = [
        min(
            sources.shape[axis] - 1,
            max(math.ceil(r / s[axis - 1]) for s, r in zip(spacings_mm, reaches_mm, strict=True)),
        )
        for axis in axes
    ]
    costs = [
        [(offset * s[axis - 1]) ** 2 for s in spacings_mm]
        for axis, count in zip(axes, counts, strict=True)
        for offset in range(1, count + 1)
    ]
    table = to_device(torch.tensor([*costs, reaches_mm]), sources.device)
    *rows, reach = table.reshape(len(table), -1, *(1,) * (sources.ndim - 1))
    cost = iter(rows)
    square = torch.where(sources, 0.0, torch.inf)
    for axis, count in zip(axes, counts, strict=True):
        size = square.shape[axis]
        nearest = square.clone()
        for offset in range(1, count + 1):
            moved = square + next(cost)
            for target, source in ((0, offset), (offset, 0)):
                view = nearest.narrow(axis, target, size - offset)
                torch.minimum(view, moved.narrow(axis, source, size - offset), out=view)
        square = nearest
    distance = square.sqrt()
    return distance.masked_fill(distance > reach, torch.inf)


def _grown_box(extent: Extent, shape: Sequence[int], spacing_mm: Sequence[float], reach_mm: float) -> Extent:
    """Start and stop along each axis of the extent, grown by the reach within ``shape``."""
    margins = [math.ceil(reach_mm / spacing) for spacing in spacing_mm]
    return tuple(
        (max(0, first - m), min(n, last + m + 1)) for (first, last), n, m in zip(extent, shape, margins, strict=True)
    )
