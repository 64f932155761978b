"""Losses of two halves of a batch whose sums are shared are the loss of the whole batch."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from unetrpp.dataset.labels import LabelScheme, Region
from unetrpp.losses import batch, dice, unified_focal
from unetrpp.losses.build import build_loss
from unetrpp.plans.plans import LossPlan

LABELS = LabelScheme(names=("background", "a", "b"), values=(0, 1, 2))
REGIONS = LabelScheme(
    names=LABELS.names,
    values=LABELS.values,
    regions=(Region(name="both", members=(1, 2), value=1), Region(name="b", members=(2,), value=2)),
)


class TwoThreads:
    """Stands in for two processes: sums are swapped at a barrier."""

    def __init__(self):
        self.barrier = threading.Barrier(2, timeout=60)
        self.parts: list[tuple[torch.Tensor, ...]] = [(), ()]

    def whole_batch(self, *sums: torch.Tensor) -> tuple[torch.Tensor, ...]:
        self.parts[int(threading.current_thread().name[-1])] = sums
        self.barrier.wait()
        total = tuple(a + b for a, b in zip(*self.parts, strict=True))
        self.barrier.wait()
        return total


@pytest.mark.parametrize("name", ["dice_ce", "unified_focal"])
@pytest.mark.parametrize("batch_dice", [False, True])
@pytest.mark.parametrize("labels", [LABELS, REGIONS])
def test_two_halves_are_the_whole(monkeypatch, name, batch_dice, labels):
    loss = build_loss(LossPlan(name=name, batch_dice=batch_dice), labels, [(1, 1)], [1.0, 1.0])
    random = torch.Generator().manual_seed(0)
    logits = torch.randn(4, len(labels.regions) or 3, 6, 5, generator=random, requires_grad=True)
    target = torch.randint(-1, 3, (4, 6, 5), generator=random)
    target[:2, 3:] = -1  # the first half has fewer known voxels, and only one class
    target[:2, :3] = target[:2, :3].clamp(max=1)
    whole = loss([logits], target)
    (expected,) = torch.autograd.grad(whole, logits)
    shared = TwoThreads()
    for module in (dice, unified_focal):
        monkeypatch.setattr(module, "whole_batch", shared.whole_batch)
    with ThreadPoolExecutor(2, thread_name_prefix="half") as pool:
        halves = [pool.submit(loss, [logits[part]], target[part]) for part in (slice(2), slice(2, 4))]
        mean = sum(half.result() for half in halves) / 2
    torch.testing.assert_close(mean, whole)
    torch.testing.assert_close(torch.autograd.grad(mean, logits), (expected,))


def test_a_single_process_has_the_whole_batch():
    sums = (torch.ones(2), torch.zeros(2, dtype=torch.int64))
    assert all(a is b for a, b in zip(batch.whole_batch(*sums), sums, strict=True))
