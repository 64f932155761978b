"""Scores of several batches against scores of all patches together."""

import pytest
import torch

from unetrpp.dataset.labels import LabelScheme
from unetrpp.trainers.distributed import ALONE
from unetrpp.trainers.overlap import ClassOverlap
from unetrpp.trainers.patch_validation import PatchScores, score_patches

LABELS = LabelScheme(names=("background", "a", "b"), values=(0, 1, 2))


def cross_entropy(outputs, target):
    return torch.nn.functional.cross_entropy(outputs[0], target)


def test_the_loss_is_averaged_over_batches_and_the_dice_is_pooled():
    torch.manual_seed(0)
    outputs = [[torch.randn(2, 3, 4, 5, 6), torch.randn(2, 3, 2, 3, 3)] for _ in range(4)]
    targets = [torch.randint(0, 2, (2, 4, 5, 6)) for _ in range(4)]  # class b is predicted only
    scores = score_patches(zip(outputs, targets, strict=True), cross_entropy, ClassOverlap(LABELS), ALONE)
    logits, target = torch.cat([each[0] for each in outputs]), torch.cat(targets)
    assert scores.loss == pytest.approx(cross_entropy([logits], target).item())
    predicted = logits.argmax(1)
    hits = ((predicted == 1) & (target == 1)).sum().item()
    sizes = ((predicted == 1).sum() + (target == 1).sum()).item()
    assert scores.dice == [pytest.approx(2 * hits / sizes), 0.0]
    assert scores.mean_dice == pytest.approx(hits / sizes)


def test_no_gradients_are_kept():
    weight = torch.ones(1, 3, 1, requires_grad=True)

    def loss(outputs, target):
        assert not (outputs[0] * weight).requires_grad
        return outputs[0].mean()

    score_patches([([torch.zeros(1, 3, 4)], torch.zeros(1, 4))], loss, ClassOverlap(LABELS), ALONE)


def test_the_mean_is_over_defined_classes():
    assert PatchScores(0.0, [0.25, None, 0.75]).mean_dice == 0.5
    assert PatchScores(0.0, [None]).mean_dice is None
