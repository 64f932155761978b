"""Augmentation by a chain of transforms of batchgenerators 1.x (0.25), for worker processes.

Probabilities and ranges are those of the pipeline on the training device (spatial.py, intensity.py), but not everything
is the same, nor what nnU-Net v2 does: the library draws half of the zoom factors below 1 and half above, and labels are
taken from the nearest voxel. tests/patches/test_worker_loader.py compares the statistics of both.
"""

import itertools

import numpy as np
import torch
from batchgenerators.transforms.abstract_transforms import AbstractTransform, Compose
from batchgenerators.transforms.color_transforms import (
    BrightnessMultiplicativeTransform,
    ContrastAugmentationTransform,
    GammaTransform,
)
from batchgenerators.transforms.noise_transforms import GaussianBlurTransform, GaussianNoiseTransform
from batchgenerators.transforms.resample_transforms import SimulateLowResolutionTransform
from batchgenerators.transforms.spatial_transforms import MirrorTransform, SpatialTransform

from unetrpp.augmentation import intensity, spatial
from unetrpp.augmentation.label_swap import LabelSwap
from unetrpp.augmentation.mask import clear_outside, mark_outside
from unetrpp.augmentation.pipeline import Sample
from unetrpp.plans.plans import AugmentationPlan

Patch = tuple[int, int, int]


