"""Mistakes in the first stage's segmentation: scipy's morphology, single components, and pure functions of the draw."""

import numpy as np
import pytest
import torch
from batchgeneratorsv2.transforms.base.basic_transform import BasicTransform
from batchgeneratorsv2.transforms.nnunet.random_binary_operator import ApplyRandomBinaryOperatorTransform
from batchgeneratorsv2.transforms.nnunet.remove_connected_components import (
    RemoveRandomConnectedComponentFromOneHotEncodingTransform,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from tests.helpers import nnunet_transforms as reference
from unetrpp.augmentation.corruption import OPERATIONS, CorruptionDraw, corrupt, draw_corruption, morph

SHAPE = (14, 20, 18)


def blobs(seed: int, classes: int = 2) -> np.ndarray:
    """A few boxes per class, away from the border."""
    rng = np.random.default_rng(seed)
    indices = np.zeros(SHAPE, np.int16)
    for c in range(1, classes + 1):
        for _ in range(3):
            z, y, x = (rng.integers(4, n - 6) for n in SHAPE)
            indices[z : z + 2, y : y + 2, x : x + 2] = c
    return indices


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**32), radius=st.integers(1, 4), operation=st.sampled_from(OPERATIONS))
def test_morphology_is_scipys_with_a_ball(seed, radius, operation):
    mask = np.random.default_rng(seed).random((12, 13, 11)) < 0.2
    mask = ndimage.binary_dilation(mask)
    wide = np.pad(mask, 3 * radius)  # scipy's border does not reach in
    ball = np.linalg.norm(np.indices((2 * radius + 1,) * 3) - radius, axis=0) <= radius
    expected = getattr(ndimage, f"binary_{operation}")(wide, ball)
    np.testing.assert_array_equal(morph(wide, operation, radius), expected)


@pytest.mark.parametrize("operation", OPERATIONS)
def test_a_class_that_fills_the_patch_or_is_absent_stays(operation):
    for mask in (np.ones(SHAPE, bool), np.zeros(SHAPE, bool)):
        np.testing.assert_array_equal(morph(mask, operation, 3), mask)
    whole = np.ones(SHAPE, np.int16)
    np.testing.assert_array_equal(corrupt(whole, CorruptionDraw(((1, operation, 2),), ((1, 0.5),))), whole)


def test_gained_voxels_come_from_other_classes_and_lost_ones_become_background():
    indices = np.zeros((1, 1, 9), np.int16)
    indices[0, 0, 2:5], indices[0, 0, 5:7] = 1, 2
    grown = corrupt(indices, CorruptionDraw(((1, "dilation", 1), (2, "closing", 1))))
    assert grown[0, 0].tolist() == [0, 1, 1, 1, 1, 1, 2, 0, 0]
    shrunk = corrupt(indices, CorruptionDraw(((1, "erosion", 1), (2, "opening", 2))))
    assert shrunk[0, 0].tolist() == [0, 0, 0, 1, 0, 0, 0, 0, 0]


def test_a_class_changes_in_its_box_as_in_the_whole_volume():
    """Inside its box and margin, a class changes as in the whole volume."""
    for seed in range(5):
        indices = blobs(seed, 1)
        for operation in OPERATIONS:
            expected = morph(indices == 1, operation, 3)
            np.testing.assert_array_equal(corrupt(indices, CorruptionDraw(((1, operation, 3),))) == 1, expected)


def test_one_small_component_is_removed():
    indices = np.zeros((10, 10, 10), np.int16)
    indices[0, 0, 0] = indices[0, 0, 5] = indices[0, 5, 0] = 1
    indices[5:] = 2  # half of the patch: too large to be overlooked
    left = [corrupt(indices, CorruptionDraw(removed=((1, which), (2, 0.5)))) for which in (0.0, 0.5, 0.99)]
    assert [np.argwhere(indices != one).tolist() for one in left] == [[[0, 0, 0]], [[0, 0, 5]], [[0, 5, 0]]]


def test_equal_draws_give_equal_mistakes():
    indices = blobs(0)
    before = indices.copy()
    draws = [draw_corruption(np.random.default_rng(i), 2) for i in range(400)]
    assert draws == [draw_corruption(np.random.default_rng(i), 2) for i in range(400)]
    for draw in draws[:20]:
        np.testing.assert_array_equal(corrupt(indices, draw), corrupt(indices, draw))
        assert set(np.unique(corrupt(indices, draw))) <= {0, 1, 2}
    np.testing.assert_array_equal(indices, before)


def test_mistakes_are_the_references():
    """The share of samples with a mistake of each kind, and of voxels that it changes, with nnU-Net 2.8.1's figures."""
    grid = np.moveaxis(np.indices((30, 30, 30)), 0, -1)
    large, small = np.linalg.norm(grid - 14.5, axis=-1) < 9, np.linalg.norm(grid - (14.5, 9, 9), axis=-1) < 5
    indices = np.where(small, 2, large).astype(np.int16)
    one_hot = torch.from_numpy(np.stack([indices == c for c in (1, 2)]).astype(np.float32))
    reference.seed(0)
    kinds = {
        "morphology": (0.4, ApplyRandomBinaryOperatorTransform([0, 1], strel_size=(1, 8), p_per_label=0.5)),
        "removed": (0.2, RemoveRandomConnectedComponentFromOneHotEncodingTransform([0, 1], 0, 0.15, 0.5)),
    }
    drawn = [draw_corruption(np.random.default_rng(i), 2) for i in range(600)]
    for kind, (probability, transform) in kinds.items():
        mistakes = [CorruptionDraw(**{kind: getattr(draw, kind)}) for draw in drawn if getattr(draw, kind)]
        assert abs(len(mistakes) / len(drawn) - probability * 0.75) < 0.04  # 0.75: of two classes at least one
        ours = [share for share in ((corrupt(indices, one) != indices).mean() for one in mistakes) if share]
        theirs = [share for share in (changed(one_hot, transform) for _ in range(120)) if share]
        assert np.isclose(np.mean(ours), np.mean(theirs), rtol=0.3), kind  # half of their balls are centred elsewhere


def changed(one_hot: torch.Tensor, transform: BasicTransform) -> float:
    """The share of voxels whose class the transform changes."""
    after = transform(image=one_hot.clone())["image"]
    return float((one_hot != after).any(0).float().mean())
