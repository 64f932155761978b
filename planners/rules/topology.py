"""Network topology: from spacing and median shape to patch, strides and kernels (nnU-Net v2's rules 4 and 5).

Isensee et al. 2021 (Nature Methods 18), as nnU-Net 2.8.1 applies it; docs/planning.md has the numbers of the rules.
"""

import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from unetrpp.core.errors import UserError
from unetrpp.core.text import counted, format_shape
from unetrpp.plans.plans import Decision

SMALLEST_MAP = 4  # voxels: the shortest edge that pooling may leave
INITIAL_EDGE = {2: 2048, 3: 256}  # the first patch has this edge's area or volume, by dimensions
CLOSE = 2  # axes whose spacing is less than this factor above the smallest are pooled together
ROUNDING = 1e-3  # share by which a spacing must be below that, so that a header's rounding decides nothing


class Topology(NamedTuple):
    """Strides of the stages after the first, kernels of all stages, and the patch padded to what they divide."""

    patch: tuple[int, ...]
    strides: tuple[tuple[int, ...], ...]
    kernels: tuple[tuple[int, ...], ...]

    @property
    def divisors(self) -> tuple[int, ...]:
        """Product of the strides of each axis, of which a patch must be a multiple.

        >>> Topology((16, 16), ((1, 2), (2, 2)), ((1, 3), (3, 3), (3, 3))).divisors
        (2, 4)
        """
        return tuple(math.prod(axis) for axis in zip((1,) * len(self.patch), *self.strides, strict=True))


def pool(patch: Sequence[float], spacing: Sequence[float]) -> Topology:
    """Halve the axes that are long enough and of nearly the finest spacing, until none is left (rule 5).

    Args:
        patch: voxels per axis (a median may have half a voxel); the result's is padded up to a multiple of its divisors.
        spacing: mm per axis.
    """
    sizes, spacings = list(patch), list(spacing)
    kernel = [1] * len(sizes)
    strides, kernels = [], []
    while axes := _axes_to_pool(sizes, spacings):
        for axis, mm in enumerate(spacings):
            if _is_close(mm, min(spacings)):
                kernel[axis] = 3
        kernels.append(tuple(kernel))
        strides.append(tuple(2 if axis in axes else 1 for axis in range(len(sizes))))
        for axis in axes:
            spacings[axis] *= 2
            sizes[axis] = math.ceil(sizes[axis] / 2)
    kernels.append((3,) * len(sizes))
    topology = Topology(tuple(math.ceil(n) for n in patch), tuple(strides), tuple(kernels))
    return topology._replace(patch=padded(topology.patch, topology.divisors))


def topology_of(patch: tuple[int, ...], spacing: Sequence[float]) -> Topology:
    """The strides of the patch that the user asked for.

    Raises:
        UserError: the patch has another number of axes, or is not a multiple of what its pooling needs.
    """
    if len(patch) != len(spacing):
        raise UserError(
            f"--patch has {counted(len(patch), 'axis', 'axes')}, but the configuration has {len(spacing)}; give one per axis"
        )
    topology = pool(patch, spacing)
    if topology.patch != patch:
        larger, divisors = format_shape(topology.patch), format_shape(topology.divisors)
        raise UserError(
            f"--patch {format_shape(patch)} is not a multiple of {divisors}, which downsampling needs; use {larger}"
        )
    return topology


