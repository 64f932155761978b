"""Lesion-wise detection on masks with few components, and against a naive search of them."""

import itertools

import numpy as np
import pytest

from unetrpp.evaluation.lesions import lesion_scores


def test_components_that_meet():
    true, predicted = np.zeros((1, 5, 20), bool), np.zeros((1, 5, 20), bool)
    true[0, 1, 1:3] = true[0, 1, 6:9] = true[0, 1, 12:14] = True
    predicted[0, 2, 2] = predicted[0, 1, 8:13] = predicted[0, 4, 18] = True  # beside one, over two, alone
    scores = lesion_scores(predicted, true)
    assert (scores["lesions_ref"], scores["lesions_detected"]) == (3, 2)
    assert (scores["lesions_pred"], scores["lesions_false"]) == (3, 2)
    assert scores["lesion_sensitivity"] == pytest.approx(2 / 3)
    assert scores["lesion_precision"] == pytest.approx(1 / 3)
    assert scores["lesion_F1"] == pytest.approx(4 / 9)


def test_corners_connect():
    mask = np.zeros((3, 3, 3), bool)
    mask[0, 0, 0] = mask[1, 1, 1] = mask[2, 2, 2] = True
    assert lesion_scores(mask, mask)["lesions_ref"] == 1


def test_without_lesions_nothing_is_defined():
    empty = np.zeros((3, 3, 3), bool)
    scores = lesion_scores(empty, empty)
    assert scores["lesion_sensitivity"] is scores["lesion_precision"] is scores["lesion_F1"] is None
    assert lesion_scores(~empty, empty)["lesion_precision"] == 0
    assert lesion_scores(~empty, empty)["lesion_F1"] == lesion_scores(empty, ~empty)["lesion_F1"] == 0


def test_fragments_gain_nothing():
    """One lesion found, two missed, one false alarm; in pieces, the hit is worth as much as in one."""
    true, whole = np.zeros((1, 9, 24), bool), np.zeros((1, 9, 24), bool)
    true[0, 1, 1:20] = true[0, 4, 2:5] = true[0, 6, 2:5] = True
    whole[0, 1, 1:20] = whole[0, 8, 22] = True
    pieces = whole.copy()
    pieces[0, 1, 2:20:2] = False
    one, many = lesion_scores(whole, true), lesion_scores(pieces, true)
    assert (one["lesions_pred"], many["lesions_pred"]) == (2, 11)
    assert one["lesion_precision"] == many["lesion_precision"] == 0.5
    assert one["lesion_F1"] == many["lesion_F1"] == pytest.approx(2 * (1 / 3) * (1 / 2) / (1 / 3 + 1 / 2))


def naive_components(mask: np.ndarray) -> list[set[tuple[int, ...]]]:
    left, found = {tuple(map(int, voxel)) for voxel in np.argwhere(mask)}, []
    while left:
        component, edge = set(), [left.pop()]
        while edge:
            voxel = edge.pop()
            component.add(voxel)
            near = {v for v in left if max(abs(a - b) for a, b in zip(v, voxel, strict=True)) <= 1}
            left -= near
            edge += near
        found.append(component)
    return found


def naive_pairs(predicted: list[set[tuple[int, ...]]], true: list[set[tuple[int, ...]]]) -> int:
    """Most pairs that overlap, by trying every order of the components: each takes the first free lesion."""
    best = 0
    for choice in itertools.product(range(-1, len(true)), repeat=len(predicted)):
        taken = [i for i in choice if i >= 0]
        overlap = all(i < 0 or component & true[i] for component, i in zip(predicted, choice, strict=True))
        if overlap and len(set(taken)) == len(taken):
            best = max(best, len(taken))
    return best


@pytest.mark.parametrize("seed", range(12))
def test_scores_are_those_of_a_naive_search(seed):
    rng = np.random.default_rng(seed)
    predicted, true = (rng.random((1, 6, 7)) < p for p in rng.uniform(0.05, 0.25, 2))
    ours, theirs = naive_components(predicted), naive_components(true)
    detected = sum(any(lesion & component for component in ours) for lesion in theirs)
    false = sum(not any(lesion & component for lesion in theirs) for component in ours)
    pairs = naive_pairs(ours[:6], theirs) if len(ours) <= 6 else None
    scores = lesion_scores(predicted, true)
    assert (scores["lesions_ref"], scores["lesions_pred"]) == (len(theirs), len(ours))
    assert (scores["lesions_detected"], scores["lesions_false"]) == (detected, false)
    sensitivity, precision, f1 = (scores[f"lesion_{name}"] or 0 for name in ("sensitivity", "precision", "F1"))
    assert sensitivity == pytest.approx(detected / len(theirs) if theirs else 0)
    if pairs is not None and ours:
        assert precision == pytest.approx(pairs / (pairs + false) if pairs + false else 0)
    total = sensitivity + precision
    assert f1 == pytest.approx(2 * sensitivity * precision / total if total else 0)
