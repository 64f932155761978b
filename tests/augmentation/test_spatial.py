"""Rotation and zoom against scipy and batchgeneratorsv2."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import affine_transform, gaussian_filter

from tests.helpers import nnunet_transforms as reference
from unetrpp.augmentation import interpolation, label_votes
from unetrpp.augmentation.spatial import MOST_READ, ReadBox, apply_affine, draw_affine, read_box, read_size, rotation
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
    label = rng.integers(-2, 4, read).astype(np.int16)
    moved, moved_label = apply_affine(torch.from_numpy(image)[None], torch.from_numpy(label), affine, patch)
    np.testing.assert_allclose(moved[0].numpy(), naive(image, affine, patch, 1), atol=2e-4)
    classes = np.arange(-2, 4)
    scores = np.stack([naive((label == c).astype(np.float32), affine, patch, 1) for c in classes])
    lowest, highest = np.sort(scores, axis=0)[-2:]
    clear = highest - lowest > 1e-3
    assert clear.mean() > 0.98
    np.testing.assert_array_equal(moved_label.numpy()[clear], classes[scores.argmax(0)][clear])


def blobs(rng: np.random.Generator, shape: tuple[int, ...], classes: int) -> np.ndarray:
    """Smooth regions of the labels from -1, which border on each other anywhere."""
    return (
        np.stack([gaussian_filter(rng.normal(size=shape), 1.5) for _ in range(classes)]).argmax(0).astype(np.int16) - 1
    )


AFFINES = [
    np.diag([0.83] * 3),
    np.diag([1.31] * 3),
    np.diag([1.0, 1.17, 1.17]),
    rotation(0, 0.4),
    rotation(2, 0.2) @ rotation(1, -0.3) @ rotation(0, 0.5) @ np.diag([1.1] * 3),
]


@pytest.mark.parametrize("classes", [2, 3, 12])
@pytest.mark.parametrize("affine", AFFINES)
def test_equals_the_reference(monkeypatch, affine, classes):
    """Voxel by voxel; the nearest voxel's label would differ in some percent of the voxels."""
    rng, patch = np.random.default_rng(classes), (16, 18, 20)
    read = read_size(affine, patch)
    image, label = rng.random((2, *read)).astype(np.float32), blobs(rng, read, classes)
    moved, labels = apply_affine(torch.from_numpy(image), torch.from_numpy(label), affine, patch)
    monkeypatch.setattr("batchgeneratorsv2.transforms.spatial.spatial.create_affine_matrix_3d", lambda *_: affine)
    transform = reference.spatial(patch, 30)
    transform.p_rotation = 1
    theirs = transform(image=torch.from_numpy(image), segmentation=torch.from_numpy(label)[None])
    np.testing.assert_allclose(moved, theirs["image"], atol=2e-4)
    assert (labels == theirs["segmentation"][0]).float().mean() > 0.999
    nearest = naive(label, affine, patch, 0)
    assert (labels.numpy() != nearest).mean() > 0.005


@pytest.mark.parametrize("in_plane_only", [False, True])
def test_maps_have_the_references_distribution(in_plane_only):
    degrees, axes = (180.0, 2) if in_plane_only else (30.0, 3)
    plan = AugmentationPlan(
        rotation_degrees=(degrees, 0.0, 0.0) if in_plane_only else (degrees,) * 3, in_plane_only=in_plane_only
    )
    rng, count = np.random.default_rng(0), 6000
    maps = [draw_affine(rng, plan) for _ in range(count)]
    reference.seed(1)
    transform, image = reference.spatial((4,) * axes, degrees), torch.zeros(1, *(4,) * axes)
    theirs = [transform.get_parameters(image=image)["affine"] for _ in range(count)]
    both = [
        [map_features(affine[-axes:, -axes:]) for affine in drawn if affine is not None] for drawn in (maps, theirs)
    ]
    for moved in both:
        zooms = np.array([draw["zoom"] for draw in moved])
        zooms = zooms[np.abs(zooms - 1) > 1e-6]
        assert len(moved) / count == pytest.approx(1 - 0.8 * 0.8, abs=0.025)
        assert len(zooms) / count == pytest.approx(0.2, abs=0.025)
        assert (zooms > 1).mean() == pytest.approx(4 / 7, abs=0.04)  # uniform from 0.7 to 1.4
    reference.assert_same_distributions(*both)


