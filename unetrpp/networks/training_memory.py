"""The memory of a training step, which limits patch and batch size and is recorded in the plans.

The built-in networks without gates and checkpointing have a closed form, which counts what each block keeps for the backward pass under
bf16 autocast. It takes microseconds; for all other networks the step is measured without values (networks/cost.py),
which takes seconds. The tests compare the two. Imports no torch before a measurement.
"""

import math
from typing import NamedTuple

from unetrpp.core.text import GIGABYTE
from unetrpp.plans.architecture import Architecture, cut

HALF, FULL, INDEX = 2, 4, 8  # bytes of bfloat16, float32 and int64
# What an EPA block keeps, counted in bfloat16 maps of C channels:
CONVOLUTION_MAPS = {
    "batch": 7,
    "instance": 5,
}  # of its voxels, by norm, for the convolutions; with instance norms and dropout one more
ATTENTION_MAPS = {2: 6.7, 3: 7}  # of its tokens, by dimensions
ADDED_MAPS = 0.5  # of its voxels where tokens are means of them
CELL_MAPS = 5  # of the cells of pooled attention
CHANNEL_MAPS = 9  # of its channel attention: C x C
MEASURED_BATCH = 2
FIXED_GB = (
    1.0  # of a GPU, for what does not grow with it: the CUDA context, its kernels, and workspaces of cuDNN and cuBLAS
)
MARGIN = 0.1  # of a GPU, for gaps between the blocks that torch's allocator hands out


class TrainingMemory(NamedTuple):
    """Bytes of one training step in bf16 with SGD and momentum; those of a batch are affine in its size."""

    fixed: float  # weights, gradients, momentum
    a_patch: float  # at the peak

    def of(self, batch_size: int) -> float:
        return self.fixed + batch_size * self.a_patch


def usable_bytes(gigabytes: float) -> float:
    """Bytes that a training step may have on a GPU of this size; none on a GPU of about 1 GB.

    >>> round(usable_bytes(8) / GIGABYTE, 3), round(usable_bytes(24) / GIGABYTE, 3), usable_bytes(1)
    (6.2, 20.6, 0.0)
    """
    return max(0.0, gigabytes * (1 - MARGIN) - FIXED_GB) * GIGABYTE


def training_memory(architecture: Architecture) -> TrainingMemory:
    """The memory of any network that :func:`unetrpp.networks.build.build_network` can build."""
    counted = closed_form(architecture)
    if counted is None:
        return _measured(architecture)
    weights = counted.parameters * (3 * FULL + HALF)  # weights, gradients, momentum, and a half-precision copy
    return TrainingMemory(float(weights), float(counted.kept + counted.temporary))


def _measured(architecture: Architecture) -> TrainingMemory:
    from unetrpp.networks.cost import measured_step

    step = measured_step(architecture, MEASURED_BATCH, "bf16")
    return TrainingMemory(3.0 * FULL * step.parameters, step.peak / MEASURED_BATCH)


class Footprint(NamedTuple):
    """The result of the closed form."""

    parameters: int
    kept: int  # bytes of a sample's activations until the backward pass
    temporary: int  # bytes of a sample at the peak, in addition to those kept


def closed_form(architecture: Architecture) -> Footprint | None:
    """None for networks without one: other networks or norms, gates, squeeze-and-excitation, checkpointing.

    Within 1% of the measured step for usual patches, within 2% for very small ones.
    """
    focal = any(level.gate is not None or level.squeeze_excitation is not None for level in architecture.levels)
    if focal or architecture.checkpointing:
        return None
    if architecture.network == "unetrpp":
        return _unetrpp(architecture) if _is_default(architecture) else None
    return _unet(architecture) if architecture.network in ("unet", "resunet") else None


def _is_default(architecture: Architecture) -> bool:
    usual = (architecture.projection, architecture.fusion, architecture.residual_convs)
    many = all(tokens > 1 for tokens in architecture.tokens())  # a single voxel gets another norm
    return usual == ("shared", "concat", 1) and architecture.norm in CONVOLUTION_MAPS and many


class _Sum:
    """Parameters, and bytes that one sample keeps until the backward pass."""

    def __init__(self) -> None:
        self.parameters = 0
        self.kept = 0

    def keep(self, tokens: int, channels: int, maps: float = 1) -> None:
        """Bfloat16 feature maps."""
        self.kept += round(maps * tokens * channels * HALF)

    def convolve(self, tokens: int, inputs: int, outputs: int, kernel: tuple[int, ...]) -> None:
        """A convolution and its norm keep their outputs."""
        self.parameters += inputs * outputs * math.prod(kernel) + 2 * outputs
        self.keep(tokens, outputs, 2)

    def residual(
        self, tokens: int, inputs: int, outputs: int, *, kernel: tuple[int, ...], pooled: int | None = None
    ) -> None:
        """``pooled``: tokens before the pooling on its skip, which autocast computes in float32 in 3D."""
        self.convolve(tokens, inputs, outputs, kernel)
        self.convolve(tokens, outputs, outputs, kernel)
        if inputs != outputs:
            self.convolve(tokens, inputs, outputs, (1,))
            if pooled:
                self.keep(tokens, inputs)
        if pooled and len(kernel) == 3:
            self.kept += pooled * inputs * FULL

    def image(self, architecture: Architecture, casts: int) -> None:
        """The patch in float32, and its copies in bfloat16."""
        self.kept += architecture.tokens()[0] * architecture.in_channels * (FULL + casts * HALF)

    def heads(self, architecture: Architecture) -> None:
        classes = architecture.out_channels
        for level in architecture.levels[: architecture.supervised_levels]:
            self.parameters += (level.channels + 1) * classes
        self.kept += sum(_loss_bytes(architecture))


