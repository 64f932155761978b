"""Each intensity change against scipy, or against its definition."""

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter

from unetrpp.augmentation.intensity import (
    add_noise,
    apply_intensity,
    blur,
    change_contrast,
    change_gamma,
    draw_intensity,
    lower_resolution,
)


@pytest.fixture
def volume() -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(0).normal(3, 2, (9, 12, 11)).astype(np.float32))


def test_blur_equals_scipy(volume):
    sigma = np.array([0.6, 0.9, 0.75])
    radii = np.ceil(3 * sigma)
    expected = gaussian_filter(volume.numpy(), sigma, mode="nearest", radius=radii.astype(int))
    np.testing.assert_allclose(blur(volume.clone(), sigma).numpy(), expected, atol=1e-5)


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
    share = {
        name: np.mean([getattr(d, name) is not None for d in draws])
        for name in ("noise_std", "blur_sigma", "brightness", "contrast", "low_resolution", "inverted_gamma", "gamma")
    }
    expected = [0.1, 0.2, 0.15, 0.15, 0.25, 0.1, 0.3]
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
