"""Batches reach a GPU one ahead, on a stream of their own; CUDA is played by a log of what it was asked to do."""

import threading
import time
from contextlib import contextmanager

import numpy as np
import pytest
import torch

from tests.helpers.tiny import configuration, store_balls
from unetrpp.augmentation.pipeline import Sample
from unetrpp.core.errors import UserError
from unetrpp.patches import feed
from unetrpp.patches.feed import on_device
from unetrpp.patches.loader import PatchLoader, prefetch
from unetrpp.patches.worker_loader import worker_batches

CUDA = torch.device("cuda", 0)


class Log(list):
    """(thread, event) in the order of time."""

    def __call__(self, event: str) -> None:
        self.append((threading.current_thread().name.split("_")[0].split("-")[0], event))

    def of(self, word: str) -> list[tuple[str, str]]:
        return [entry for entry in self if entry[1].startswith(word)]


@pytest.fixture
def log(monkeypatch):
    """CUDA's streams and events as lines of a log; tensors stay where they are."""
    log, current = Log(), threading.local()

    class Event:
        made = 0

        def __init__(self):
            self.number, Event.made = Event.made, Event.made + 1

        def synchronize(self):
            log(f"wait for event {self.number}")

    class Stream:
        def __init__(self, name):
            self.name = name

        def wait_event(self, event):
            log(f"{self.name} waits for event {event.number}")

    def now(device):
        return getattr(current, "stream", Stream("compute"))

    def record(device):
        event = Event()
        log(f"event {event.number} in {now(device).name}")
        return event

    @contextmanager
    def entered(stream):
        current.stream = stream
        yield
        del current.stream

    def copied(tensor, device):
        log(f"copy in {now(device).name}")
        return tensor

    def pinned(tensor):
        log("pin")
        return tensor

    monkeypatch.setattr(torch.cuda, "Stream", lambda device: Stream("copies"))
    monkeypatch.setattr(torch.cuda, "stream", entered)
    monkeypatch.setattr(torch.cuda, "current_stream", now)
    monkeypatch.setattr(feed, "current_event", record)
    monkeypatch.setattr(feed, "to_device", copied)
    monkeypatch.setattr(torch.Tensor, "pin_memory", pinned)
    monkeypatch.setattr(torch.Tensor, "record_stream", lambda self, stream: log(f"used by {stream.name}"))
    return log


def batches(count: int):
    return ([Sample(str(i), np.full((1, 2), i), np.zeros(2), None)] for i in range(count))


def test_order_and_values_stay(log):
    found = [(sample.case, int(sample.image[0, 0])) for samples in on_device(batches(5), CUDA) for sample in samples]
    assert found == [(str(i), i) for i in range(5)]


def test_the_next_batch_is_copied_while_a_step_runs(log):
    """The training thread copies nothing, and its stream waits for a copy before it uses what was copied."""
    for samples in on_device(batches(4), CUDA):
        deadline = time.monotonic() + 10
        wanted = min(int(samples[0].case) + 2, 4) * 2  # image and label of this batch and the next one
        while len(log.of("copy")) < wanted and time.monotonic() < deadline:
            time.sleep(0.001)
        assert len(log.of("copy")) == wanted
        log(f"step {samples[0].case}")
    assert set(log.of("copy")) == {("copies", "copy in copies")}
    events = [event for _, event in log]
    for number in range(4):
        (step,) = [i for i, event in enumerate(events) if event == f"step {number}"]
        before = [i for i, event in enumerate(events[:step]) if event.startswith("compute waits for event")]
        assert len(before) == number + 1
        assert events[before[-1] + 1 : step].count("used by compute") == 2


def test_the_host_is_at_most_one_step_ahead(log):
    """Before batch k + 1 is copied, the GPU must have done step k - 1. The waiting is not the training thread's."""
    for samples in on_device(batches(5), CUDA):
        log(f"step {samples[0].case}")
    assert [thread for thread, _ in log.of("wait")] == ["copies"] * len(log.of("wait"))
    steps = [event for thread, event in log if thread == "MainThread" and event.startswith(("step", "event"))]
    ends = {
        event.split()[1]: int(steps[i - 1].split()[1]) for i, event in enumerate(steps) if event.startswith("event")
    }
    assert [ends[event.split()[-1]] for _, event in log.of("wait")] == [0, 1, 2]


def test_pages_are_pinned_by_the_readers(log, tmp_path):
    store = store_balls(tmp_path, 2)
    loader = PatchLoader([store.open(case) for case in store.cases()], configuration(), seed=0, fold=0)
    read = list(prefetch(loader, range(5), 2, CUDA))
    assert {thread for thread, _ in log.of("pin")} == {"patches"}
    for samples, expected in zip(read, (loader.batch(i) for i in range(5)), strict=True):
        for found, sample in zip(samples, expected, strict=True):
            np.testing.assert_array_equal(found.image, sample.image)
    assert len(list(worker_batches(loader, range(2), 1, CUDA))) == 2
    assert {thread for thread, _ in log.of("copy")} == {"copies"}


def test_leaving_early_and_errors(log):
    closed = []

    def failing():
        try:
            yield [Sample("0", np.zeros((1, 2)), np.zeros(2), None)]
            raise UserError("damaged", case="1")
        finally:
            closed.append(True)

    source = on_device(failing(), CUDA)
    assert next(source)[0].case == "0"
    with pytest.raises(UserError, match="1: damaged"):
        next(source)
    assert closed
    left = on_device(batches(9), CUDA)
    next(left)
    left.close()
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("copies")]