def downsampling_decision(
    topology: Topology, spacing: str, *, published: str | None = None, unit: str = "voxels"
) -> Decision:
    """
    Args:
        spacing: of the patch's axes, in words.
        published: the preset with which the strides were published.
        unit: what a patch consists of: voxels, or pixels.
    """
    steps = ", ".join(format_shape(stride) for stride in topology.strides) or "none"
    smallest = tuple(n // d for n, d in zip(topology.patch, topology.divisors, strict=True))
    why = f"published for {published}"
    if published is None:
        why = (
            f"a step halves the axes with at least {2 * SMALLEST_MAP} {unit} whose spacing is within a factor {CLOSE} of the finest "
            f"(at first {spacing}); a single axis needs {3 * SMALLEST_MAP} {unit}"
        )
    return Decision(about="downsampling", value=steps, why=f"{why}; the deepest level has {format_shape(smallest)}")


def _axes_to_pool(sizes: list[float], spacings: list[float]) -> list[int]:
    long_enough = [axis for axis, n in enumerate(sizes) if n >= 2 * SMALLEST_MAP]
    if not long_enough:
        return []
    finest = min(spacings[axis] for axis in long_enough)
    axes = [axis for axis in long_enough if _is_close(spacings[axis], finest)]
    # A lone axis is pooled only where that leaves it clearly above the smallest map.
    return [] if len(axes) == 1 and sizes[axes[0]] < 3 * SMALLEST_MAP else axes


def _is_close(mm: float, finest: float) -> bool:
    return mm < CLOSE * (1 - ROUNDING) * finest


def padded(shape: Sequence[int], divisors: Sequence[int]) -> tuple[int, ...]:
    """
    >>> padded((36, 50, 35), (8, 8, 8))
    (40, 56, 40)
    """
    return tuple(math.ceil(n / d) * d for n, d in zip(shape, divisors, strict=True))


def initial_patch(spacing: Sequence[float], median_shape: Sequence[float]) -> tuple[float, ...]:
    """A patch that is cubic in mm and has 256^3 voxels (2D: 2048^2), clipped to the median image (rule 4).

    Half a voxel of the median stays, as in nnU-Net: it may decide whether an axis is long enough to be halved.

    >>> initial_patch((1.0, 1.0, 1.0), (138, 300, 138))
    (138, 256, 138)
    """
    edge = INITIAL_EDGE[len(spacing)] * math.prod(spacing) ** (1 / len(spacing))
    return tuple(max(1, min(round(edge / mm), n)) for mm, n in zip(spacing, median_shape, strict=True))


def candidates(spacing: Sequence[float], median_shape: Sequence[float], clip: bool) -> Iterator[Topology]:
    """The topologies of ever smaller patches, largest first (rule 7's shrinking).

    The axis that covers most of the median image is reduced by its divisor; the divisor is the one that holds after a
    trial subtraction, because valid sizes would be skipped otherwise.

    Args:
        clip: keep every axis within the median image padded to its divisor, and start with its whole voxels (ours);
            nnU-Net's patch may exceed the image, and starts with half a voxel of the median.
    """
    first = initial_patch(spacing, median_shape)
    topology = _bounded(pool([int(n) for n in first] if clip else first, spacing), spacing, median_shape, clip)
    while True:
        yield topology
        cover = [n / m for n, m in zip(topology.patch, median_shape, strict=True)]
        order = sorted(range(len(cover)), key=lambda axis: (cover[axis], axis), reverse=True)  # a tie: the later axis
        smaller = next((t for axis in order if (t := _reduced(topology, axis, spacing)) is not None), None)
        if smaller is None:
            return
        topology = _bounded(smaller, spacing, median_shape, clip)


def _reduced(topology: Topology, axis: int, spacing: Sequence[float]) -> Topology | None:
    trial = _minus(topology.patch, axis, topology.divisors[axis])
    if trial is None:
        return None
    patch = _minus(topology.patch, axis, pool(trial, spacing).divisors[axis])
    return None if patch is None else pool(patch, spacing)


def _minus(patch: tuple[int, ...], axis: int, step: int) -> tuple[int, ...] | None:
    """One axis shortened; None where nothing would be left of it."""
    length = patch[axis] - step
    return (*patch[:axis], length, *patch[axis + 1 :]) if length >= 1 else None


def _bounded(topology: Topology, spacing: Sequence[float], median_shape: Sequence[float], clip: bool) -> Topology:
    limit = padded([math.ceil(m) for m in median_shape], topology.divisors)
    patch = tuple(min(n, m) for n, m in zip(topology.patch, limit, strict=True))
    return (
        topology if not clip or patch == topology.patch else _bounded(pool(patch, spacing), spacing, median_shape, clip)
    )
