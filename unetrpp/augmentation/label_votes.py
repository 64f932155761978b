"""Labels at positions between voxels: the arg-max of linearly interpolated one-hot maps, without making these maps.

The up to eight voxels around a position vote with their linear weights. Where they all have one label, it is the result;
only positions at boundaries need the sums. So the number of classes does not matter. nnU-Net 2.8.1 defines the same result.
"""

from collections.abc import Sequence

import torch

BOUNDARY = -(1 << 14)  # added to the label of a voxel whose next voxels have other labels; makes it negative
TIE = 2.5e-4  # smallest lead in the sum of weights that counts; else the nearest voxel's label wins. nnU-Net sums in float16
PART = 1 << 15  # positions that vote at a time on a CPU


class Vote:
    """The labels of n positions in one map of labels, which are added in parts and voted on together.

    Args:
        labels: (Z, Y, X) int16.
        steps: from a voxel to the next one in the flat map, for every axis along which positions lie between voxels.
        result: (n,) int16, filled by :meth:`add` and :meth:`settle`.
    """

    def __init__(self, labels: torch.Tensor, steps: Sequence[int], result: torch.Tensor):
        self.labels, self.steps, self.result = labels.reshape(-1), steps, result
        self.marked = mark_boundaries(self.labels, steps)
        self.open: list[
            list[torch.Tensor]
        ] = []  # at boundaries: place in the result, lowest corner, weights of the axes

    def add(self, start: int, index: torch.Tensor, weights: Sequence[torch.Tensor]) -> None:
        """The next positions (m,), from ``start``: their lowest corners, and the weights of the next voxel of every axis."""
        chosen = self.marked.index_select(0, index)
        self.result[start : start + len(index)] = chosen
        at = _where(chosen < BOUNDARY // 2)
        self.open.append([at + start, *(values.index_select(0, at) for values in (index, *weights))])

    def settle(self) -> None:
        """Vote at the boundaries."""
        place, index, *weights = (torch.cat(parts) for parts in zip(*self.open, strict=True))
        size = PART if place.device.type == "cpu" else max(1, len(place))
        for part in zip(*(values.split(size) for values in (place, index, *weights)), strict=True):
            self.result[part[0]] = _elect(self.labels, part[1], list(zip(self.steps, part[2:], strict=True)))


def _where(condition: torch.Tensor) -> torch.Tensor:
    """Where (n,) is true, as indices; everywhere on a GPU, or the host would have to wait for the count."""
    on_cpu = condition.device.type == "cpu"
    return condition.nonzero().view(-1) if on_cpu else torch.arange(len(condition), device=condition.device)


def mark_boundaries(labels: torch.Tensor, steps: Sequence[int]) -> torch.Tensor:
    """Flat labels (n,) int16, plus ``BOUNDARY`` where a voxel and the next ones by ``steps`` differ.

    Voxels at the end of an axis are compared with the next row; they are never the lowest corner of a position. Bits
    are compared, as torch compares int16 five times as slowly.
    """
    differs = torch.zeros_like(labels)
    for step in steps:
        n = len(differs) - step
        differs = (differs[:n] | differs[step:]).bitwise_or_(labels[:n] ^ labels[step : n + step])
    marked = labels.clone()
    marked[: len(differs)] += differs.bool().to(labels.dtype).mul_(BOUNDARY)
    return marked


def _elect(labels: torch.Tensor, index: torch.Tensor, axes: Sequence[tuple[int, torch.Tensor]]) -> torch.Tensor:
    """The labels (n,) with the largest sums of weights at the lowest corners ``index``."""
    corners, nearest_corner = [index], index
    for step, weights in axes:
        corners = [corner + offset for corner in corners for offset in (0, step)]
        nearest_corner = nearest_corner + step * (weights > 0.5)
    candidates = [labels.index_select(0, corner) for corner in corners]
    nearest = labels.index_select(0, nearest_corner)
    share = _share(nearest, candidates, [weights for _, weights in axes])
    lost = _where(share < 0.5 - TIE)  # here another label may have more
    weights_here = [weights.index_select(0, lost) for _, weights in axes]
    others = [candidate.index_select(0, lost) for candidate in candidates]
    most, first = torch.stack([_share(other, others, weights_here) for other in others]).max(0)
    winner = torch.stack(others).gather(0, first[None])[0]
    nearest[lost] = torch.where(share[lost] < most - TIE, winner, nearest[lost])
    return nearest


def _share(label: torch.Tensor, candidates: Sequence[torch.Tensor], weights: Sequence[torch.Tensor]) -> torch.Tensor:
    """The sum (n,) of the weights of the corners that have the label."""
    shares = [(candidate == label).float() for candidate in candidates]
    for along in reversed(weights):
        shares = [low.lerp_(high, along) for low, high in zip(shares[::2], shares[1::2], strict=True)]
    return shares[0]
