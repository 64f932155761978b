"""Unified Focal loss against its formulas voxel by voxel, closed forms, its limits and its numerical traps."""

import numpy as np
import pytest
import torch

from unetrpp.core.errors import UserError
from unetrpp.dataset.labels import LabelScheme, Region
from unetrpp.losses.build import build_loss
from unetrpp.losses.distance import BoundaryWeights
from unetrpp.losses.unified_focal import SMOOTH, focal_cross_entropy, focal_tversky, tversky_index
from unetrpp.plans.plans import LossPlan

IGNORE = LabelScheme(names=("background", "a", "b"), values=(0, 1, 2), ignore_value=9)
BINARY = LabelScheme(names=("background", "a"), values=(0, 1))
REGIONS = LabelScheme(
    names=("background", "a", "b"),
    values=(0, 1, 2),
    ignore_value=9,
    regions=(Region(name="whole", members=(1, 2), value=1), Region(name="core", members=(2,), value=2)),
)


def make(labels, spacing=(1.0, 1.0, 1.0), **plan):
    plan = {"name": "unified_focal"} | plan
    return build_loss(LossPlan(**plan), labels, [(1,) * len(spacing)], spacing)


def naive(arrays, g, delta, w, symmetric, voxel_weights=None, batch=False):
    """Numpy float64, from the formulas. ``arrays``: p, y (B, C, n) and valid (B, n); weights (B, C, n) or None."""
    p, y, valid = arrays
    omega = np.ones_like(p) if voxel_weights is None else voxel_weights
    total = norm = 0.0
    for b, x in zip(*np.nonzero(valid), strict=True):
        true = int(y[b, :, x].argmax())
        balance = 1 - delta if true == 0 else delta
        power = (1 - p[b, true, x]) ** g if true == 0 or symmetric else 1
        weight = omega[b, :, x].max()
        total += weight * balance * power * -np.log(p[b, true, x])
        norm += weight
    focal = total / norm
    groups = [range(len(p))] if batch else [[b] for b in range(len(p))]
    means = []
    for group in groups:
        terms = []
        for c in range(p.shape[1]):
            known = np.stack([valid[b] for b in group])
            pc, yc, wc = (np.stack([a[b, c] for b in group]) * known for a in (p, y, omega))
            if not yc.any():
                continue
            tp, fn, fp = (wc * pc * yc).sum(), (wc * (1 - pc) * yc).sum(), (wc * pc * (1 - yc)).sum()
            miss = 1 - (tp + SMOOTH) / (tp + delta * fn + (1 - delta) * fp + SMOOTH)
            terms.append(miss ** (1 - g) if c > 0 or symmetric else miss)
        if terms:
            means.append(np.mean(terms))
    return w * np.mean(means) + (1 - w) * focal


def example(shape=(2, 3, 4, 5), outputs=3, seed=1):
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(shape[0], outputs, *shape[1:], generator=generator, dtype=torch.float64)
    return logits, torch.randint(-1, 4, shape, generator=generator, dtype=torch.int16)


def as_arrays(logits, target):
    p = logits.softmax(1).flatten(2).numpy()
    index = target.flatten(1).numpy()
    return p, np.stack([index == c for c in range(p.shape[1])], 1).astype(float), (index >= 0) & (index < 3)


@pytest.mark.parametrize("symmetric", [False, True])
@pytest.mark.parametrize("batch_dice", [False, True])
@pytest.mark.parametrize(("g", "delta", "w"), [(0.5, 0.6, 0.5), (0.2, 0.7, 0.3), (0.0, 0.5, 0.5)])
@pytest.mark.parametrize("shape", [(2, 3, 4, 5), (2, 6, 7)])
def test_classes_equal_the_formulas(symmetric, batch_dice, g, delta, w, shape):
    logits, target = example(shape)
    loss = make(
        IGNORE, (1.0,) * (len(shape) - 1), gamma=g, delta=delta, weight=w, symmetric=symmetric, batch_dice=batch_dice
    )
    expected = naive(as_arrays(logits, target), g, delta, w, symmetric, batch=batch_dice)
    assert loss([logits], target).item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("batch_dice", [False, True])
def test_a_region_is_a_two_class_problem_with_a_sigmoid(batch_dice):
    logits, target = example(outputs=2)
    index = target.flatten(1).numpy()
    valid = (index >= 0) & (index < 3)
    parts = []
    for r, members in enumerate([(1, 2), (2,)]):
        p = 1 / (1 + np.exp(-logits[:, r].flatten(1).numpy()))
        y = np.isin(index, members).astype(float)
        two = np.stack([1 - p, p], 1), np.stack([1 - y, y], 1) * valid[:, None]
        parts.append(naive((*two, valid), 0.5, 0.6, 0.5, False, batch=batch_dice))
    assert make(REGIONS, batch_dice=batch_dice)([logits], target).item() == pytest.approx(np.mean(parts), rel=1e-5)


