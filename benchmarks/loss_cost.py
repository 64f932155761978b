"""Seconds that each loss takes in a training step, forward and backward over three heads.

python benchmarks/loss_cost.py [--device cuda] [--patch 40 56 40] [--classes 3]
"""

import argparse
import statistics
import time

import torch

from unetrpp.dataset.labels import LabelScheme
from unetrpp.losses.build import build_loss
from unetrpp.plans.plans import LossPlan

STRIDES = [(1, 1, 1), (2, 2, 2), (4, 4, 4)]


def balls(batch: int, patch: tuple[int, ...], classes: int) -> torch.Tensor:
    """Training indices (B, Z, Y, X): one ball a class, radius a fifth of the shortest side."""
    generator = torch.Generator().manual_seed(0)
    grid = torch.stack(torch.meshgrid(*(torch.arange(n) for n in patch), indexing="ij"), -1).float()
    target = torch.zeros(batch, *patch, dtype=torch.int16)
    for sample in target:
        for c in range(1, classes):
            centre = torch.rand(3, generator=generator) * torch.tensor(patch)
            sample[((grid - centre) ** 2).sum(-1) < (min(patch) / 5) ** 2] = c
    return target


def median_seconds(plan: LossPlan, classes: int, target: torch.Tensor, repeats: int) -> float:
    """Median seconds of forward and backward, on the target's device."""
    labels = LabelScheme(names=tuple(map(str, range(classes))), values=tuple(range(classes)))
    loss = build_loss(plan, labels, STRIDES, (1.0, 1.0, 1.0)).to(target.device)
    sizes = [[n // s for n, s in zip(target.shape[1:], stride, strict=True)] for stride in STRIDES]
    outputs = [torch.randn(len(target), classes, *size, device=target.device, requires_grad=True) for size in sizes]
    seconds = []
    for _ in range(repeats + 2):  # two to warm up
        start = time.perf_counter()
        loss(outputs, target).backward()
        if target.is_cuda:
            torch.cuda.synchronize()
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds[2:])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--patch", type=int, nargs=3, default=(40, 56, 40))
    parser.add_argument("--classes", type=int, default=3, help="background counted")
    parser.add_argument("--batch-size", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=7)
    arguments = parser.parse_args()
    device = torch.device(arguments.device)
    target = balls(arguments.batch_size, tuple(arguments.patch), arguments.classes).to(device)
    scales = (4.0,) * (arguments.classes - 1)
    plans = {
        "Dice + CE": LossPlan(),
        "UFL": LossPlan(name="unified_focal"),
        "UFL-D, tau 4 voxels": LossPlan(name="unified_focal_distance", distance_scale_mm=scales),
    }
    for name, plan in plans.items():
        seconds = median_seconds(plan, arguments.classes, target, arguments.repeats)
        print(f"{name:22s} {1000 * seconds:8.1f} ms")


if __name__ == "__main__":
    main()
