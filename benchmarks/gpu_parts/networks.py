"""A training step of every network in every precision and mode, on a batch that stays on the GPU; and attention alone."""

import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.gpu_parts import goals
from benchmarks.gpu_parts.busy import busy_share
from benchmarks.gpu_parts.cells import NO_GOAL, Cell, Setting, Values, Verdict
from benchmarks.training_step import (
    NETWORKS,
    WARM_UP,
    fixed_batch,
    make_trainer,
    samples,
    seconds_a_call,
    seconds_of,
    wait,
)
from unetrpp.augmentation.pipeline import Sample
from unetrpp.core.devices import find_device, half_precision
from unetrpp.core.text import GIGABYTE
from unetrpp.networks.design import unet_architecture, unetrpp_architecture
from unetrpp.networks.presets import PRESETS
from unetrpp.networks.training_memory import training_memory
from unetrpp.plans.architecture import Architecture
from unetrpp.trainers.compilation import compile_blocks, interpret_blocks
from unetrpp.trainers.recording import record_network
from unetrpp.trainers.trainer import Trainer

BATCH = 2
MEASURED = ("synapse", "acdc", "tumor", "lung", "unet", "resunet")
SMALL_STRIDES = [(1, 2, 2), (2, 2, 2)]
SMALL: dict[str, Callable[[], Architecture]] = {
    "unetrpp": lambda: unetrpp_architecture(1, 3, (8, 16, 16), SMALL_STRIDES, width=0.25),
    "unet": lambda: unet_architecture(1, 3, (8, 16, 16), SMALL_STRIDES, width=0.25),
}
# Training records graphs, and before that compiles where it is long.
MODES = ("eager", "graphs", "compiled", "compiled graphs")


def step_cells(setting: Setting) -> list[Cell]:
    """The synapse preset in bf16 first, then all networks in eager mode, which starts in seconds; compiling takes minutes."""
    names = SMALL if setting.small else MEASURED
    precisions = ("fp32", "bf16") if setting.small else ("bf16", "fp16", "fp32")
    modes = MODES[:1] if setting.small else MODES
    order = [(name, precision, mode) for mode in modes for precision in precisions for name in names]
    order.sort(key=lambda one: one[:2] != ("synapse", "bf16"))  # a stable order
    return [
        Cell(f"{name}, {precision}, {mode}", partial(step, setting, *one), partial(judge_step, *one), kind=mode)
        for one in order
        for name, precision, mode in [one]
    ]


def step(setting: Setting, name: str, precision: str, mode: str) -> Values:
    """Milliseconds and memory of the trainer's own step, compared with the planned memory."""
    device = find_device(setting.device)
    if precision == "bf16" and device.type == "cuda" and half_precision(device) != torch.bfloat16:
        raise RuntimeError("this GPU only emulates bfloat16")
    architecture = (SMALL if setting.small else NETWORKS)[name]()
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    with tempfile.TemporaryDirectory() as folder:
        trainer = make_trainer(architecture, BATCH, precision, Path(folder), device)

    def one() -> None:
        trainer.step([])

    values: Values = {}
    given = samples(architecture, BATCH)
    with fixed_batch(trainer, given), prepared(trainer, mode, given):
        first = seconds_of(one, device)
        for _ in range(WARM_UP):
            one()
        seconds = seconds_a_call(one, device, spend=0.05 if setting.small else 2.0)
        reserved = torch.cuda.max_memory_reserved(device) if device.type == "cuda" else None
        busy = busy_share(one, device, seconds)
    values |= {"ms": seconds * 1e3, "epoch_s": seconds * goals.EPOCH_STEPS, "first_s": first}
    if busy is not None:
        values["busy"] = busy
    if reserved is not None:
        values |= {
            "reserved_gb": reserved / GIGABYTE,
            "planned_gb": training_memory(architecture).of(BATCH) / GIGABYTE,
        }
    return values


@contextmanager
def prepared(trainer: Trainer, mode: str, given: list[Sample]) -> Iterator[None]:
    """The network compiled or recorded in place for such samples, or both, until the end of the block."""
    if "compiled" in mode:
        compile_blocks(trainer.network)
    images, _ = trainer.batch(given)
    if "graphs" in mode and not record_network(trainer.network, images, trainer.autocast(cached=False)):
        raise RuntimeError("the network could not be recorded")
    try:
        yield
    finally:
        interpret_blocks(trainer.network)
        torch.compiler.reset()


def judge_step(name: str, precision: str, mode: str, values: Values) -> Verdict:
    """Plans are for half precision; a GPU that computes nothing but eager operators is no goal."""
    if precision != "bf16":
        return NO_GOAL
    verdicts = [goals.memory(values)]
    if mode != "eager":
        verdicts.append(goals.busy(values))
        verdicts += [goals.epoch(values)] if name == "synapse" else []
    return goals.all_of(*verdicts)


Attention = Callable[[Tensor, Tensor, Tensor, float], Tensor]


def fused(q: Tensor, keys: Tensor, values: Tensor, dropout: float) -> Tensor:
    return F.scaled_dot_product_attention(q, keys, values, dropout_p=dropout, scale=1.0)


def explicit(q: Tensor, keys: Tensor, values: Tensor, dropout: float) -> Tensor:
    """The maps (B, h, N, P) are kept; P is 64 or 32, so they have no more elements than a few feature maps."""
    weights = (q @ keys.mT).softmax(-1, dtype=torch.float32).to(q.dtype)
    return F.dropout(weights, dropout) @ values


def attention_cells(setting: Setting) -> list[Cell]:
    """The spatial branch of each level of the synapse preset: N tokens against P projected ones, by h heads of d channels."""
    architecture = SMALL["unetrpp"]() if setting.small else PRESETS["synapse"]
    cells, heads = [], architecture.heads
    for level, tokens in zip(architecture.levels, architecture.tokens(), strict=True):
        if level.attention == "epa":
            shape = (BATCH, heads, tokens, level.channels // heads)
            what = f"N {tokens}, P {level.encoder_projection}, h {heads}, d {shape[-1]}"
            run = partial(attention, setting, shape, level.encoder_projection, architecture.attention_dropout)
            cells.append(Cell(what, run, faster, kind="attention"))
    return cells


def attention(setting: Setting, shape: Sequence[int], projected: int, dropout: float) -> Values:
    """Forward and backward pass of both ways, in the precision of training."""
    device = find_device(setting.device)
    dtype = half_precision(device) or torch.float32
    torch.manual_seed(0)
    q = torch.randn(*shape, device=device, dtype=dtype, requires_grad=True)
    short = (*shape[:2], projected, shape[-1])
    keys, values = (torch.randn(*short, device=device, dtype=dtype, requires_grad=True) for _ in range(2))
    gradient = torch.randn_like(q)

    def both_passes(attend: Attention) -> None:
        torch.autograd.grad(attend(q, keys, values, dropout), (q, keys, values), gradient)

    taken = {}
    for key, attend in (("fused_ms", fused), ("explicit_ms", explicit)):
        for _ in range(WARM_UP):
            both_passes(attend)
        wait(device)
        spend = 0.02 if setting.small else 0.5
        taken[key] = 1e3 * seconds_a_call(partial(both_passes, attend), device, spend)
    return taken


def faster(values: Values) -> Verdict:
    ratio = values["fused_ms"] / values["explicit_ms"]
    name, times = ("explicit", ratio) if ratio > 1 else ("fused", 1 / ratio)
    return Verdict("no goal", f"{name} is {times:.1f} times as fast")
