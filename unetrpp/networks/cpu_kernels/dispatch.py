"""Which branch a tensor takes: the CPU kernels of this package, or plain PyTorch."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

_enabled = True


def takes_cpu_kernel(x: Tensor) -> bool:
    """On a CPU, unless torch.compile or torch.export traces the network, or inside :func:`plain_operators`."""
    return _enabled and x.device.type == "cpu" and not torch.compiler.is_compiling()


@contextmanager
def plain_operators() -> Iterator[None]:
    """Compute with plain PyTorch on a CPU, too, as a GPU does; for tests and comparisons, in one thread."""
    global _enabled
    before, _enabled = _enabled, False
    try:
        yield
    finally:
        _enabled = before