def _loss_bytes(architecture: Architecture) -> list[int]:
    """Softmax, its logarithm, one-hot and indices of the truth, by supervised level."""
    a_voxel = 3 * FULL * architecture.out_channels + INDEX
    return [a_voxel * tokens for tokens in architecture.tokens()[: architecture.supervised_levels]]


def _finished(total: _Sum, architecture: Architecture, gradients: int) -> Footprint:
    """The sum, and what is added at the moment of the largest memory use.

    With few classes that is the backward pass of the last block at full resolution: the maps of the loss are freed;
    the gradients of the supervised features and ``gradients`` maps at full resolution are added. With many classes, memory
    peaks in the full-resolution loss, processed last: two gradients besides its own maps, and the lower levels' gradients
    of the logits.
    """
    classes, tokens, loss = architecture.out_channels, architecture.tokens(), _loss_bytes(architecture)
    lower = range(1, architecture.supervised_levels)
    features = sum(tokens[i] * architecture.levels[i].channels for i in lower) * HALF
    in_block = gradients * tokens[0] * architecture.levels[0].channels * HALF + features - sum(loss)
    logits = sum(tokens[i] * classes for i in lower) * HALF
    in_loss = (2 * FULL * classes - INDEX) * tokens[0] + logits - sum(loss[1:])
    return Footprint(total.parameters, total.kept, max(in_block, in_loss))


def _unet(architecture: Architecture) -> Footprint:
    total, levels, tokens = _Sum(), architecture.levels, architecture.tokens()
    total.image(architecture, casts=1)
    inputs, residual = architecture.in_channels, architecture.network == "resunet"
    if residual:
        total.convolve(tokens[0], inputs, levels[0].channels, levels[0].kernel)
        inputs = levels[0].channels
    for i, level in enumerate(levels):
        for block in range(level.encoder_blocks):
            if residual:
                pooled = tokens[i - 1] if block == 0 and i > 0 else None
                total.residual(tokens[i], inputs, level.channels, kernel=level.kernel, pooled=pooled)
            else:
                total.convolve(tokens[i], inputs, level.channels, level.kernel)
            inputs = level.channels
    for i, level in enumerate(levels[:-1]):
        below = levels[i + 1]
        total.parameters += below.channels * level.channels * math.prod(below.stride)
        total.keep(tokens[i], 2 * level.channels)  # skip and upsampled, side by side
        for block in range(level.decoder_blocks):
            total.convolve(tokens[i], (1 if block else 2) * level.channels, level.channels, level.kernel)
    total.heads(architecture)
    return _finished(total, architecture, gradients=2)


def _unetrpp(architecture: Architecture) -> Footprint:
    total, levels, tokens = _Sum(), architecture.levels, architecture.tokens()
    total.image(architecture, casts=3)
    for block in range(levels[0].encoder_blocks):
        inputs = levels[0].channels if block else architecture.in_channels
        total.residual(tokens[0], inputs, levels[0].channels, kernel=levels[0].kernel)
    inputs = architecture.in_channels
    for i, level in enumerate(levels[1:], start=1):
        total.convolve(tokens[i], inputs, level.channels, level.stride)
        for _ in range(level.encoder_blocks):
            _unetrpp_block(total, architecture, i, level.encoder_projection)
        inputs = level.channels
    for i, level in enumerate(levels[:-1]):
        below = levels[i + 1]
        total.parameters += below.channels * level.channels * math.prod(below.stride)
        if i == 0:
            total.keep(tokens[0], level.channels)  # the sum with the skip
        for _ in range(level.decoder_blocks):
            _unetrpp_block(total, architecture, i, level.decoder_projection)
    total.heads(architecture)
    return _finished(total, architecture, gradients=3)


def _unetrpp_block(total: _Sum, architecture: Architecture, i: int, projected: int) -> None:
    """One block of level ``i``: EPA, or plain residual."""
    level, tokens = architecture.levels[i], architecture.tokens()[i]
    c = level.channels
    if level.attention == "conv":
        total.residual(tokens, c, c, kernel=level.kernel)
        return
    dropped = architecture.norm == "instance" and architecture.dropout > 0
    total.keep(tokens, c, CONVOLUTION_MAPS[architecture.norm] + dropped)
    total.parameters += 2 * c * c * math.prod(level.kernel) + 6 * c * c + 9 * c
    if level.cell is None:
        total.parameters += tokens * (c + projected)  # position and projection
    else:
        tokens, projected = _pooled(total, architecture, i, level.cell)
    mask = architecture.heads * projected if architecture.attention_dropout else 0
    total.kept += tokens * (mask + 2 * FULL)  # and layer norm
    total.keep(tokens, c, ATTENTION_MAPS[architecture.dimensions])
    total.keep(c, c, CHANNEL_MAPS)


def _pooled(total: _Sum, architecture: Architecture, i: int, cell: tuple[int, ...]) -> tuple[int, int]:
    """What pooling keeps at level ``i``, which autocast computes in float32 in 3D; numbers of tokens and of cells."""
    level, size = architecture.levels[i], architecture.sizes()[i]
    solid = architecture.dimensions == 3
    grid = size
    if level.token is not None:
        grid = cut(size, level.token)
        total.keep(math.prod(size), level.channels, ADDED_MAPS + (2 if solid else 1))
    tokens, cells = math.prod(grid), math.prod(cut(grid, cell))
    total.keep(tokens, level.channels, 2 if solid else 0)
    total.keep(cells, level.channels, CELL_MAPS)
    return tokens, cells
