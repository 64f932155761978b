"""The affine against scipy, and that image and label stay aligned."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import affine_transform

from unetrpp.augmentation.spatial import apply_affine, draw_affine, read_size, rotation
from unetrpp.plans import AugmentationPlan


def naive(volume: np.ndarray, affine: np.ndarray, patch: tuple[int, ...], order: int) -> np.ndarray:
    """scipy's map of output index to input index, about both centres."""
    offset = (np.array(volume.shape) - 1) / 2 - affine @ ((np.array(patch) - 1) / 2)
    return affine_transform(volume, affine, offset, output_shape=patch, order=order, mode="grid-constant")


@pytest.mark.parametrize("patch", [(8, 10, 12), (7, 9, 6), (1, 12, 12)])
def test_equals_scipy(patch):
    rng = np.random.default_rng(0)
    affine = rotation(0, 0.4) @ np.diag([1.0, 0.8, 1.3])
    if patch[0] > 1:
        affine = affine @ rotation(2, -0.3)
    read = read_size(affine, patch)
    image = rng.random(read).astype(np.float32)
    label = rng.integers(0, 3, read).astype(np.int16)
    moved, moved_label = apply_affine(torch.from_numpy(image)[None], torch.from_numpy(label), affine, patch)
    np.testing.assert_allclose(moved[0].numpy(), naive(image, affine, patch, 1), atol=2e-4)
    # Nearest voxel: positions half-way between two voxels may go either way.
    assert (moved_label.numpy() == naive(label + 1, affine, patch, 0) - 1).mean() > 0.98


def test_outside_is_unlabelled():
    affine = np.diag([1.0, 1.0, 1.4])
    image, label = torch.ones(1, 4, 6, 6), torch.ones(4, 6, 6, dtype=torch.int16)
    _, moved = apply_affine(image, label, affine, (4, 6, 6))  # read no more than the patch: the rim is outside
    assert moved[:, :, 0].eq(-1).all()
    assert moved[:, :, 2:4].eq(1).all()


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**32), z=st.integers(1, 20), y=st.integers(1, 40), x=st.integers(1, 40))
def test_what_is_read_covers_the_patch(seed, z, y, x):
    rng = np.random.default_rng(seed)
    plan = AugmentationPlan(rotation_degrees=(180.0, 30.0, 30.0))
    affine = next(m for m in (draw_affine(rng, plan) for _ in range(1000)) if m is not None)
    patch = (z, y, x)
    read = read_size(affine, patch)
    corners = np.array(np.meshgrid(*[(-(n - 1) / 2, (n - 1) / 2) for n in patch])).reshape(3, -1)
    reach = np.abs(affine @ corners).max(axis=1)
    for needed, have, n in zip(reach, read, patch, strict=True):
        assert n == 1 or needed <= (have - 1) / 2 + 1e-9
        assert (have - n) % 2 == 0


def test_in_plane_only_leaves_the_first_axis_alone():
    plan = AugmentationPlan(rotation_degrees=(180.0, 0.0, 0.0), in_plane_only=True)
    rng = np.random.default_rng(1)
    for _ in range(50):
        affine = draw_affine(rng, plan)
        if affine is not None:
            np.testing.assert_allclose(affine[0], [1, 0, 0], atol=1e-12)
            np.testing.assert_allclose(affine[1:, 0], 0, atol=1e-12)


def test_share_of_samples_that_move_is_36_percent():
    plan = AugmentationPlan(rotation_degrees=(30.0, 30.0, 30.0))
    rng = np.random.default_rng(2)
    moved = np.mean([draw_affine(rng, plan) is not None for _ in range(4000)])
    assert abs(moved - (1 - 0.8 * 0.8)) < 0.03
