"""Parameters, multiply-adds and the memory of a training step of any network, measured without a GPU.

The step runs on fake tensors, which have shapes and types but no values, so a large network takes a second or two.
Planning asks networks/training_memory.py, which computes it in closed form for the built-in networks.
"""

import weakref
from collections.abc import Callable
from functools import lru_cache
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

from unetrpp.core.files import Record
from unetrpp.networks.build import build_network
from unetrpp.networks.epa import EPABlock, use_reference_operators
from unetrpp.plans.architecture import Architecture

Precision = Literal["fp32", "bf16"]
FLOAT32 = 4  # bytes


class Cost(Record, frozen=True, kw_only=True):
    """Multiply-adds of one sample's forward pass, and of its part in a training step; bytes of one training step of the batch."""

    parameters: int
    patch_bound_parameters: int  # position embeddings and token projections, whose size depends on the patch
    multiply_adds: int  # convolutions and matrix products, on the reference operators
    step_multiply_adds: int  # of one sample in training: the backward pass takes twice as many as the forward pass
    batch_size: int
    precision: Precision
    activation_bytes: int  # what the forward pass keeps for the backward pass
    temporary_bytes: int  # at the peak of the step, on top of the activations
    training_bytes: int  # weights, gradients, optimiser states, activations, temporaries


class StepMemory(Record, frozen=True, kw_only=True):
    """Parameters, and bytes of one step without weights, gradients and optimiser states."""

    parameters: int
    kept: int  # after the forward pass, for the backward pass
    peak: int  # at the peak


def estimate(
    architecture: Architecture, batch_size: int, precision: Precision = "fp32", optimizer_states: int = 1
) -> Cost:
    """Cost of training ``architecture`` with deep supervision and a Dice + cross-entropy loss.

    Activations are affine in the batch, so two measurements (cached) give every batch size. A GPU's convolution
    workspaces and its allocator come on top.

    Args:
        precision: "bf16" is autocast; weights, gradients and optimiser states stay in float32.
        optimizer_states: tensors the optimiser keeps for each weight: 1 for SGD with momentum, 2 for AdamW.
    """
    memory = _batch_memory(architecture, batch_size, precision)
    bound, multiply_adds = _size(architecture)
    return Cost(
        parameters=memory.parameters,
        patch_bound_parameters=bound,
        multiply_adds=multiply_adds,
        step_multiply_adds=multiply_adds * (4 if architecture.checkpointing else 3),
        batch_size=batch_size,
        precision=precision,
        activation_bytes=memory.kept,
        temporary_bytes=memory.peak - memory.kept,
        training_bytes=memory.peak + memory.parameters * FLOAT32 * (2 + optimizer_states),
    )


@lru_cache(maxsize=256)
def _size(architecture: Architecture) -> tuple[int, int]:
    """Parameters bound to the patch size, and multiply-adds of one sample's forward pass."""
    with FakeTensorMode():
        network = build_network(architecture).eval()
        use_reference_operators(network)
        with torch.no_grad(), FlopCounterMode(display=False) as counter:
            network(torch.empty(1, architecture.in_channels, *architecture.patch))
    blocks = [module for module in network.modules() if isinstance(module, EPABlock)]
    bound = sum(p.numel() for block in blocks for p in block.patch_bound())
    return bound, counter.get_total_flops() // 2


def _batch_memory(architecture: Architecture, batch_size: int, precision: Precision) -> StepMemory:
    """Memory by batch size, from batches of two and three: for a batch of one torch uses other operators in some places."""
    if batch_size <= 3:
        return measured_step(architecture, batch_size, precision)
    two, three = measured_step(architecture, 2, precision), measured_step(architecture, 3, precision)
    more = batch_size - 2
    kept, peak = two.kept + more * (three.kept - two.kept), two.peak + more * (three.peak - two.peak)
    return StepMemory(parameters=two.parameters, kept=kept, peak=peak)


@lru_cache(maxsize=256)
def measured_step(architecture: Architecture, batch_size: int, precision: Precision) -> StepMemory:
    """:func:`step_memory` of a planned network with :func:`reference_loss`; cached."""
    with FakeTensorMode():
        network = build_network(architecture)
        x = torch.empty(batch_size, architecture.in_channels, *architecture.patch)
        return step_memory(network, x, reference_loss, precision)


def step_memory(
    network: nn.Module, x: Tensor, loss: Callable[[list[Tensor]], Tensor], precision: Precision = "fp32"
) -> StepMemory:
    """Memory of one forward and backward pass of any network, without weights and their gradients.

    Args:
        x: the batch (B, C, *patch); with network and batch in a FakeTensorMode nothing is computed.
        loss: takes the list of the network's outputs.
    """
    meter = LiveBytes(ignored=list(network.parameters()) + list(network.buffers()))
    with meter:
        meter.count(x)
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
            outputs = network(x)
        value = loss(outputs if isinstance(outputs, list) else [outputs])
        del outputs
        kept = meter.live
        for parameter in network.parameters():
            if parameter.requires_grad:
                # Gradients are counted apart.
                parameter.register_post_accumulate_grad_hook(lambda p: meter.forget(p.grad))
        value.backward()
    parameters = sum(p.numel() for p in network.parameters())
    return StepMemory(parameters=parameters, kept=kept, peak=meter.peak)


class LiveBytes(TorchDispatchMode):
    """Counts the bytes of all tensor storages that operators allocate and that are still alive."""

    def __init__(self, ignored: list[Tensor]):
        super().__init__()  # type: ignore[no-untyped-call]
        self.live = self.peak = 0
        self._sizes: dict[weakref.ref[torch.UntypedStorage], int] = {}
        self._ignored = {weakref.ref(t.untyped_storage()) for t in ignored}

    def count(self, tensor: Tensor) -> None:
        reference = weakref.ref(tensor.untyped_storage(), self._release)
        if reference in self._sizes or reference in self._ignored:
            return
        self._sizes[reference] = tensor.untyped_storage().nbytes()
        self.live += self._sizes[reference]
        self.peak = max(self.peak, self.live)

    def forget(self, tensor: Tensor | None) -> None:
        """Stop counting a tensor that stays alive."""
        if tensor is not None:
            reference = weakref.ref(tensor.untyped_storage())
            self._ignored.add(reference)
            self.live -= self._sizes.pop(reference, 0)

    def _release(self, reference: weakref.ref[torch.UntypedStorage]) -> None:
        self.live -= self._sizes.pop(reference, 0)

    def __torch_dispatch__(
        self,
        func: Callable[..., object],
        types: object,
        args: tuple[object, ...] = (),
        kwargs: dict[str, object] | None = None,
    ) -> object:
        result = func(*args, **(kwargs or {}))
        for leaf in tree_leaves(result):
            if isinstance(leaf, Tensor):
                self.count(leaf)
        return result


def reference_loss(outputs: list[Tensor]) -> Tensor:
    """Cross-entropy plus soft Dice on every output (B, K, *size); it keeps as much for the backward pass as the usual losses."""
    total = outputs[0].new_zeros((), dtype=torch.float32)
    for logits in outputs:
        logits = logits.float()
        target = torch.zeros(logits.shape[0], *logits.shape[2:], dtype=torch.int64)
        one_hot = torch.zeros_like(logits).scatter_(1, target[:, None], 1)
        probabilities = logits.softmax(1)
        axes = tuple(range(2, logits.ndim))
        overlap = (probabilities * one_hot).sum(axes)
        dice = 2 * overlap / (probabilities.sum(axes) + one_hot.sum(axes))
        total = total + F.cross_entropy(logits, target) - dice.mean()
    return total
