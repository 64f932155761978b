"""Dice + CE against naive loops in numpy, with regions, an ignore label and padding."""

import itertools

import numpy as np
import pytest
import torch

from unetrpp.dataset.labels import LabelScheme, Region
from unetrpp.losses.build import build_loss
from unetrpp.losses.deep_supervision import downsample_labels, head_weights
from unetrpp.losses.dice import SMOOTH, soft_dice
from unetrpp.networks.design import unet_architecture
from unetrpp.plans.plans import LossPlan

CLASSES = LabelScheme(names=("background", "a", "b"), values=(0, 1, 2))
IGNORE = LabelScheme(names=("background", "a", "b"), values=(0, 1, 2), ignore_value=9)
REGIONS = LabelScheme(
    names=("background", "a", "b"),
    values=(0, 1, 2),
    ignore_value=9,
    regions=(Region(name="whole", members=(1, 2), value=1), Region(name="core", members=(2,), value=2)),
)


def naive(logits, target, batch_dice, regions=None):
    """Voxel by voxel, as the formulas read. ``regions`` are lists of members, None means softmax."""
    logits, target = logits.double().numpy(), target.numpy()
    outputs = logits.shape[1]
    overlap, size = np.zeros((len(logits), outputs)), np.zeros((len(logits), outputs))
    entropies = []
    for b, *voxel in np.ndindex(target.shape):
        label = target[(b, *voxel)]
        if label in (-1, 3):
            continue
        z = logits[(b, slice(None), *voxel)]
        p = 1 / (1 + np.exp(-z)) if regions else np.exp(z) / np.exp(z).sum()
        y = np.array([label in members for members in regions] if regions else np.arange(outputs) == label, float)
        overlap[b] += p * y
        size[b] += p + y
        entropies.append(-np.mean(y * np.log(p) + (1 - y) * np.log(1 - p)) if regions else -np.log(p[label]))
    if batch_dice:
        overlap, size = overlap.sum(0, keepdims=True), size.sum(0, keepdims=True)
    dice = (2 * overlap + SMOOTH) / (size + SMOOTH)
    return 1 - dice[:, 0 if regions else 1 :].mean() + (np.mean(entropies) if entropies else 0)


def example(shape=(2, 3, 4, 5), outputs=3, low=-1, high=4, seed=0):
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(shape[0], outputs, *shape[1:], generator=generator) * 3
    return logits, torch.randint(low, high, shape, generator=generator, dtype=torch.int16)


@pytest.mark.parametrize("batch_dice", [False, True])
@pytest.mark.parametrize("shape", [(2, 3, 4, 5), (3, 6, 7)])
def test_classes_with_ignore_and_padding_equal_the_formulas(batch_dice, shape):
    logits, target = example(shape)
    loss = build_loss(LossPlan(batch_dice=batch_dice), IGNORE, [(1,) * (len(shape) - 1)], (1.0,) * (len(shape) - 1))
    assert loss([logits], target).item() == pytest.approx(naive(logits, target, batch_dice), rel=1e-5)


@pytest.mark.parametrize("batch_dice", [False, True])
def test_regions_equal_the_formulas(batch_dice):
    logits, target = example(outputs=2)
    loss = build_loss(LossPlan(batch_dice=batch_dice), REGIONS, [(1, 1, 1)], (1.0, 1.0, 1.0))
    assert loss([logits], target).item() == pytest.approx(naive(logits, target, batch_dice, [(1, 2), (2,)]), rel=1e-5)


@pytest.mark.parametrize(("labels", "outputs"), [(IGNORE, 3), (REGIONS, 2)])
def test_logits_under_ignore_and_padding_change_nothing(labels, outputs):
    logits, target = example(outputs=outputs)
    loss = build_loss(LossPlan(), labels, [(1, 1, 1)], (1.0, 1.0, 1.0))
    logits.requires_grad_()
    loss([logits], target).backward()
    unknown = ((target == -1) | (target == 3))[:, None].expand_as(logits)
    assert logits.grad is not None
    assert (logits.grad[unknown] == 0).all()
    assert (logits.grad[~unknown] != 0).any()


