"""Patch size and batch size: what fits the GPU's memory, by nnU-Net's proxy or by the network's own training step."""

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

from unetrpp.core.text import GIGABYTE, counted, format_bytes, format_shape
from unetrpp.networks.training_memory import FIXED_GB, MARGIN, TrainingMemory, training_memory, usable_bytes
from unetrpp.planners.options import Options
from unetrpp.planners.rules.element_budget import (
    LARGEST_SHARE,
    PLAIN,
    SMALLEST_BATCH,
    ElementBudget,
    feature_map_elements,
)
from unetrpp.planners.rules.spacing import TargetGrid
from unetrpp.planners.rules.topology import INITIAL_EDGE, Topology
from unetrpp.planners.rules.wording import amount
from unetrpp.plans.architecture import Architecture
from unetrpp.plans.plans import Decision

DEFAULT_GPU_GB = 8.0  # nnU-Net's; the GPU of this machine does not count, so that every machine makes the same plans
NETWORKS_STEP = "a training step of this network in bf16"


class Fit(NamedTuple):
    """The patch that fits the memory budget."""

    topology: Topology
    batch_size: int  # that memory alone allows
    tried: int  # topologies, the chosen one included
    memory: TrainingMemory
    budget: str  # for a decision's reason
    measured_by: str  # for a decision's reason
    fits: bool = True  # False: not even the smallest patch does
    limit: str = "memory"  # what allows the batch, for a decision's reason
    largest_share: float = LARGEST_SHARE  # of the dataset's voxels that one batch may hold
    checkpointing: str | None = None  # why stages are computed again in the backward pass; None: they are not

    def bytes_of(self, batch_size: int) -> int:
        """Estimated memory of a training step."""
        return round(self.memory.of(batch_size))


def fit_by_proxy(
    topologies: Sequence[Topology],
    outputs: int,
    *,
    of: ElementBudget = PLAIN,
    gpu_memory_gb: float | None = None,
    batch_size: int | None = None,
) -> Fit:
    """The first (largest) topology whose feature maps are within a budget at the requested batch; if none is, the last.

    Args:
        of: the budget, which also has the smallest batch.
        gpu_memory_gb: of another card than the budget's.
    """
    dimensions = len(topologies[0].patch)
    memory = gpu_memory_gb or of.gigabytes
    allowed = of.allowed(dimensions, memory)
    batch = max(batch_size or 0, of.least_batch[dimensions])
    elements = [feature_map_elements(topology, outputs, of.residual) for topology in topologies]
    chosen = next((i for i, n in enumerate(elements) if n * batch <= allowed), len(topologies) - 1)
    return Fit(
        topology=topologies[chosen],
        batch_size=round(allowed / elements[chosen]),
        tried=chosen + 1,
        memory=TrainingMemory(0.0, elements[chosen] / allowed * memory * GIGABYTE),
        budget=f"{memory:g} GB{_source(gpu_memory_gb)} at batch {batch}",
        measured_by="nnU-Net's count of feature-map elements",
        fits=elements[chosen] * batch <= allowed,
        largest_share=of.largest_share,
    )


def fit_by_cost(
    topologies: Sequence[Topology],
    architecture: Callable[[Topology], Architecture],
    outputs: int,
    *,
    gpu_memory_gb: float | None = None,
    batch_size: int | None = None,
) -> Fit:
    """The largest topology whose training step fits the GPU, by :func:`unetrpp.networks.training_memory.training_memory`.

    An estimate may take seconds, so few are made: starting with the proxy's choice, the feature-map elements predict
    the largest patch that fits, until a prediction repeats one that was estimated.
    """
    memory = gpu_memory_gb or DEFAULT_GPU_GB
    allowed = usable_bytes(memory)
    batch = max(batch_size or 0, SMALLEST_BATCH)
    elements = [feature_map_elements(topology, outputs) for topology in topologies]
    too_large, fits = -1, len(topologies) - 1  # ever smaller patches; the last is taken where none fits
    probe = fit_by_proxy(topologies, outputs, gpu_memory_gb=memory, batch_size=batch_size).tried - 1
    estimates: dict[int, TrainingMemory] = {}
    while probe not in estimates:
        estimates[probe] = step = training_memory(architecture(topologies[probe]))
        if step.of(batch) <= allowed:
            fits = probe
        else:
            too_large = probe
        scale = step.a_patch / elements[probe]
        predicted = next((i for i, n in enumerate(elements) if step.fixed + batch * scale * n <= allowed), fits)
        probe = min(max(predicted, too_large + 1), fits)
    step = estimates[probe]
    return Fit(
        topology=topologies[probe],
        batch_size=max(1, int((allowed - step.fixed) / step.a_patch)),
        tried=probe + 1,
        memory=step,
        budget=f"{memory:g} GB{_source(gpu_memory_gb)} less {MARGIN:.0%} and {FIXED_GB:g} GB at batch {batch}",
        measured_by=NETWORKS_STEP,
        fits=step.of(batch) <= allowed,
    )


