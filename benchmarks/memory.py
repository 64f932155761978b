"""Peak memory of a real training step, compared with the estimate by which patches and batches are planned.

    python benchmarks/memory.py [--device cuda] [--networks synapse unet] [--precision bf16] [--batch 2] [--checkpointing]

A step is the trainer's own, in eager mode: batch to the device, forward, Dice + cross-entropy over all heads, backward,
clipping, SGD. On CUDA torch's allocator says what it handed out (step) and what it took from the GPU (reserved).
"--device fake" needs no GPU: it counts the bytes of all tensors that live at once on a second device without
values, which takes the same operators as a GPU, though not their workspaces. Ratio: step / estimate.
"""

import argparse
import gc
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.training_step import NETWORKS, make_trainer, samples
from tests.helpers import second_device
from unetrpp.networks.cost import LiveBytes, estimate
from unetrpp.plans.architecture import Architecture

GIB = 2**30


class OnDevice(LiveBytes):
    """Counts the bytes of live tensors on one kind of device."""

    def __init__(self, device: torch.device):
        super().__init__(ignored=[])
        self.device = device

    def count(self, tensor: torch.Tensor) -> None:
        if tensor.device.type == self.device.type:
            super().count(tensor)


def counted(architecture: Architecture, batch: int, precision: str, device: torch.device) -> tuple[int, int | None]:
    """Peak bytes of the second step (the first one makes the momentum), and what the allocator reserved."""
    given = samples(architecture, batch)
    with tempfile.TemporaryDirectory() as folder, OnDevice(device) as meter:
        trainer = make_trainer(architecture, batch, precision, Path(folder), device)
        trainer.step(given)
        trainer.network.zero_grad(set_to_none=True)
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(device)
        meter.peak = meter.live
        trainer.step(given)
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device), torch.cuda.max_memory_reserved(device)
    return meter.peak, None


@contextmanager
def without_values(device: torch.device) -> Iterator[None]:
    """On the second device tensors are fake; elsewhere nothing changes."""
    if device.type != second_device.NAME:
        yield
        return
    with FakeTensorMode(allow_non_fake_inputs=True) as mode, second_device.Watch(mode):
        yield


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda", choices=["cuda", "fake", "cpu"])
    parser.add_argument("--networks", nargs="+", default=list(NETWORKS), choices=list(NETWORKS), metavar="NAME")
    parser.add_argument("--precision", nargs="+", default=["fp32", "bf16"], choices=["fp32", "bf16"])
    parser.add_argument("--batch", type=int, default=2)
    parser.add_argument("--checkpointing", action="store_true", help="compute stages again in the backward pass")
    arguments = parser.parse_args()
    fake = arguments.device == "fake"
    device = second_device.register() if fake else torch.device(arguments.device)  # before the first backward pass
    on = torch.cuda.get_device_name() if arguments.device == "cuda" else arguments.device
    print(f"torch {torch.__version__}, {on}, batch {arguments.batch}, GiB")
    print("network    patch          precision  estimate    step  ratio  reserved")
    for name in arguments.networks:
        architecture = msgspec.structs.replace(NETWORKS[name](), checkpointing=arguments.checkpointing)
        patch = "x".join(map(str, architecture.patch))
        for precision in arguments.precision:
            expected = estimate(architecture, arguments.batch, precision).training_bytes / GIB
            with without_values(device):
                peak, reserved = counted(architecture, arguments.batch, precision, device)
            gc.collect()
            taken = "-" if reserved is None else f"{reserved / GIB:.2f}"
            step = peak / GIB
            print(
                f"{name:10s} {patch:14s} {precision:9s} {expected:9.2f} {step:7.2f} {step / expected:6.2f} {taken:>9s}",
                flush=True,
            )
            if arguments.device == "cuda":
                torch.cuda.empty_cache()


if __name__ == "__main__":
    main()