def test_without_focus_it_is_half_dice_and_a_quarter_of_cross_entropy():
    logits, target = example()
    target = target.clamp(0, 2)
    p, y, _ = as_arrays(logits, target)
    dice = (2 * (p * y).sum(2) + 2 * SMOOTH) / ((p + y).sum(2) + 2 * SMOOTH)
    entropy = torch.nn.functional.cross_entropy(logits, target.long()).item()
    value = make(IGNORE, weight=0.5, gamma=0.0, delta=0.5)([logits], target).item()
    assert value == pytest.approx(0.5 * (1 - dice.mean()) + 0.25 * entropy, rel=1e-5)


def test_closed_form_of_uniform_probabilities():
    """p = 1/2 everywhere, half of n voxels foreground: TI = (n/4) / (n/4 + n/4) for every delta, CE = log 2."""
    target = torch.tensor([[0, 1] * 50])
    logits = torch.zeros(1, 2, 100)
    g, delta, w = 0.5, 0.6, 0.25
    entropy = np.log(2) * ((1 - delta) * 0.5**g + delta) / 2
    tversky = (0.5 + 0.5 ** (1 - g)) / 2
    value = make(BINARY, (1.0,), gamma=g, delta=delta, weight=w)([logits], target).item()
    assert value == pytest.approx(w * tversky + (1 - w) * entropy, rel=1e-5)


@pytest.mark.parametrize("name", ["unified_focal", "unified_focal_distance"])
@pytest.mark.parametrize("symmetric", [False, True])
@pytest.mark.parametrize(("labels", "outputs"), [(IGNORE, 3), (REGIONS, 2)])
def test_a_perfect_prediction_is_the_minimum(name, symmetric, labels, outputs):
    target = torch.zeros(1, 6, 7, 8, dtype=torch.int16)
    target[0, 1:4, 2:5, 2:6] = 1
    target[0, 2:3, 3:5, 3:5] = 2
    loss = make(labels, (3.0, 1.0, 1.0), name=name, symmetric=symmetric, distance_scale_mm=(2.0, 3.0))
    index = target.long()
    truth = torch.stack([index > 0, index > 1], 1) if outputs == 2 else torch.stack([index == c for c in range(3)], 1)
    signs = truth.float() * 2 - 1
    best = loss([signs * 100], target).item()
    assert best == pytest.approx(0, abs=1e-5)
    generator = torch.Generator().manual_seed(0)
    for _ in range(20):
        worse = signs * torch.rand(signs.shape, generator=generator) * 100
        worse[:, :, 2, 3] += torch.randn(outputs, 8, generator=generator) * 60
        assert loss([worse], target).item() > best - 1e-6
    flipped = signs * 100
    flipped[0, :, 3, 3, 3] *= -1
    assert loss([flipped], target).item() > best + 1e-3


def test_absent_classes_are_left_out():
    index = torch.tensor([[0.9, 0.2, 0.7], [0.9, 0.5, 0.4]])
    present = torch.tensor([[True, False, True], [False, False, False]])
    value = focal_tversky(index, present, gamma=0.5, symmetric=False).item()
    assert value == pytest.approx((0.1 + 0.3**0.5) / 2, rel=1e-5)
    assert focal_tversky(index, present & False, gamma=0.5, symmetric=False).item() == 0


def test_the_slope_of_the_tversky_term_is_bounded_and_it_is_continuous():
    index = torch.tensor(
        [[0.5, 1 - 1e-7], [0.5, 1 - 1.001e-3], [0.5, 1 - 0.999e-3]], dtype=torch.float64, requires_grad=True
    )
    values = torch.stack(
        [focal_tversky(i[None], torch.tensor([[False, True]]), gamma=0.75, symmetric=False) for i in index]
    )
    values.sum().backward()
    assert index.grad is not None
    assert index.grad[:, 1].abs().max() <= 1e-3**-0.75 * 1.001
    assert values[1].item() == pytest.approx(values[2].item(), rel=5e-3)


@pytest.mark.parametrize("name", ["unified_focal", "unified_focal_distance"])
@pytest.mark.parametrize("symmetric", [False, True])
@pytest.mark.parametrize(("labels", "outputs"), [(IGNORE, 3), (REGIONS, 2)])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("gamma", [0.1, 0.75])
def test_gradients_stay_finite_at_saturated_logits_in_half_precision(name, symmetric, labels, outputs, dtype, gamma):
    _, target = example()
    loss = make(labels, name=name, symmetric=symmetric, gamma=gamma, distance_scale_mm=(2.0, 2.0))
    for scale in (0.0, 1.0, 30.0, 68.0, 100.0, 6e4):
        signs = torch.randn(2, outputs, 3, 4, 5, generator=torch.Generator().manual_seed(3)).sign()
        logits = (signs * scale).to(dtype).requires_grad_()
        with torch.autocast("cpu", dtype=torch.bfloat16):
            value = loss([logits], target)
        value.backward()
        assert torch.isfinite(value)
        assert logits.grad is not None
        assert torch.isfinite(logits.grad).all()


