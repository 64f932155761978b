"""The affine against scipy, and that image and label stay aligned."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import affine_transform

from unetrpp.augmentation import interpolation
from unetrpp.augmentation.spatial import apply_affine, draw_affine, read_size, rotation
from unetrpp.plans.plans import AugmentationPlan


def naive(volume: np.ndarray, affine: np.ndarray, patch: tuple[int, ...], order: int) -> np.ndarray:
    """scipy's map of output index to input index, about both centres."""
    offset = (np.array(volume.shape) - 1) / 2 - affine @ ((np.array(patch) - 1) / 2)
    return affine_transform(volume, affine, offset, output_shape=patch, order=order, mode="grid-constant")


@pytest.mark.parametrize("patch", [(8, 10, 12), (7, 9, 6), (1, 12, 12)])
@pytest.mark.parametrize("turns", [{}, {0: 0.4}, {0: 0.4, 2: -0.3}])
def test_equals_scipy(patch, turns):
    rng = np.random.default_rng(0)
    affine = np.diag([1.0, 0.83, 1.27])
    for axis, angle in turns.items():
        if patch[0] > 1 or axis == 0:
            affine = rotation(axis, angle) @ affine
    read = read_size(affine, patch)
    image = rng.random(read).astype(np.float32)
    label = rng.integers(0, 3, read).astype(np.int16)
    moved, moved_label = apply_affine(torch.from_numpy(image)[None], torch.from_numpy(label), affine, patch)
    np.testing.assert_allclose(moved[0].numpy(), naive(image, affine, patch, 1), atol=2e-4)
    # Nearest voxel: positions half-way between two voxels may go either way.
    assert (moved_label.numpy() == naive(label + 1, affine, patch, 0) - 1).mean() > 0.98


@pytest.mark.parametrize("turn", [0.0, 0.3])
def test_positions_beyond_the_read_box_take_its_edge(turn):
    affine = rotation(0, turn) @ np.diag([1.0, 1.0, 1.4])
    image = torch.arange(6.0).expand(1, 4, 6, 6).contiguous()
    moved, label = apply_affine(image, image[0].short(), affine, (4, 6, 6))  # read no more than the patch
    assert moved.min() == label.min() == 0
    assert moved.max() == label.max() == 5


def test_several_channels_and_maps_move_alike():
    rng = np.random.default_rng(3)
    patch = (6, 9, 8)
    for affine in (rotation(1, 0.3) @ rotation(0, 0.2), np.diag([1.0, 1.2, 0.8])):
        read = read_size(affine, patch)
        image = torch.from_numpy(rng.random((2, *read)).astype(np.float32))
        maps = torch.from_numpy(rng.integers(-1, 4, (2, *read)).astype(np.int16))
        moved, chosen = apply_affine(image, maps, affine, patch)
        for i in range(2):
            alone, map_alone = apply_affine(image[i : i + 1], maps[i], affine, patch)
            assert torch.equal(moved[i], alone[0])
            assert torch.equal(chosen[i], map_alone)


def test_the_result_does_not_depend_on_slabs(monkeypatch):
    affine = rotation(0, 0.3) @ rotation(2, -0.2)
    image = torch.from_numpy(np.random.default_rng(4).random((1, *read_size(affine, (8, 9, 10)))).astype(np.float32))
    label = (image[0] * 9).short()
    whole = apply_affine(image, label, affine, (8, 9, 10))
    monkeypatch.setattr(interpolation, "SLAB", 3 * 9 * 10)
    parts = apply_affine(image, label, affine, (8, 9, 10))
    assert torch.equal(whole[0], parts[0])
    assert torch.equal(whole[1], parts[1])


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