def _source(asked: float | None) -> str:
    """Where the size of the memory comes from, for a reason."""
    return "" if asked else " (the default, nnU-Net's; --gpu-memory-gb plans for another GPU)"


def patch_decision(
    options: Options, topologies: Sequence[Topology], fit: Fit, median_shape: Sequence[float], *, grid: TargetGrid
) -> Decision:
    """
    Args:
        median_shape: voxels of the median image along the patch's axes.
        grid: names its unit of lengths and its voxels.
    """
    patch = fit.topology.patch
    if options.patch is not None or options.published is not None:
        why = f"published for {options.published}" if options.published else "asked for"
        why = f"{why}; at batch {SMALLEST_BATCH} it needs {format_bytes(fit.bytes_of(SMALLEST_BATCH))}"
    elif not fit.fits:
        why = f"the smallest patch, which still does not fit {fit.budget}"
    elif fit.tried > 1:
        steps, first = counted(fit.tried - 1, "step"), format_shape(topologies[0].patch)
        why = f"the largest patch of the median image's proportions that fits {fit.budget}; reduced from {first} in {steps}"
    else:
        why = f"not reduced: {_largest(fit.topology, median_shape, grid)} fits {fit.budget}"
    return Decision(about="patch", value=format_shape(patch), why=why)


def _largest(topology: Topology, median_shape: Sequence[float], grid: TargetGrid) -> str:
    """What the first patch is: the median image, or as much of it as the first patch may have."""
    patch, image = topology.patch, format_shape(median_shape)
    if any(n < int(m) for n, m in zip(patch, median_shape, strict=True)):
        edge = INITIAL_EDGE[len(patch)]
        form = ("square" if len(patch) == 2 else "cubic") + (" in mm" if grid.unit == "mm" else "")
        size = f"{edge}^{len(patch)} {grid.voxel_name}"
        return f"the largest patch considered ({size}, {form}, within the median image's {image})"
    larger = any(n > m for n, m in zip(patch, median_shape, strict=True))
    reason = f", padded from {image} to multiples of {format_shape(topology.divisors)}," if larger else ""
    return f"the whole median image{reason}"


def plan_batch(options: Options, fit: Fit, voxels: float, *, unit: str = "voxels") -> tuple[int, Decision]:
    """What the user requested, else what memory allows, at most 5% of the dataset's ``voxels``, at least 2.

    Args:
        unit: what the dataset consists of: voxels, or pixels.
    """
    share = voxels * fit.largest_share / math.prod(fit.topology.patch)
    cap = max(SMALLEST_BATCH, round(share))
    batch = options.batch_size or max(SMALLEST_BATCH, min(fit.batch_size, cap))
    part = "all" if fit.largest_share == 1 else f"{fit.largest_share:.0%}"
    noun = "patch" if amount(share) == "1" else "patches"
    data, allows = f"{part} of the dataset's {unit} are {amount(share)} {noun}", f"{fit.limit} allows {fit.batch_size}"
    if options.batch_size is not None:
        why = f"asked for; {allows}, {data}"
    elif fit.batch_size < SMALLEST_BATCH:
        why = f"{allows}, so the floor of {SMALLEST_BATCH} is taken; {data}"
    elif fit.batch_size <= cap and share >= fit.batch_size:
        why = f"{allows}; {data} and would allow as many"
    elif share < SMALLEST_BATCH:
        why = f"{data}, so the floor of {SMALLEST_BATCH} is taken; {allows}"
    else:
        why = f"{data}; {allows}"
    memory = format_bytes(fit.bytes_of(batch))
    return batch, Decision(about="batch size", value=str(batch), why=f"{why}; {memory} estimated ({fit.measured_by})")