def test_a_patch_without_any_known_voxel_has_zero_loss():
    logits, target = example()
    logits.requires_grad_()
    value = build_loss(LossPlan(), IGNORE, [(1, 1, 1)], (1.0, 1.0, 1.0))([logits], torch.full_like(target, 3))
    value.backward()
    assert value.item() == 0
    assert logits.grad is not None
    assert logits.grad.abs().max() == 0


def test_a_perfect_prediction_has_zero_loss_and_an_absent_class_has_dice_one():
    target = torch.tensor([[0, 1, 1, 0]])
    logits = torch.nn.functional.one_hot(target, 3).movedim(-1, 1).float() * 200
    assert build_loss(LossPlan(), CLASSES, [(1,)], (1.0,))([logits], target).item() == pytest.approx(0, abs=1e-6)
    onehot = torch.zeros(1, 1, 4, dtype=torch.bool)
    assert soft_dice(torch.zeros(1, 1, 4), onehot, torch.ones_like(onehot), batch=False).item() == 1


@pytest.mark.parametrize("heads", [1, 2, 5])
def test_heads_are_halved_and_sum_to_one(heads):
    weights = head_weights(heads)
    assert sum(weights) == pytest.approx(1)
    assert all(b == pytest.approx(a / 2) for a, b in itertools.pairwise(weights))


@pytest.mark.parametrize("dimensions", [2, 3])
@pytest.mark.parametrize("residual", [False, True])
@pytest.mark.parametrize("stages", [3, 4, 6, 8])
def test_unets_are_supervised_as_nnunets(stages, residual, dimensions):
    """nnU-Net has a head for every decoder stage, weighs them 1, 1/2, 1/4, ... and the coarsest 0, and makes the sum 1.

    Our U-Nets lack the head of weight 0, which gets no gradient.
    """
    theirs = np.array([2.0**-i for i in range(stages - 1)])
    theirs[-1] = 0
    theirs /= theirs.sum()
    strides = [(2,) * dimensions] * (stages - 1)
    architecture = unet_architecture(1, 2, (2 ** (stages - 1),) * dimensions, strides, residual=residual)
    loss = build_loss(LossPlan(), CLASSES, architecture.head_strides(), (1.0,) * dimensions)
    assert loss.weights == pytest.approx(theirs[:-1].tolist())


def test_lower_heads_see_the_nearest_labels():
    target = torch.randint(-1, 3, (2, 4, 12, 6), dtype=torch.int16)
    for stride in [(1, 1, 1), (1, 2, 2), (2, 4, 2), (4, 3, 1)]:
        size = [n // s for n, s in zip(target.shape[1:], stride, strict=True)]
        expected = torch.nn.functional.interpolate(target[None].float(), size, mode="nearest-exact")[0]
        torch.testing.assert_close(downsample_labels(target, stride).float(), expected)


def test_several_heads_are_the_weighted_sum_of_single_ones():
    _, target = example((2, 4, 8, 8))
    strides = [(1, 1, 1), (1, 2, 2), (2, 4, 4)]
    outputs = [torch.randn(2, 3, *(n // s for n, s in zip((4, 8, 8), stride, strict=True))) for stride in strides]
    total = build_loss(LossPlan(), IGNORE, strides, (3.0, 1.0, 1.0))(outputs, target).item()
    singles = [naive(o, downsample_labels(target, s), False) for o, s in zip(outputs, strides, strict=True)]
    assert total == pytest.approx(sum(w * v for w, v in zip((4 / 7, 2 / 7, 1 / 7), singles, strict=True)), rel=1e-5)


def test_it_is_computed_in_float32_inside_autocast():
    logits, target = example((1, 32, 64, 64), high=3)
    loss = build_loss(LossPlan(), CLASSES, [(1, 1, 1)], (1.0, 1.0, 1.0))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = loss([logits.bfloat16()], target)
    assert inside.dtype == torch.float32
    assert inside.item() == pytest.approx(loss([logits.bfloat16().float()], target).item(), rel=1e-6)
