"""Pooled Dice against a naive count."""

import numpy as np
import pytest
import torch

from unetrpp.dataset.labels import LabelScheme, Region
from unetrpp.trainers.overlap import ClassOverlap, mean_dice

SCHEME = LabelScheme(names=("background", "a", "b", "c"), values=(0, 1, 2, 3), ignore_value=4)


def test_equals_a_naive_count_over_annotated_voxels():
    rng = np.random.default_rng(0)
    overlap = ClassOverlap(SCHEME)
    predicted, true = [], []
    for _ in range(3):
        logits = torch.from_numpy(rng.normal(size=(2, 4, 5, 6, 7)))
        logits[:, 3] = -100  # never predicted; and below, never true
        target = torch.from_numpy(rng.choice([-1, 0, 1, 2, 4], (2, 5, 6, 7)).astype(np.int16))
        overlap.add(logits, target)
        known = ((target >= 0) & (target != 4)).numpy()
        predicted.append(logits.argmax(1).numpy()[known])
        true.append(target.numpy()[known])
    p, t = np.concatenate(predicted), np.concatenate(true)
    expected = [2 * ((p == c) & (t == c)).sum() / ((p == c).sum() + (t == c).sum()) for c in (1, 2)]
    assert overlap.dice()[:2] == pytest.approx(expected)
    assert overlap.dice()[2] is None
    assert mean_dice(overlap.dice()) == np.mean(expected)


def test_regions():
    scheme = LabelScheme(
        names=("background", "a", "b"),
        values=(0, 1, 2),
        regions=(Region(name="both", members=(1, 2), value=1), Region(name="core", members=(2,), value=2)),
    )
    overlap = ClassOverlap(scheme)
    target = torch.tensor([[0, 1, 2, 2]])
    logits = torch.tensor([[[-1.0, 1, 1, -1], [-1.0, -1, 1, 1]]])
    overlap.add(logits, target)
    assert overlap.dice() == [0.8, 1.0]


def test_nothing_defined_has_no_mean():
    assert mean_dice([None, None]) is None
