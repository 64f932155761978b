"""Intensity changes of one sample (C, Z, Y, X), in place where possible.

Transforms, their order, probabilities and ranges are those of nnU-Net 2.8.1. ``draw_intensity`` draws the parameters;
``apply_intensity`` and the functions of the single transforms draw nothing.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch.nn.functional import interpolate, pad

from unetrpp.augmentation.interpolation import linear_along

NOISE_PROBABILITY, NOISE_STD = 0.1, (0.0, 0.1)
BLUR_PROBABILITY, BLUR_SIGMA = 0.2, (0.5, 1.0)
BRIGHTNESS_PROBABILITY, BRIGHTNESS = 0.15, (0.75, 1.25)
CONTRAST_PROBABILITY, CONTRAST = 0.15, (0.75, 1.25)
LOW_RESOLUTION_PROBABILITY, LOW_RESOLUTION = 0.25, (0.5, 1.0)
INVERTED_GAMMA_PROBABILITY, GAMMA_PROBABILITY, GAMMA = 0.1, 0.3, (0.7, 1.5)
CHANNEL_PROBABILITY = 0.5  # of a channel to get blur or low resolution, when the sample gets it


@dataclass(frozen=True)
class IntensityDraw:
    """Parameters of one sample, one entry for each channel; None: not for this sample, NaN: not for this channel."""

    noise_std: float | None
    noise_seed: int
    blur_sigma: np.ndarray | None  # (C, 3) voxels
    brightness: np.ndarray | None
    contrast: np.ndarray | None
    low_resolution: np.ndarray | None
    inverted_gamma: np.ndarray | None
    gamma: np.ndarray | None


def draw_intensity(rng: np.random.Generator, channels: int) -> IntensityDraw:
    """Draw the parameters of one sample with ``channels`` channels."""

    def per_channel(probability: float, limits: tuple[float, float], shape: tuple[int, ...]) -> np.ndarray | None:
        return rng.uniform(*limits, shape) if rng.random() < probability else None

    def some_channels(values: np.ndarray | None) -> np.ndarray | None:
        if values is not None:
            values[rng.random(channels) >= CHANNEL_PROBABILITY] = np.nan
        return values

    def gammas(probability: float) -> np.ndarray | None:
        """Values below 1 are as likely as values above."""
        if rng.random() >= probability:
            return None
        low, high = rng.uniform(GAMMA[0], 1, channels), rng.uniform(1, GAMMA[1], channels)
        return np.where(rng.random(channels) < 0.5, low, high)

    return IntensityDraw(
        noise_std=rng.uniform(*NOISE_STD) if rng.random() < NOISE_PROBABILITY else None,
        noise_seed=int(rng.integers(2**63 - 1)),
        blur_sigma=some_channels(per_channel(BLUR_PROBABILITY, BLUR_SIGMA, (channels, 3))),
        brightness=per_channel(BRIGHTNESS_PROBABILITY, BRIGHTNESS, (channels,)),
        contrast=per_channel(CONTRAST_PROBABILITY, CONTRAST, (channels,)),
        low_resolution=some_channels(per_channel(LOW_RESOLUTION_PROBABILITY, LOW_RESOLUTION, (channels,))),
        inverted_gamma=gammas(INVERTED_GAMMA_PROBABILITY),
        gamma=gammas(GAMMA_PROBABILITY),
    )


def apply_intensity(image: torch.Tensor, draw: IntensityDraw, in_plane_only: bool) -> torch.Tensor:
    """Apply the drawn transforms to a sample (C, Z, Y, X), which is changed in place and returned."""
    if draw.noise_std is not None:
        add_noise(image, draw.noise_std, draw.noise_seed)
    for c, channel in enumerate(image):
        if draw.blur_sigma is not None and not np.isnan(draw.blur_sigma[c]).any():
            blur(channel, draw.blur_sigma[c])
        if draw.brightness is not None:
            channel.mul_(float(draw.brightness[c]))
        if draw.contrast is not None:
            change_contrast(channel, float(draw.contrast[c]))
        if draw.low_resolution is not None and not np.isnan(draw.low_resolution[c]):
            lower_resolution(channel, float(draw.low_resolution[c]), in_plane_only)
        if draw.inverted_gamma is not None:
            change_gamma(channel.neg_(), float(draw.inverted_gamma[c])).neg_()
        if draw.gamma is not None:
            change_gamma(channel, float(draw.gamma[c]))
    return image


def add_noise(image: torch.Tensor, std: float, seed: int) -> torch.Tensor:
    generator = torch.Generator(image.device).manual_seed(seed)
    return image.add_(torch.randn(image.shape, generator=generator, device=image.device, dtype=image.dtype), alpha=std)


def blur(channel: torch.Tensor, sigma: np.ndarray) -> torch.Tensor:
    """Gaussian blur of (Z, Y, X) with one sigma (voxels) for each axis, cut at about 3 sigma; edges are mirrored.

    The kernels are short, so adding shifted copies is several times as fast as a convolution of one channel.
    """
    blurred = channel
    for axis, (s, n) in enumerate(zip(sigma.tolist(), channel.shape, strict=True)):
        radius = int(3 * s + 0.25)  # of the odd length that is nearest to 6 sigma + 0.5
        if n == 1:
            continue
        kernel = np.exp(-0.5 * (np.arange(-radius, radius + 1) / s) ** 2)
        widths = [0] * 6
        widths[2 * (2 - axis)] = widths[2 * (2 - axis) + 1] = radius
        mode = "reflect" if radius < n else "replicate"  # an axis too short to be mirrored
        padded = pad(blurred[None, None], widths, mode=mode)[0, 0]
        first, *others = (kernel / kernel.sum()).tolist()
        blurred = padded.narrow(axis, 0, n) * first
        for i, weight in enumerate(others, start=1):
            blurred.add_(padded.narrow(axis, i, n), alpha=weight)
    return channel.copy_(blurred)


def change_contrast(channel: torch.Tensor, factor: float) -> torch.Tensor:
    """Stretch about the mean, clipped to the range before."""
    low, high = torch.aminmax(channel)
    mean = channel.mean()
    return channel.sub_(mean).mul_(factor).add_(mean).clamp_(low, high)


def lower_resolution(channel: torch.Tensor, factor: float, in_plane_only: bool) -> torch.Tensor:
    """Downsample by ``factor`` (nearest voxel) and upsample linearly, which imitates a coarser scanner."""
    size = tuple(channel.shape)
    coarse = [max(1, round(n * factor)) if axis or not in_plane_only else n for axis, n in enumerate(size)]
    coarser = interpolate(channel[None, None], coarse, mode="nearest-exact")[0, 0]
    for axis in (2, 1, 0):  # the last axis first, while there are few voxels: copying single voxels is slower than rows
        coarser = linear_along(coarser, axis, (np.arange(size[axis]) + 0.5) * coarse[axis] / size[axis] - 0.5)
    return channel.copy_(coarser)


def change_gamma(channel: torch.Tensor, gamma: float) -> torch.Tensor:
    """Power law on intensities scaled to 0..1; mean and standard deviation are restored afterwards."""
    mean, spread = _centre(channel)
    low, high = torch.aminmax(channel)
    channel.sub_(low).div_((high - low).clamp_min(1e-7)).pow_(gamma)
    _, new_spread = _centre(channel)
    return channel.mul_(spread / new_spread.clamp_min(1e-7)).add_(mean)


def _centre(channel: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Subtract the mean in place; returns the mean, and the norm of the rest (proportional to the standard deviation)."""
    mean = channel.mean()
    return mean, torch.linalg.vector_norm(channel.sub_(mean))
