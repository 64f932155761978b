"""nnU-Net's measure of GPU memory: the elements of all feature maps of a network, and how many a card may hold.

The figures are those of the planners of nnU-Net 2.8.1 (Isensee et al. 2021; ResEnc M, L and XL: Isensee et al. 2024). The
measure is neither bytes nor seconds; docs/planning.md compares it with what a training step needs.
"""

import math
from dataclasses import dataclass, field

from unetrpp.networks.design import FIRST_WIDTH, WIDEST, residual_depth
from unetrpp.planners.rules.topology import Topology

REFERENCE_BATCH = {2: 12, 3: 2}  # patches of a batch whose maps have the elements of a budget each, by dimensions
SMALLEST_BATCH = 2
LARGEST_SHARE = 0.05  # of the dataset's voxels that one batch may hold


@dataclass(frozen=True, kw_only=True)
class ElementBudget:
    """How many elements the feature maps of one training step may have on a card of ``gigabytes``."""

    of: str  # the network it was made for
    gigabytes: float
    elements: dict[int, float]  # of one patch of REFERENCE_BATCH, by dimensions
    residual: bool = False  # of the network whose maps are counted
    # Patches of a batch that must fit, by dimensions: a larger patch is not considered.
    least_batch: dict[int, int] = field(default_factory=lambda: {2: SMALLEST_BATCH, 3: SMALLEST_BATCH})
    largest_share: float = LARGEST_SHARE

    def allowed(self, dimensions: int, gigabytes: float | None = None) -> float:
        """Elements of a whole batch; linear in the memory of another card."""
        times = 1.0 if gigabytes is None else gigabytes / self.gigabytes
        return self.elements[dimensions] * REFERENCE_BATCH[dimensions] * times

    def reason(self, dimensions: int) -> str:
        """The budget in words.

        >>> RESENC["resenc-l"].reason(3)
        "nnU-Net 2.8.1's budget for ResEnc L, 2100 million feature-map elements a patch at batch 2 (24 GB)"
        """
        elements, batch = self.elements[dimensions] / 1e6, REFERENCE_BATCH[dimensions]
        return (
            f"nnU-Net 2.8.1's budget for {self.of}, {elements:.0f} million feature-map elements a patch at batch {batch} "
            f"({self.gigabytes:g} GB)"
        )


PLAIN = ElementBudget(of="its U-Net", gigabytes=8.0, elements={2: 85e6, 3: 560e6})


def _resenc(size: str, gigabytes: float, *, in_2d: float, in_3d: float) -> ElementBudget:
    return ElementBudget(
        of=f"ResEnc {size}",
        gigabytes=gigabytes,
        elements={2: in_2d, 3: in_3d},
        residual=True,
        least_batch=REFERENCE_BATCH,
        largest_share=1.0,
    )


RESENC = {
    "resenc-m": _resenc("M", 8.0, in_2d=1.35e8, in_3d=6.8e8),
    "resenc-l": _resenc("L", 24.0, in_2d=3.8e8, in_3d=2.1e9),
    "resenc-xl": _resenc("XL", 40.0, in_2d=5.6e8, in_3d=3.6e9),
}


def feature_map_elements(topology: Topology, outputs: int, residual: bool = False) -> float:
    """Elements of the feature maps of nnU-Net's U-Net for one patch: all convolutions, upsampling, the full-resolution output.

    Args:
        outputs: channels of the output.
        residual: of the U-Net with a residual encoder.
    """
    voxels = [math.prod(topology.patch)]
    for stride in topology.strides:
        voxels.append(voxels[-1] // math.prod(stride))
    widest = WIDEST[len(topology.patch)]
    maps = [n * min(FIRST_WIDTH * 2**i, widest) for i, n in enumerate(voxels)]
    convolutions = 1 if residual else 2  # of a decoder stage; one transposed convolution is added
    encoder = sum(n * _encoder_maps(i, residual) for i, n in enumerate(maps))
    return float(encoder + (convolutions + 1) * sum(maps[:-1]) + outputs * voxels[0])


def _encoder_maps(stage: int, residual: bool) -> int:
    """Feature maps of one encoder stage; the first one includes the residual encoder's stem."""
    if not residual:
        return 2
    # Two convolutions a block, and one more: the stem at full resolution, a projected skip at every other stage.
    return 2 * residual_depth(stage) + 1
