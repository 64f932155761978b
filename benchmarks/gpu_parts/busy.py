"""The share of a step in which the GPU computes."""

from collections.abc import Callable, Iterable

import torch
from torch._C._autograd import DeviceType
from torch.autograd.profiler_util import FunctionEvent
from torch.profiler import ProfilerActivity, profile

from benchmarks.training_step import wait

PROFILED = 3  # steps
COPIES = ("Memcpy HtoD", "Memcpy DtoH")  # no work of the GPU's own


def busy_share(step: Callable[[], object], device: torch.device, seconds_a_step: float) -> float | None:
    """Time covered by kernels in a step, as a share of ``seconds_a_step``; None where the profiler sees none.

    The step is timed elsewhere, without the profiler, which slows the launching down but not the kernels.
    """
    if device.type != "cuda":
        return None
    wait(device)
    with profile(activities=[ProfilerActivity.CUDA]) as profiler:
        for _ in range(PROFILED):
            step()
        wait(device)
    spans = [(e.time_range.start, e.time_range.end) for e in profiler.events() or [] if is_work(e)]
    return min(1.0, covered(spans) / 1e6 / PROFILED / seconds_a_step) if spans else None


def is_work(event: FunctionEvent) -> bool:
    """Kernels, and copies within the GPU; not the ranges that name them, nor copies from and to the host."""
    return (
        event.device_type == DeviceType.CUDA
        and not getattr(event, "is_user_annotation", False)
        and not event.name.startswith(COPIES)
    )


def covered(spans: Iterable[tuple[float, float]]) -> float:
    """Length of the union of intervals: kernels of several streams overlap.

    >>> covered([(0, 2), (5, 6), (1, 3), (5, 5.5)])
    4.0
    """
    total, end = 0.0, float("-inf")
    for first, last in sorted(spans):
        total += max(0.0, last - max(first, end))
        end = max(end, last)
    return total
