"""Labels at positions between voxels: the arg-max of linearly interpolated one-hot maps, without making these maps.

The up to eight voxels around a position vote with their linear weights. Where they all have one label, it is the result;
only positions at boundaries need the sums. So the number of classes does not matter. nnU-Net 2.8.1 defines the same result.
"""

from collections.abc import Sequence

import torch

BOUNDARY = -(1 << 14)  # added to the label of a voxel whose next voxels have other labels; makes it negative
TIE = 2.5e-4  # smallest lead in the sum of weights that counts; else the nearest voxel's label wins. nnU-Net sums in float16

PART = 1 << 14  # positions that vote at a time on a CPU

Axis = tuple[int, torch.Tensor]


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


def vote(labels: torch.Tensor, marked: torch.Tensor, index: torch.Tensor, axes: Sequence[Axis]) -> torch.Tensor:
    """The labels (n,) of n positions.

    Args:
        labels, marked: flat, from :func:`mark_boundaries`.
        index: (n,) of each position's lowest corner.
        axes: step to the next voxel and its weights (n,), for every axis that moves.
    """
    chosen = marked.index_select(0, index)
    for part in _where(chosen < BOUNDARY // 2):
        chosen[part] = _elect(labels, index[part], [(step, weights[part]) for step, weights in axes])
    return chosen


def _where(condition: torch.Tensor) -> Sequence[torch.Tensor | slice]:
    """Where (n,) is true, in parts that stay in a CPU's cache; everywhere on a GPU, or the host would wait for the count."""
    return condition.nonzero().view(-1).split(PART) if condition.device.type == "cpu" else [slice(None)]


def _elect(labels: torch.Tensor, index: torch.Tensor, axes: Sequence[Axis]) -> torch.Tensor:
    corners, nearest_corner = [index], index
    for step, weights in axes:
        corners = [corner + offset for corner in corners for offset in (0, step)]
        nearest_corner = nearest_corner + step * (weights > 0.5)
    candidates = [labels.index_select(0, corner) for corner in corners]
    nearest = labels.index_select(0, nearest_corner)
    share = _share(nearest, candidates, [weights for _, weights in axes])
    for part in _where(share < 0.5 - TIE):
        weights_here = [weights[part] for _, weights in axes]
        others = [candidate[part] for candidate in candidates]
        most, first = torch.stack([_share(other, others, weights_here) for other in others]).max(0)
        winner = torch.stack(others).gather(0, first[None])[0]
        nearest[part] = torch.where(share[part] < most - TIE, winner, nearest[part])
    return nearest


def _share(label: torch.Tensor, candidates: Sequence[torch.Tensor], weights: Sequence[torch.Tensor]) -> torch.Tensor:
    """The sum (n,) of the weights of the corners that have the label."""
    shares = [(candidate == label).float() for candidate in candidates]
    for along in reversed(weights):
        shares = [low.lerp_(high, along) for low, high in zip(shares[::2], shares[1::2], strict=True)]
    return shares[0]
