"""nnU-Net 2.8.1's training transforms, put together from batchgeneratorsv2 with its figures, and how to compare with them."""

from collections.abc import Sequence

import numpy as np
import torch
from batchgeneratorsv2.transforms.base.basic_transform import BasicTransform
from batchgeneratorsv2.transforms.intensity.brightness import MultiplicativeBrightnessTransform
from batchgeneratorsv2.transforms.intensity.contrast import BGContrast, ContrastTransform
from batchgeneratorsv2.transforms.intensity.gamma import GammaTransform
from batchgeneratorsv2.transforms.intensity.gaussian_noise import GaussianNoiseTransform
from batchgeneratorsv2.transforms.noise.gaussian_blur import GaussianBlurTransform
from batchgeneratorsv2.transforms.spatial.low_resolution import SimulateLowResolutionTransform
from batchgeneratorsv2.transforms.spatial.mirroring import MirrorTransform
from batchgeneratorsv2.transforms.spatial.spatial import SpatialTransform
from batchgeneratorsv2.transforms.utils.nnunet_masking import MaskImageTransform
from batchgeneratorsv2.transforms.utils.pseudo2d import Convert2DTo3DTransform, Convert3DTo2DTransform
from batchgeneratorsv2.transforms.utils.random import RandomTransform
from batchgeneratorsv2.transforms.utils.remove_label import RemoveLabelTransform
from scipy.stats import ks_2samp

SMALLEST_P = 1e-3  # of Kolmogorov and Smirnov's test; draws have fixed seeds, so a test that passes always passes


def intensity(*, in_plane_only: bool = False, time_blur: bool = False) -> dict[str, RandomTransform]:
    """Intensity transforms in their order, by the names of our draws; ``time_blur``: let blur time its convolutions."""

    def gamma(inverted: float) -> GammaTransform:
        return GammaTransform(BGContrast((0.7, 1.5)), inverted, False, 1, 1)

    low_resolution = SimulateLowResolutionTransform((0.5, 1), False, True, (0,) if in_plane_only else None, None, 0.5)
    return {
        "noise_std": RandomTransform(GaussianNoiseTransform((0, 0.1), 1, True), 0.1),
        "blur_sigma": RandomTransform(GaussianBlurTransform((0.5, 1.0), False, False, 0.5, time_blur), 0.2),
        "brightness": RandomTransform(MultiplicativeBrightnessTransform(BGContrast((0.75, 1.25)), False, 1), 0.15),
        "contrast": RandomTransform(ContrastTransform(BGContrast((0.75, 1.25)), True, False, 1), 0.15),
        "low_resolution": RandomTransform(low_resolution, 0.25),
        "inverted_gamma": RandomTransform(gamma(1), 0.1),
        "gamma": RandomTransform(gamma(0), 0.3),
    }


def spatial(patch: Sequence[int], degrees: float) -> SpatialTransform:
    """Rotation and zoom; a patch (Y, X) is rotated in its plane."""
    angle = np.deg2rad(degrees)
    return SpatialTransform(
        tuple(patch),
        0,
        False,
        p_rotation=0.2,
        rotation=(-angle, angle),
        p_scaling=0.2,
        scaling=(0.7, 1.4),
        p_synchronize_scaling_across_axes=1,
        border_mode_seg="constant",
        padding_value_seg=-1,
    )


def chain(
    patch: Sequence[int],
    degrees: float,
    mirror_axes: tuple[int, ...],
    *,
    in_plane_only: bool = False,
    masked: Sequence[int] = (),
    time_blur: bool = False,
) -> list[BasicTransform]:
    """All transforms of an image and a segmentation that is -1 outside the mask; :func:`apply` runs them."""
    moves: list[BasicTransform] = [spatial(patch, degrees)]
    if in_plane_only:
        moves = [Convert3DTo2DTransform(), spatial(patch[1:], degrees), Convert2DTo3DTransform()]
    changes = intensity(in_plane_only=in_plane_only, time_blur=time_blur).values()
    masks = [MaskImageTransform(list(masked))] if masked else []
    return [*moves, *changes, MirrorTransform(mirror_axes), *masks, RemoveLabelTransform(-1, 0)]


def apply(
    transforms: Sequence[BasicTransform], image: torch.Tensor, label: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Image (C, ...) and segmentation (...), which are not changed, as the transforms make them."""
    batch = {"image": image.clone(), "segmentation": label[None].clone()}
    for transform in transforms:
        batch = transform(**batch)
    return batch["image"], batch["segmentation"][0]


def seed(value: int) -> None:
    """Of the two generators that these transforms draw from."""
    np.random.seed(value)
    torch.manual_seed(value)


def assert_same_distributions(ours: Sequence[dict[str, float]], theirs: Sequence[dict[str, float]]) -> None:
    """Every feature has the same distribution in both, apart from rounding."""
    for name in ours[0]:
        a, b = (np.round([draw[name] for draw in draws], 4) for draws in (ours, theirs))
        figures = f"ours {a.mean():.4g} (std {a.std():.4g}), theirs {b.mean():.4g} ({b.std():.4g})"
        assert ks_2samp(a, b, method="asymp").pvalue > SMALLEST_P, f"{name}: {figures}"
