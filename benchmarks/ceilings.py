"""The operations of a training step of the UNETR++ presets, and how fast one core of this machine can compute them.

    python benchmarks/ceilings.py [--presets synapse acdc] [--batch 2]

Operations are counted on tensors without data, attention as PyTorch's own operator. Seconds are CPU seconds.
"""

import argparse
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

ROOT = Path(__file__).resolve().parent.parent
LAYERS = [(16, (16, 160, 160)), (32, (16, 40, 40)), (64, (8, 20, 20)), (128, (4, 10, 10))]  # acdc's: channels, size


def step_gflop(preset_name: str, batch: int) -> tuple[float, float]:
    """GFLOP of forward and backward: of convolutions, and of matrix products."""
    from unetrpp.networks.build import build_network
    from unetrpp.networks.presets import preset

    architecture = preset(preset_name)
    with torch.device("meta"):
        network = build_network(architecture).to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
        x = torch.empty(batch, architecture.in_channels, *architecture.patch)
    with FlopCounterMode(display=False) as counter:
        sum((y**2).mean() for y in network(x)).backward()
    counts = {str(operator): flop / 1e9 for operator, flop in counter.get_flop_counts()["Global"].items()}
    convolutions = sum(gflop for name, gflop in counts.items() if "convolution" in name)
    return convolutions, sum(counts.values()) - convolutions


PARTS = {"convolution": "convolutions", "chunked_attention": "attention", "fused_norm": "norms and activations"}


class Stopwatch(TorchDispatchMode):
    """CPU seconds inside the operators that autograd sees, by kind."""

    def __init__(self) -> None:
        super().__init__()
        self.seconds: Counter[str] = Counter()
        self.inside = False

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if self.inside:  # called by one of our own operators, which is being timed
            return func(*args, **(kwargs or {}))
        self.inside, start = True, time.process_time()
        try:
            return func(*args, **(kwargs or {}))
        finally:
            part = next((part for word, part in PARTS.items() if word in str(func)), "everything else")
            self.seconds[part] += time.process_time() - start
            self.inside = False


def step_shares(preset_name: str, batch: int) -> tuple[float, Counter[str]]:
    """CPU seconds of one step (forward and backward pass), and of the parts of a second step under the stopwatch."""
    from unetrpp.networks.build import build_network
    from unetrpp.networks.presets import preset

    architecture = preset(preset_name)
    network = build_network(architecture).to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
    x = torch.randn(batch, architecture.in_channels, *architecture.patch)

    def step() -> None:
        network.zero_grad()
        sum((y**2).mean() for y in network(x)).backward()

    taken = seconds(step)
    with Stopwatch() as watch:
        step()
        watch.seconds.clear()  # the first step under the stopwatch also allocates memory
        step()
    return taken, watch.seconds


def seconds(work: Callable[[], object]) -> float:
    """CPU seconds: the best of four runs after one to warm up."""
    taken = []
    for _ in range(5):
        start = time.process_time()
        work()
        taken.append(time.process_time() - start)
    return min(taken[1:])


def convolution_gflops(channels: int, size: tuple[int, int, int], batch: int) -> tuple[float, float]:
    """GFLOP/s of a 3^3 convolution, channels last: forward, backward."""
    layout = torch.channels_last_3d
    x, gradient = (torch.randn(batch, channels, *size).to(memory_format=layout) for _ in range(2))
    weight = torch.randn(channels, channels, 3, 3, 3).to(memory_format=layout)
    gflop = 2 * 27 * channels * gradient.numel() / 1e9
    backward = torch.ops.aten.convolution_backward
    rest = (None, [1] * 3, [1] * 3, [1] * 3, False, [0] * 3, 1, [True, True, False])
    forward = seconds(lambda: torch.conv3d(x, weight, padding=1))
    return gflop / forward, 2 * gflop / seconds(lambda: backward(gradient, x, weight, *rest))


def product_gflops(rows: int, inner: int, columns: int) -> float:
    a, b = torch.randn(rows, inner), torch.randn(inner, columns)
    return 2e-9 * rows * inner * columns / seconds(lambda: a @ b)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--presets", nargs="+", default=["synapse", "acdc"])
    parser.add_argument("--batch", type=int, default=2)
    arguments = parser.parse_args()
    sys.path.insert(0, str(ROOT))
    from unetrpp.networks.cpu_kernels.allocator import keep_freed_memory

    keep_freed_memory()
    torch.set_num_threads(1)
    for name in arguments.presets:
        convolutions, products = step_gflop(name, arguments.batch)
        print(f"{name}: a step is {convolutions:.0f} GFLOP of convolutions and {products:.0f} of matrix products")
        taken, parts = step_shares(name, arguments.batch)
        shares = ", ".join(f"{part} {share / parts.total():.0%}" for part, share in parts.most_common())
        print(f"{name}: it takes {taken:.2f} s on one core; {shares}")
    for channels, size in LAYERS:
        forward, backward = convolution_gflops(channels, size, arguments.batch)
        print(f"3^3 convolution, {channels} channels, {size}: forward {forward:.0f}, backward {backward:.0f} GFLOP/s")
    for shape in ((1024, 1024, 1024), (51200, 32, 32)):
        print(f"matrix product {shape}: {product_gflops(*shape):.0f} GFLOP/s")
    source, target = (torch.zeros(32 << 20) for _ in range(2))
    print(f"copy: {2 * 4e-9 * source.numel() / seconds(lambda: target.copy_(source)):.0f} GB/s read and written")


if __name__ == "__main__":
    main()