@pytest.mark.parametrize("name", ["unified_focal", "unified_focal_distance"])
@pytest.mark.parametrize(("labels", "outputs"), [(IGNORE, 3), (REGIONS, 2)])
def test_logits_under_ignore_and_padding_change_nothing(name, labels, outputs):
    logits, target = example(outputs=outputs)
    logits.requires_grad_()
    make(labels, name=name, distance_scale_mm=(2.0, 2.0))([logits], target).backward()
    unknown = ((target == -1) | (target == 3))[:, None].expand_as(logits)
    assert logits.grad is not None
    assert (logits.grad[unknown] == 0).all()
    assert (logits.grad[~unknown] != 0).any()


def test_gradients_equal_finite_differences():
    logits, target = example((1, 2, 3, 3))
    for plan in ({"symmetric": True}, {"name": "unified_focal_distance", "distance_scale_mm": (2.0, 2.0)}):
        loss = make(IGNORE, **plan).losses[0]
        truth = make(IGNORE, **plan).encoder(target)
        assert torch.autograd.gradcheck(
            lambda z, loss=loss, truth=truth: loss(z, truth), logits.clone().requires_grad_()
        )


@pytest.mark.parametrize("off", [{"distance_strength": 0.0}, {"distance_gamma": 0.0}])
def test_a_penalty_switched_off_is_the_plain_loss_bit_for_bit(off):
    logits, target = example()
    plain = make(IGNORE)([logits], target)
    assert torch.equal(
        make(IGNORE, name="unified_focal_distance", distance_scale_mm=(2.0, 2.0), **off)([logits], target), plain
    )


def test_the_penalty_grows_over_the_first_fifth_of_training():
    logits, target = example()
    loss = make(IGNORE, name="unified_focal_distance", distance_scale_mm=(2.0, 2.0))
    values = []
    for share in (0.0, 0.1, 0.2, 0.7):
        loss.set_progress(share)
        values.append(loss([logits], target).item())
    assert values[0] == make(IGNORE)([logits], target).item()
    assert values[1] not in (values[0], values[2])
    assert values[2] == values[3]


@pytest.mark.parametrize("mode", ["near", "far"])
@pytest.mark.parametrize("batch_dice", [False, True])
def test_weighted_classes_equal_the_formulas(mode, batch_dice):
    logits, target = example()
    weigh = BoundaryWeights((2.0, 3.0), (2.0, 1.0, 1.0), strength=0.8, gamma=1.5, mode=mode)
    loss = make(
        IGNORE,
        (2.0, 1.0, 1.0),
        name="unified_focal_distance",
        distance_scale_mm=(2.0, 3.0),
        distance_strength=0.8,
        distance_gamma=1.5,
        distance_mode=mode,
        batch_dice=batch_dice,
    )
    truth = loss.encoder(target)
    weights = weigh(truth.onehot, truth.valid)
    assert weights is not None
    omega = weights.flatten(2).double().numpy()
    expected = naive(as_arrays(logits, target), 0.5, 0.6, 0.5, False, omega, batch=batch_dice)
    assert loss([logits], target).item() == pytest.approx(expected, rel=1e-5)


def test_weighting_true_positives_alone_would_fall_below_the_bound_and_ours_does_not():
    truth = torch.zeros(1, 2, 40, dtype=torch.bool)
    truth[0, 1, 10:20] = True
    truth[0, 0] = ~truth[0, 1]
    valid = torch.ones(1, 1, 40, dtype=torch.bool)
    weights = 1 + 5 * torch.rand(1, 2, 40, generator=torch.Generator().manual_seed(0))
    index = tversky_index(truth.float(), truth, valid, delta=0.6, weights=weights)
    torch.testing.assert_close(index, torch.ones(1, 2))
    assert tversky_index(torch.full((1, 2, 40), 0.5), truth, valid, delta=0.6, weights=weights).max() < 1


def test_focal_cross_entropy_of_background_fades_with_confidence():
    onehot = torch.tensor([[[True], [False]]])
    valid = torch.ones(1, 1, 1, dtype=torch.bool)
    sure, unsure = torch.tensor([[[4.0], [0.0]]]), torch.tensor([[[0.5], [0.0]]])

    def ratio(gamma):
        a, b = (
            focal_cross_entropy(z.log_softmax(1), onehot, valid, gamma=gamma, delta=0.6, symmetric=False)
            for z in (sure, unsure)
        )
        return (a / b).item()

    miss = [1 - torch.sigmoid(torch.tensor(z)).item() for z in (4.0, 0.5)]
    assert ratio(0.5) == pytest.approx(ratio(0.0) * (miss[0] / miss[1]) ** 0.5, rel=1e-5)


def test_a_missing_distance_scale_is_a_user_error():
    with pytest.raises(UserError, match="needs 2 scales above 0 mm"):
        make(IGNORE, name="unified_focal_distance", distance_scale_mm=(2.0,))
