"""Decisions and uncertainty, compared with torch's own operators and closed forms."""

import math

import pytest
import torch

from unetrpp.dataset.labels import LabelScheme, Region
from unetrpp.inference.averaging import arg_max, decide_logits, disagreement, entropy, last_above

THREE = LabelScheme(names=("background", "a", "b"), values=(0, 1, 2))
REGION = LabelScheme(names=("background", "a"), values=(0, 1), regions=(Region(name="a", members=(1,), value=1),))


@pytest.mark.parametrize("classes", [1, 2, 7, 256, 257, 400])
def test_arg_max(classes):
    values = torch.randint(0, 50, (classes, 3, 4, 5)).float()  # with ties
    expected = torch.stack([(values == values.amax(dim=0)).int()[k] * (classes - k) for k in range(classes)]).amax(
        dim=0
    )
    assert torch.equal(arg_max(values).long(), classes - expected.long())


def test_last_above():
    values = torch.tensor([[0.6, 0.6, 0.5, 0.1], [0.4, 0.9, 0.5, 0.7]])
    assert last_above(values, 0.5).tolist() == [1, 2, 0, 2]


def test_logits_decide_as_their_probabilities():
    logits = torch.randn(3, 10, 10)
    assert torch.equal(decide_logits(logits, THREE).long(), logits.softmax(dim=0).argmax(dim=0))
    assert torch.equal(decide_logits(logits[:1], REGION).bool(), logits[0].sigmoid() > 0.5)


def test_entropy_is_0_where_sure_and_1_where_all_classes_are_equal():
    mean = torch.tensor([[1.0, 1 / 3, 0.5], [0.0, 1 / 3, 0.5], [0.0, 1 / 3, 0.0]])
    assert entropy(mean, THREE).tolist() == pytest.approx([0, 1, math.log(2) / math.log(3)])
    assert entropy(torch.tensor([[0.0, 0.5, 1.0]]), REGION).tolist() == pytest.approx([0, 1, 0])


def test_disagreement_is_the_share_of_folds_against_their_mean():
    folds = torch.tensor([[0.9, 0.1, 0.0], [0.6, 0.4, 0.0], [0.1, 0.9, 0.0], [0.9, 0.1, 0.0]])[..., None]
    assert disagreement(folds, folds.mean(dim=0), THREE).tolist() == pytest.approx([0.25])