class TransformChain:
    """Augments samples that were read at ``read_size``; it draws from the global generators of numpy and random.

    Args:
        mirror_axes: and the swap's axis: among the axes (z, y, x).
        masked: channels that are 0 outside a mask, and stay so.
        in_plane_only: every z slice of a sample gets the same rotation and zoom within the slice.
    """

    def __init__(
        self,
        plan: AugmentationPlan,
        patch: Patch,
        mirror_axes: tuple[int, ...],
        *,
        in_plane_only: bool,
        swap: LabelSwap | None = None,
        masked: tuple[int, ...] = (),
    ):
        self.patch = patch
        self.masked = masked
        self.in_plane_only = in_plane_only
        self.read_size = largest_read(plan, patch, in_plane_only)
        self.move = spatial_transform(plan, patch, in_plane_only)
        self.change = intensity_and_mirror_transforms(mirror_axes, in_plane_only, swap)

    def __call__(self, sample: Sample) -> Sample:
        """A sample (C, *read_size) as one of (C, *patch); the first stage's segmentation is moved like the label."""
        read, *labels = (np.asarray(each) for each in sample.arrays())
        maps = mark_outside(torch.from_numpy(read), torch.from_numpy(np.stack(labels)), self.masked)
        image, label = self._moved(read, maps.numpy().astype(np.float32))
        changed = self.change(data=np.ascontiguousarray(image[None]), seg=np.ascontiguousarray(label[None]))
        image = np.ascontiguousarray(changed["data"][0], np.float32)
        label = np.ascontiguousarray(changed["seg"][0], np.int16)
        label = clear_outside(torch.from_numpy(image), torch.from_numpy(label), self.masked).numpy()
        first_stage = None if sample.first_stage is None else np.ascontiguousarray(label[1])
        return Sample(sample.case, image, np.ascontiguousarray(label[0]), None, first_stage)

    def _moved(self, image: np.ndarray, label: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Rotated, zoomed and cropped to the patch: image (C, Z, Y, X) and maps of labels (L, Z, Y, X)."""
        if not self.in_plane_only:
            moved = self.move(data=image[None], seg=label[None])
            return moved["data"][0], moved["seg"][0]
        # The slices become channels of one 2D image, so that all of them move alike.
        shape = (-1, image.shape[1], *self.patch[1:])
        moved = self.move(data=image.reshape(1, -1, *image.shape[2:]), seg=label.reshape(1, -1, *label.shape[2:]))
        return moved["data"][0].reshape(shape), moved["seg"][0].reshape(shape)


def spatial_transform(plan: AugmentationPlan, patch: Patch, in_plane_only: bool) -> AbstractTransform:
    """Rotation and zoom, cropped to the patch."""
    x, y, z = ((-np.deg2rad(angle), np.deg2rad(angle)) for angle in plan.rotation_degrees)
    return SpatialTransform(
        patch[1:] if in_plane_only else patch,
        patch_center_dist_from_border=None,
        do_elastic_deform=False,
        do_rotation=True,
        angle_x=x,
        angle_y=y,
        angle_z=z,
        p_rot_per_sample=spatial.ROTATION_PROBABILITY,
        do_scale=True,
        scale=plan.scale,
        p_scale_per_sample=spatial.SCALE_PROBABILITY,
        border_mode_data="constant",
        order_data=1,
        border_mode_seg="constant",
        border_cval_seg=-1,
        order_seg=0,
        random_crop=False,
    )


def intensity_and_mirror_transforms(
    mirror_axes: tuple[int, ...], in_plane_only: bool, swap: LabelSwap | None = None
) -> Compose:
    """Intensity changes in the order of intensity.py, then mirroring."""
    transforms = [
        GaussianNoiseTransform(intensity.NOISE_STD, p_per_sample=intensity.NOISE_PROBABILITY),
        GaussianBlurTransform(
            intensity.BLUR_SIGMA,
            different_sigma_per_channel=True,
            different_sigma_per_axis=True,
            p_per_channel=intensity.CHANNEL_PROBABILITY,
            p_per_sample=intensity.BLUR_PROBABILITY,
        ),
        BrightnessMultiplicativeTransform(intensity.BRIGHTNESS, p_per_sample=intensity.BRIGHTNESS_PROBABILITY),
        ContrastAugmentationTransform(intensity.CONTRAST, p_per_sample=intensity.CONTRAST_PROBABILITY),
        SimulateLowResolutionTransform(
            intensity.LOW_RESOLUTION,
            per_channel=True,
            p_per_channel=intensity.CHANNEL_PROBABILITY,
            order_downsample=0,
            order_upsample=1,
            p_per_sample=intensity.LOW_RESOLUTION_PROBABILITY,
            ignore_axes=(0,) if in_plane_only else None,
        ),
        _gamma(inverted=True, probability=intensity.INVERTED_GAMMA_PROBABILITY),
        _gamma(inverted=False, probability=intensity.GAMMA_PROBABILITY),
    ]
    return Compose(transforms + ([MirrorWithSwap(mirror_axes, swap)] if mirror_axes else []))


def _gamma(*, inverted: bool, probability: float) -> AbstractTransform:
    return GammaTransform(intensity.GAMMA, inverted, per_channel=True, retain_stats=True, p_per_sample=probability)


class MirrorWithSwap(MirrorTransform):  # type: ignore[misc]  # batchgenerators has no types
    """batchgenerators' mirroring, after which left and right labels are swapped where their axis was mirrored."""

    def __init__(self, axes: tuple[int, ...], swap: LabelSwap | None):
        super().__init__(axes)
        self.swap = swap

    def __call__(self, **batch: np.ndarray) -> dict[str, np.ndarray]:
        """``data`` and ``seg`` (1, C, Z, Y, X).

        The base class does not return the axes it has drawn, so a ramp along the swap's axis is mirrored with the label.
        """
        if self.swap is None:
            mirrored: dict[str, np.ndarray] = super().__call__(**batch)
            return mirrored
        label = batch["seg"]
        ramp = np.linspace(0, 1, label.shape[self.swap.axis + 2], dtype=label.dtype)
        shape = [-1 if axis == self.swap.axis + 2 else 1 for axis in range(label.ndim)]
        batch["seg"] = np.concatenate([label, np.broadcast_to(ramp.reshape(shape), label[:, :1].shape)], axis=1)
        batch = super().__call__(**batch)
        label, ramp = batch["seg"][:, :-1], batch["seg"][:, -1:]
        if ramp.flat[0] > ramp.flat[-1]:
            label = self.swap.swap_labels(torch.from_numpy(label.copy()), (self.swap.axis,)).numpy()
        return {**batch, "seg": label}


def largest_read(plan: AugmentationPlan, patch: Patch, in_plane_only: bool) -> Patch:
    """Voxels to read so that every draw falls inside: the worst over the extreme angles at the largest zoom."""
    zoom = np.diag([1.0 if in_plane_only else plan.scale[1], plan.scale[1], plan.scale[1]])
    worst = np.array(patch)
    # No larger angle about an axis needs more than a quarter turn.
    angles = [np.deg2rad(np.linspace(0, min(angle, 90.0), 4)) for angle in plan.rotation_degrees]
    for turns in itertools.product(*angles):
        matrix = np.eye(3)
        for axis, angle in enumerate(turns):
            matrix = matrix @ spatial.rotation(axis, angle)
        worst = np.maximum(worst, spatial.read_size(matrix @ zoom, patch))
    z, y, x = (int(n) for n in worst)
    return z, y, x