def map_features(affine: np.ndarray) -> dict[str, float]:
    """The zoom factor, and how far every axis points along every other."""
    zoom = np.linalg.det(affine) ** (1 / len(affine))
    return {"zoom": zoom} | {f"axes {i} and {j}": affine[i, j] / zoom for i, j in np.ndindex(affine.shape)}


@pytest.mark.parametrize("affine", AFFINES)
def test_a_gpu_votes_everywhere_with_the_same_result(monkeypatch, affine):
    rng, patch = np.random.default_rng(5), (7, 8, 9)
    label = torch.from_numpy(blobs(rng, read_size(affine, patch), 6))
    image = torch.zeros(1, *label.shape)
    _, expected = apply_affine(image, label, affine, patch)
    monkeypatch.setattr(label_votes, "_where", lambda condition: torch.arange(len(condition)))
    _, found = apply_affine(image, label, affine, patch)
    assert torch.equal(found, expected)


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
    label = (image[0] * 9).short()  # every position is at a boundary
    monkeypatch.setattr(label_votes, "PART", 1 << 20)
    whole = apply_affine(image, label, affine, (8, 9, 10))
    monkeypatch.setattr(interpolation, "SLAB", 3 * 9 * 10)
    monkeypatch.setattr(label_votes, "PART", 50)
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


@pytest.mark.parametrize("patch", [(64, 128, 128), (128, 128, 128), (20, 256, 224), (1, 512, 512), (7, 9, 8)])
def test_what_is_read_is_bounded(patch):
    """Of 20,000 maps, as many as 1 in 80 are cut, and the worst reads a half of what it would."""
    rng, in_plane_only = np.random.default_rng(6), 3 * patch[0] < patch[1]
    degrees = (180.0, 0.0, 0.0) if in_plane_only else (30.0, 30.0, 30.0)
    plan = AugmentationPlan(rotation_degrees=degrees, in_plane_only=in_plane_only)
    maps = [draw_affine(rng, plan) for _ in range(20_000)]
    needed, boxes = [read_size(m, patch) for m in maps], [read_box(m, patch) for m in maps]
    assert max(np.prod(box.size) for box in boxes) <= MOST_READ * np.prod(patch)
    for need, box in zip(needed, boxes, strict=True):
        assert box.cut == tuple(i for i in range(3) if box.size[i] < need[i])
        assert all(p <= n <= m and (n - p) % 2 == 0 for p, n, m in zip(patch, box.size, need, strict=True))
    cut = [bool(box.cut) for box in boxes]
    assert np.mean(cut) < (0.02 if patch[0] > 1 and not in_plane_only else 1e-9)


@pytest.mark.parametrize("turn", [0.0, 0.3])
def test_beyond_a_cut_box_a_patch_sees_what_lies_outside_a_case(turn):
    """As nnU-Net, which pads with zeros: against scipy on the box among zeros. Within the box nothing changes."""
    affine, patch = rotation(0, turn) @ np.diag([1.0, 1.0, 1.6]), (4, 8, 8)
    box = ReadBox((4, 12, 10), cut=(2,))
    rng = np.random.default_rng(7)
    image, label = rng.random((1, *box.size)).astype(np.float32) + 1, np.ones(box.size, np.int16)
    box.close(image, 0)
    box.close(label, -1)
    moved, seen = apply_affine(torch.from_numpy(image), torch.from_numpy(label), affine, patch)
    np.testing.assert_allclose(moved[0].numpy(), naive(image[0], affine, patch, 1), atol=2e-4)
    assert (moved[0][seen == 1] > 0.4).all()
    outside = seen.numpy() == -1
    np.testing.assert_array_less(0.98, np.mean(outside == (naive(label + 1.0, affine, patch, 1) < 1)))
    assert 0.05 < outside.mean() < 0.4


def test_in_plane_only_leaves_the_first_axis_alone():
    plan = AugmentationPlan(rotation_degrees=(180.0, 0.0, 0.0), in_plane_only=True)
    rng = np.random.default_rng(1)
    for _ in range(50):
        affine = draw_affine(rng, plan)
        if affine is not None:
            np.testing.assert_allclose(affine[0], [1, 0, 0], atol=1e-12)
            np.testing.assert_allclose(affine[1:, 0], 0, atol=1e-12)
