"""The whole pipeline: image and label stay aligned, and all transforms together have nnU-Net 2.8.1's distributions."""

import msgspec
import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter

from tests.helpers import nnunet_transforms as reference
from unetrpp.augmentation.pipeline import Sample, SampleDraw, apply_sample, draw_sample, make_batch
from unetrpp.augmentation.spatial import read_box, read_size
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


WHOLE = (36, 40, 44)
MASKED = (0,)  # the second channel is normalised over the whole image


@pytest.fixture(scope="module")
def case() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """An image (2, Z, Y, X) of a smooth structure in an ellipsoid, its label, and where the ellipsoid is."""
    rng = np.random.default_rng(0)
    grid = np.moveaxis(np.indices(WHOLE), 0, -1)
    inside = np.linalg.norm((grid - np.array(WHOLE) / 2 + (0, 3, -2)) / (7, 8, 9), axis=-1) < 1
    smooth = gaussian_filter(rng.normal(size=(2, *WHOLE)), (0, 2, 2, 2)) * 20
    label = np.digitize(smooth[0], (0.3, 0.8)) * inside
    image = smooth + rng.normal(size=smooth.shape) * 0.3
    image[0] *= inside
    return torch.from_numpy(image).float(), torch.from_numpy(label).short(), torch.from_numpy(inside)


def centre(array: torch.Tensor, size: tuple[int, int, int]) -> torch.Tensor:
    """The middle (..., *size) of an array (..., Z, Y, X)."""
    z, y, x = (slice((n - m) // 2, (n - m) // 2 + m) for n, m in zip(WHOLE, size, strict=True))
    return array[..., z, y, x]


def features(image: torch.Tensor, label: torch.Tensor, still: torch.Tensor) -> dict[str, float]:
    """What is seen of a patch: intensities, their texture, the masked background, and labels."""
    found = {f"share of label {c}": (label == c).float().mean().item() for c in (0, 1, 2)}
    found |= {"zeros": (image[0] == 0).float().mean().item(), "changed labels": (label != still).float().mean().item()}
    for c, channel in enumerate(image):
        found |= {f"mean {c}": channel.mean().item(), f"std {c}": channel.std().item()}
        found |= {f"roughness {c}.{axis}": channel.diff(dim=axis).abs().mean().item() for axis in range(3)}
        found |= dict(
            zip((f"{q}% quantile {c}" for q in (5, 50, 95)), np.quantile(channel, (0.05, 0.5, 0.95)), strict=True)
        )
    return found


@pytest.mark.parametrize("in_plane_only", [False, True])
def test_the_chain_has_the_references_distribution(case, in_plane_only):
    image, label, inside = case
    still, count = centre(label, PATCH), 400
    degrees = 180.0 if in_plane_only else 30.0
    plan = AugmentationPlan(
        rotation_degrees=(degrees, 0.0, 0.0) if in_plane_only else (degrees,) * 3, in_plane_only=in_plane_only
    )
    rng, ours = np.random.default_rng(1), []
    for _ in range(count):
        draw = draw_sample(rng, plan, 2, (0, 1, 2), masked=MASKED)
        box = read_box(draw.affine, PATCH)
        parts = centre(image, box.size).clone(), centre(label, box.size).clone()
        box.close(parts[0].numpy(), 0)
        box.close(parts[1].numpy(), -1)
        ours.append(features(*apply_sample(*parts, draw, PATCH, in_plane_only=in_plane_only), still))
    reference.seed(2)
    transforms = reference.chain(PATCH, degrees, (0, 1, 2), in_plane_only=in_plane_only, masked=MASKED)
    image, label = (image[:, 12:24], label[12:24]) if in_plane_only else (image, label)
    marked = torch.where(inside[12:24] if in_plane_only else inside, label, -1).short()
    theirs = [features(*reference.apply(transforms, image, marked), still) for _ in range(count)]
    reference.assert_same_distributions(ours, theirs)


def test_background_of_masked_channels_is_zero_after_all_transforms(case):
    """Unmasked channels keep what the transforms made of them."""
    image, label, _ = case
    rng = np.random.default_rng(3)
    plan = AugmentationPlan(rotation_degrees=(30.0, 30.0, 30.0))
    changed = 0
    for _ in range(60):
        draw = draw_sample(rng, plan, 2, (0, 1, 2), masked=MASKED)
        read = read_size(draw.affine, PATCH)
        parts = centre(image, read), centre(label, read)
        moved, seen = apply_sample(parts[0].clone(), parts[1].clone(), draw, PATCH, in_plane_only=False)
        bare = type(draw)(draw.affine, draw.intensity, draw.mirror)
        free, same = apply_sample(parts[0].clone(), parts[1].clone(), bare, PATCH, in_plane_only=False)
        assert (seen == same).float().mean() > 0.99  # the mask votes beside the rest of the background
        assert torch.equal(moved[1], free[1])
        outside = moved[0] == 0
        assert torch.equal(moved[0][~outside], free[0][~outside])
        assert (seen[outside] == 0).float().mean() > 0.99
        changed += bool((free[0][outside] != 0).any())
    assert changed > 20  # without the mask, a third and more of the samples have another background
