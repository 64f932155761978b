"""Trial passes through a network, before or between the steps of its training."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def unchanged(network: torch.nn.Module) -> Iterator[None]:
    """While entered the network may be run forward and backward; afterwards mode, statistics and gradients are as before.

    There must be no gradients before.
    """
    training, before = network.training, {name: buffer.clone() for name, buffer in network.named_buffers()}
    try:
        yield
    finally:
        network.train(training)
        network.zero_grad(set_to_none=True)
        with torch.no_grad():
            for name, buffer in network.named_buffers():
                buffer.copy_(before[name])
