"""Lesion-wise detection on masks with few components."""

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
    assert scores["lesion_F1"] == pytest.approx(3 / 6)


def test_corners_connect():
    mask = np.zeros((3, 3, 3), bool)
    mask[0, 0, 0] = mask[1, 1, 1] = mask[2, 2, 2] = True
    assert lesion_scores(mask, mask)["lesions_ref"] == 1


def test_without_lesions_nothing_is_defined():
    empty = np.zeros((3, 3, 3), bool)
    scores = lesion_scores(empty, empty)
    assert scores["lesion_sensitivity"] is scores["lesion_precision"] is scores["lesion_F1"] is None
    assert lesion_scores(~empty, empty)["lesion_precision"] == 0
