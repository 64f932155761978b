"""How large a patch and a batch may be: nnU-Net's proxy, or the bytes of a training step that networks/cost.py gives."""

import math
import os
import shutil
import subprocess
from collections.abc import Callable, Sequence
from typing import NamedTuple

from unetrpp.core.text import GIGABYTE
from unetrpp.networks.footprint import FULL, HALF, footprint
from unetrpp.planners.rules.topology import Topology
from unetrpp.plans.architecture import Architecture

SMALLEST_BATCH = 2
LARGEST_SHARE = 0.05  # of the dataset's voxels that one batch may hold
DEFAULT_GPU_GB = 8.0  # where no GPU is at hand
MARGIN = 0.1  # of the memory, for convolution workspaces and the allocator

# nnU-Net v2's proxy (rule 7): feature-map elements that fit a reference batch on a card of REFERENCE_GB.
REFERENCE_GB = 8.0
REFERENCE_ELEMENTS = {2: 85e6, 3: 560e6}
REFERENCE_BATCH = {2: 12, 3: 2}
FIRST_FEATURES = 32
MOST_FEATURES = {2: 512, 3: 320}
CONVS_A_STAGE = 2


class Fit(NamedTuple):
    """What fits the budget. ``batch_size`` is what memory alone allows; bytes are affine in the batch."""

    topology: Topology
    batch_size: int
    tried: int  # topologies, the chosen one included
    fixed_bytes: float
    bytes_a_patch: float
    budget: str  # for a decision's reason
    measured_by: str

    def bytes_of(self, batch_size: int) -> int:
        """Estimated memory of a training step."""
        return round(self.fixed_bytes + batch_size * self.bytes_a_patch)


def feature_map_elements(topology: Topology, outputs: int) -> float:
    """Elements of all feature maps of nnU-Net's plain U-Net for one patch, the measure of its budget.

    Two convolutions a stage in encoder and decoder, one transposed convolution a decoder stage, and the output.
    """
    dimensions = len(topology.patch)
    voxels = [math.prod(topology.patch)]
    for stride in topology.strides:
        voxels.append(voxels[-1] // math.prod(stride))
    features = [min(FIRST_FEATURES * 2**i, MOST_FEATURES[dimensions]) for i in range(len(voxels))]
    maps = [n * f for n, f in zip(voxels, features, strict=True)]
    encoder = CONVS_A_STAGE * sum(maps)
    decoder = (CONVS_A_STAGE + 1) * sum(maps[:-1])
    return encoder + decoder + outputs * voxels[0]


def fit_by_proxy(
    topologies: Sequence[Topology], outputs: int, gpu_memory_gb: float | None, batch_size: int | None
) -> Fit:
    """The first (largest) topology that nnU-Net's proxy lets through for the batch asked for, at least 2.

    Where none fits, the last one is taken.
    """
    dimensions = len(topologies[0].patch)
    memory = gpu_memory_gb or DEFAULT_GPU_GB
    reference = REFERENCE_ELEMENTS[dimensions] * REFERENCE_BATCH[dimensions]  # of all patches of a batch, on 8 GB
    allowed = reference * memory / REFERENCE_GB
    batch = max(batch_size or 0, SMALLEST_BATCH)
    elements = [feature_map_elements(topology, outputs) for topology in topologies]
    chosen = next((i for i, n in enumerate(elements) if n * batch <= allowed), len(topologies) - 1)
    return Fit(
        topology=topologies[chosen],
        batch_size=round(allowed / elements[chosen]),
        tried=chosen + 1,
        fixed_bytes=0.0,
        bytes_a_patch=elements[chosen] / reference * REFERENCE_GB * GIGABYTE,
        budget=f"{memory:g} GB at batch {batch}",
        measured_by="nnU-Net's count of feature-map elements",
    )


def fit_by_cost(
    topologies: Sequence[Topology],
    architecture: Callable[[Topology], Architecture],
    outputs: int,
    gpu_memory_gb: float | None,
    batch_size: int | None,
) -> Fit:
    """The largest topology whose training step fits the GPU, by the network's own estimate (:func:`step_bytes`).

    An estimate may take a second, so few are made: from the proxy's choice, the feature-map elements predict
    which patch is the largest that fits, until a prediction comes true.
    """
    memory = gpu_memory_gb or free_gpu_memory_gb() or DEFAULT_GPU_GB
    allowed = memory * (1 - MARGIN) * GIGABYTE
    batch = max(batch_size or 0, SMALLEST_BATCH)
    elements = [feature_map_elements(topology, outputs) for topology in topologies]
    too_large, fits = -1, len(topologies) - 1  # ever smaller patches; the last is taken where none fits
    probe, estimates = fit_by_proxy(topologies, outputs, memory, batch_size).tried - 1, {}
    while probe not in estimates:
        fixed, a_patch = estimates[probe] = step_bytes(architecture(topologies[probe]))
        if fixed + batch * a_patch <= allowed:
            fits = probe
        else:
            too_large = probe
        scale = a_patch / elements[probe]
        predicted = next((i for i, n in enumerate(elements) if fixed + batch * scale * n <= allowed), fits)
        probe = min(max(predicted, too_large + 1), fits)
    fixed, a_patch = estimates[probe]
    return Fit(
        topology=topologies[probe],
        batch_size=max(1, int((allowed - fixed) / a_patch)),
        tried=probe + 1,
        fixed_bytes=fixed,
        bytes_a_patch=a_patch,
        budget=f"{memory:g} GB less {MARGIN:.0%} at batch {batch}",
        measured_by="a training step of this network in bf16",
    )


def step_bytes(architecture: Architecture) -> tuple[float, float]:
    """Memory of a training step (bf16, SGD with momentum): bytes of weights and their states, and bytes a patch.

    In closed form where there is one: to import torch and try the step on tensors without values takes seconds.
    """
    counted = footprint(architecture)
    if counted is None:
        return _tried_step_bytes(architecture)
    weights = counted.parameters * (3 * FULL + HALF)  # weights, gradients, momentum, and a half-precision copy
    return float(weights), float(counted.kept + counted.temporary)


def _tried_step_bytes(architecture: Architecture) -> tuple[float, float]:
    """For any network that the builder knows."""
    import torch
    from torch._subclasses.fake_tensor import FakeTensorMode

    from unetrpp.networks.build import build_network
    from unetrpp.networks.cost import FLOAT32, reference_loss, step_memory

    with FakeTensorMode():
        network = build_network(architecture)
        patches = torch.empty(SMALLEST_BATCH, architecture.in_channels, *architecture.patch)
        peak = step_memory(network, patches, reference_loss, "bf16").peak
        weights = sum(p.numel() for p in network.parameters())
    return weights * FLOAT32 * 3.0, peak / SMALLEST_BATCH  # weights, gradients, momentum


def free_gpu_memory_gb() -> float | None:
    """Free memory of the first GPU that CUDA may use, None without one. NVIDIA's tool tells, so nothing is imported."""
    tool, visible = shutil.which("nvidia-smi"), os.environ.get("CUDA_VISIBLE_DEVICES")
    if tool is None or visible == "":
        return None
    query = [tool, "--query-gpu=memory.free", "--format=csv,noheader,nounits"]
    query += [f"--id={visible.split(',')[0]}"] if visible else []
    answer = subprocess.run(query, capture_output=True, text=True, check=False).stdout.split()
    return float(answer[0]) / 1024 if answer and answer[0].isdigit() else None
