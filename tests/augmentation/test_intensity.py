"""Each intensity change against batchgeneratorsv2, scipy, or its definition."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter

from tests.helpers import nnunet_transforms as reference
from unetrpp.augmentation.intensity import (
    IntensityDraw,
    add_noise,
    apply_intensity,
    blur,
    change_contrast,
    change_gamma,
    draw_intensity,
    lower_resolution,
)

STILL = IntensityDraw(None, 0, None, None, None, None, None, None)
NAMES = list(reference.intensity())


@pytest.fixture
def volume() -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(0).normal(3, 2, (9, 12, 11)).astype(np.float32))


@pytest.mark.parametrize("sigma", [(0.5, 0.5, 0.5), (0.6, 0.9, 0.75), (0.99, 0.92, 0.58)])
def test_blur_equals_scipy_and_the_reference(volume, sigma):
    blurred = blur(volume.clone(), np.array(sigma)).numpy()
    radii = [{0.5: 1, 0.58: 1, 0.6: 2, 0.75: 2, 0.9: 2, 0.92: 3, 0.99: 3}[s] for s in sigma]
    np.testing.assert_allclose(blurred, gaussian_filter(volume.numpy(), sigma, mode="mirror", radius=radii), atol=1e-5)
    transform = reference.intensity()["blur_sigma"].transform
    theirs = transform._apply_to_image(volume[None].clone(), apply_to_channel=torch.tensor([True]), sigmas=[sigma])
    np.testing.assert_allclose(blurred, theirs[0], atol=1e-5)


def test_an_axis_that_is_too_short_to_be_mirrored_is_blurred(volume):
    assert torch.isfinite(blur(volume[:2].clone(), np.array([1.0, 1.0, 1.0]))).all()
    flat = volume[:1].clone()
    expected = gaussian_filter(flat.numpy(), (0, 1, 1), mode="mirror", radius=(0, 3, 3))
    np.testing.assert_allclose(blur(flat, np.array([1.0, 1.0, 1.0])), expected, atol=1e-5)


@pytest.mark.parametrize("value", [0.8, 1.2])
@pytest.mark.parametrize("name", ["brightness", "contrast", "inverted_gamma", "gamma"])
def test_a_factor_changes_voxels_as_in_the_reference(volume, name, value):
    changed: dict[str, Any] = {name: np.array([value])}
    ours = apply_intensity(volume[None].clone(), replace(STILL, **changed), in_plane_only=False)
    parameters = {"apply_to_channel": torch.tensor([0])}
    if "gamma" in name:
        on = torch.tensor([True])
        parameters |= {"gamma": torch.tensor([value]), "retain_stats": on, "invert_image": on & (name != "gamma")}
    else:
        parameters["multipliers"] = torch.tensor([value])
    theirs = reference.intensity()[name].transform._apply_to_image(volume[None].clone(), **parameters)
    np.testing.assert_allclose(ours, theirs, atol=2e-5)


@pytest.mark.parametrize("in_plane_only", [False, True])
def test_low_resolution_changes_voxels_as_in_the_reference(volume, in_plane_only):
    for factor in (0.5, 0.61, 0.83, 0.99):
        ours = lower_resolution(volume.clone(), factor, in_plane_only)
        scales = torch.tensor([[1.0 if in_plane_only else factor, factor, factor]])
        transform = reference.intensity(in_plane_only=in_plane_only)["low_resolution"].transform
        theirs = transform._apply_to_image(volume[None].clone(), apply_to_channel=torch.tensor([0]), scales=scales)
        np.testing.assert_allclose(ours, theirs[0], atol=1e-5)


@pytest.mark.parametrize("name", NAMES)
def test_a_transform_has_the_references_distribution(name):
    """Of its effect on the same two channels, over the draws that have it, and of how often it changes the first."""
    image = torch.from_numpy(np.random.default_rng(1).gamma(2, 1, (2, 8, 12, 10)).astype(np.float32))
    rng = np.random.default_rng(2)
    ours, theirs = list[Any](), list[Any]()
    while len(ours) < 600:
        drawn = getattr(draw_intensity(rng, 2), name)
        if drawn is not None:
            draw = replace(STILL, noise_seed=len(ours), **{name: drawn})
            ours.append(effect(image, apply_intensity(image.clone(), draw, in_plane_only=False)))
    reference.seed(3)
    transform = reference.intensity()[name].transform
    theirs = [effect(image, transform(image=image.clone())["image"]) for _ in range(600)]
    changed = [[draw for draw in draws if draw["change"]] for draws in (ours, theirs)]
    assert abs(len(changed[0]) - len(changed[1])) < 0.1 * len(ours)
    reference.assert_same_distributions(*changed)


def effect(before: torch.Tensor, after: torch.Tensor) -> dict[str, float]:
    """What a transform changes in the first channel, and how its two channels agree."""
    first, change = after[0], after - before
    low, high = torch.quantile(first, torch.tensor([0.05, 0.95])).tolist()
    rough = {f"roughness {axis}": first.diff(dim=axis).abs().mean().item() for axis in range(3)}
    return {
        "mean": first.mean().item(),
        "std": first.std().item(),
        "5th percentile": low,
        "95th percentile": high,
        "change": change[0].abs().mean().item(),
        "change beside the other channel's": (change[0].std() - change[1].std()).item(),
    } | rough


def test_noise_has_its_standard_deviation_and_replays():
    flat = torch.zeros(1, 40, 40, 40)
    noisy = add_noise(flat.clone(), 0.3, seed=5)
    assert abs(noisy.std().item() - 0.3) < 0.01
    assert torch.equal(noisy, add_noise(flat.clone(), 0.3, seed=5))


def test_gamma_keeps_mean_deviation_and_order(volume):
    changed = change_gamma(volume.clone(), 1.4)
    assert changed.mean().item() == pytest.approx(volume.mean().item(), abs=1e-4)
    assert changed.std().item() == pytest.approx(volume.std().item(), rel=1e-4)
    assert torch.equal(changed.flatten().argsort(), volume.flatten().argsort())
    np.testing.assert_allclose(change_gamma(volume.clone(), 1.0), volume, atol=1e-4)


def test_gamma_of_a_flat_image_is_finite():
    assert torch.isfinite(change_gamma(torch.full((4, 4, 4), 2.0), 0.7)).all()


def test_contrast_keeps_range_and_scales_about_the_mean(volume):
    low, high = volume.min(), volume.max()
    changed = change_contrast(volume.clone(), 1.25)
    assert low <= changed.min()
    assert changed.max() <= high
    mean = volume.mean()
    np.testing.assert_allclose(changed, ((volume - mean) * 1.25 + mean).clamp(low, high), atol=1e-5)


def test_low_resolution_keeps_a_linear_ramp_inside_and_can_leave_out_the_first_axis():
    ramp = torch.arange(16.0).expand(16, 16, 16).contiguous()
    changed = lower_resolution(ramp.clone(), 0.5, in_plane_only=False)
    assert (changed - ramp).abs().max() <= 1.0
    stack = torch.randn(6, 1, 1).expand(6, 8, 8).contiguous()
    np.testing.assert_allclose(lower_resolution(stack.clone(), 0.5, in_plane_only=True), stack, atol=1e-6)


def test_probabilities_of_the_draws():
    rng = np.random.default_rng(0)
    draws = [draw_intensity(rng, 2) for _ in range(4000)]
    share = {name: np.mean([getattr(d, name) is not None for d in draws]) for name in NAMES}
    expected = [transform.apply_probability for transform in reference.intensity().values()]
    assert np.allclose(list(share.values()), expected, atol=0.03)


def test_channels_are_changed_independently_and_a_draw_replays():
    rng = np.random.default_rng(3)
    draw = next(
        d for d in (draw_intensity(rng, 2) for _ in range(500)) if d.brightness is not None and d.gamma is not None
    )
    image = torch.rand(2, 6, 6, 6) + 1
    once, again = (apply_intensity(image.clone(), draw, in_plane_only=False) for _ in range(2))
    assert torch.equal(once, again)
    assert torch.isfinite(once).all()
    assert not torch.allclose(once[0] / image[0], once[1] / image[1], atol=1e-3)
