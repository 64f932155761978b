"""Image and label stay aligned through the whole pipeline: an image made of its label is augmented with it."""

import msgspec
import numpy as np
import pytest
import torch

from unetrpp.augmentation.pipeline import Sample, SampleDraw, apply_sample, draw_sample, make_batch
from unetrpp.augmentation.spatial import read_size
from unetrpp.plans.plans import AugmentationPlan

PATCH = (12, 16, 14)
NOTHING = draw_sample(np.random.default_rng(0), AugmentationPlan(rotation_degrees=(0.0, 0.0, 0.0)), 1, ()).intensity


@pytest.mark.parametrize("seed", range(12))
def test_image_and_label_stay_aligned(seed):
    rng = np.random.default_rng(seed)
    plan = AugmentationPlan(rotation_degrees=(30.0, 30.0, 30.0))
    drawn = draw_sample(rng, plan, 1, (0, 1, 2))
    draw = SampleDraw(affine=drawn.affine, intensity=still(), mirror=drawn.mirror)
    size = read_size(draw.affine, PATCH)
    # Blocks of 4 voxels: away from their edges linear and nearest interpolation agree.
    blocks = np.kron(rng.integers(0, 2, [n // 4 + 1 for n in size]), np.ones((4, 4, 4)))[
        : size[0], : size[1], : size[2]
    ]
    image, label = apply_sample(
        torch.from_numpy(blocks.astype(np.float32))[None],
        torch.from_numpy(blocks.astype(np.int16)),
        draw,
        PATCH,
        in_plane_only=False,
    )
    assert image.shape == (1, *PATCH)
    assert label.shape == PATCH
    assert ((image[0] > 0.5) == (label == 1)).float().mean() > 0.93


def still():
    """No intensity change."""
    return type(NOTHING)(None, 0, None, None, None, None, None, None)


@pytest.mark.parametrize("seed", range(8))
def test_a_first_stage_segmentation_moves_with_the_label(seed):
    rng = np.random.default_rng(seed)
    drawn = draw_sample(rng, AugmentationPlan(rotation_degrees=(30.0, 30.0, 30.0)), 1, (0, 1, 2))
    size = read_size(drawn.affine, PATCH)
    label = rng.integers(0, 3, size).astype(np.int16)
    image = rng.random((1, *size)).astype(np.float32)
    with_it = Sample("a", image.copy(), label, drawn, label.copy())
    without = Sample("a", image.copy(), label, drawn)
    images, labels = make_batch([with_it], PATCH, False, torch.device("cpu"))
    alone, same_labels = make_batch([without], PATCH, False, torch.device("cpu"))
    assert images.shape == (1, 2, *PATCH)
    torch.testing.assert_close(images[:, :1], alone, rtol=0, atol=0)
    assert torch.equal(labels, same_labels)
    assert torch.equal(images[:, 1], labels.float())


def test_flat_patches_lose_their_z_axis():
    samples = [
        Sample("a", np.random.rand(3, 1, 8, 9).astype(np.float32), np.zeros((1, 8, 9), np.int16), None)
        for _ in range(2)
    ]
    images, labels = make_batch(samples, (8, 9), False, torch.device("cpu"))
    assert images.shape == (2, 3, 8, 9)
    assert labels.shape == (2, 8, 9)


def test_plan_is_a_record():
    plan = AugmentationPlan(rotation_degrees=(30.0, 0.0, 0.0), in_plane_only=True)
    assert msgspec.json.decode(msgspec.json.encode(plan), type=AugmentationPlan) == plan
