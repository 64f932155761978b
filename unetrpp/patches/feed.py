"""Batches on their way to a GPU: copied by a thread on a stream of their own, one batch ahead of the training step."""

from collections.abc import Generator, Iterator
from concurrent.futures import ThreadPoolExecutor

import torch

from unetrpp.augmentation.pipeline import Sample
from unetrpp.core.devices import current_event, to_device

Copied = tuple[list[Sample], torch.cuda.Event]


def pin(samples: list[Sample]) -> list[Sample]:
    """The samples in pinned memory, from which a GPU copies while the host goes on."""
    return [sample.moved(torch.Tensor.pin_memory) for sample in samples]


def on_device(batches: Iterator[list[Sample]], device: torch.device) -> Generator[list[Sample], None, None]:
    """The batches with their tensors on a CUDA device; for other devices, which copy when they need a batch, unchanged.

    A batch is copied while the step before it runs. Before that, the copying thread waits until the GPU has finished the
    step before that one, so that the inputs of two steps at most are on the device, and the host is at most one step ahead.

    Raises:
        UserError: as ``batches`` does, where the batch would come.
    """
    if device.type != "cuda":
        yield from batches
        return
    stream = torch.cuda.Stream(device)

    def copy_next(finished: torch.cuda.Event | None) -> Copied | None:
        samples = next(batches, None)
        if samples is None:
            return None
        if finished is not None:
            finished.synchronize()
        with torch.cuda.stream(stream):
            copied = [sample.moved(lambda tensor: to_device(tensor, device)) for sample in samples]
            return copied, current_event(device)

    with ThreadPoolExecutor(1, thread_name_prefix="copies") as thread:
        ahead, finished = thread.submit(copy_next, None), None
        while (batch := ahead.result()) is not None:
            ahead = thread.submit(copy_next, finished)
            yield _used_by_current_stream(*batch, device)
            finished = current_event(device)


def _used_by_current_stream(samples: list[Sample], copied: torch.cuda.Event, device: torch.device) -> list[Sample]:
    """Samples of another stream: the current one waits for their copy, and their memory is reused only after its work."""
    stream = torch.cuda.current_stream(device)
    stream.wait_event(copied)
    for sample in samples:
        for tensor in sample.arrays():
            assert isinstance(tensor, torch.Tensor)
            tensor.record_stream(stream)
    return samples
