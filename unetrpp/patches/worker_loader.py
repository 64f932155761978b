"""`--augmentation workers`: batchgenerators' transforms in worker processes.

The same list with the same probabilities and ranges as on the device; the reference that the device's pipeline is
checked against (tests/patches/test_worker_loader.py).
"""

import itertools
import random
import traceback
from collections.abc import Generator

import numpy as np
import torch
from batchgenerators.dataloading.data_loader import SlimDataLoaderBase
from batchgenerators.dataloading.multi_threaded_augmenter import MultiThreadedAugmenter
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
from unetrpp.augmentation.pipeline import Sample
from unetrpp.core.errors import UserError
from unetrpp.core.parallel import CaseError
from unetrpp.core.randomness import Stream, generator
from unetrpp.patches.loader import PatchLoader
from unetrpp.plans.plans import AugmentationPlan

Patch = tuple[int, int, int]


def worker_batches(loader: PatchLoader, iterations: range, processes: int) -> Generator[list[Sample], None, None]:
    """Augmented batches in order. Worker k of n makes the batches k, k + n, ..., so their number changes nothing.

    Raises:
        UserError: a worker failed; with its own message and case id, which the augmenter would lose.
    """
    augmenter = MultiThreadedAugmenter(ChainLoader(loader, iterations, processes), None, processes, 2)
    try:
        for _ in iterations:
            item = next(augmenter)
            if isinstance(item, CaseError):
                raise UserError(item.message, case=item.case or None)
            yield item
    finally:
        augmenter._finish()


class ChainLoader(SlimDataLoaderBase):
    """Reads patches at the size the worst draw needs and runs the chain over them, in a worker process."""

    def __init__(self, loader: PatchLoader, iterations: range, processes: int):
        super().__init__(None, loader.batch_size, processes)
        self.loader, self.remaining = loader, iterations
        plan, self.patch = loader.configuration.augmentation, loader.patch
        self.in_plane_only = plan.in_plane_only or len(loader.configuration.patch) == 2
        self.read_size = largest_read(plan, self.patch, self.in_plane_only)
        self.moves = move(plan, self.patch, self.in_plane_only)
        self.changes = change(loader.mirror_axes, self.in_plane_only, loader.swap)

    def set_thread_id(self, thread_id: int) -> None:
        super().set_thread_id(thread_id)
        self.remaining = self.remaining[thread_id :: self.number_of_threads_in_multithreaded]

    def generate_train_batch(self) -> list[Sample] | CaseError:
        if not self.remaining:
            raise StopIteration
        iteration, self.remaining = self.remaining[0], self.remaining[1:]
        try:
            return self.batch(iteration)
        except Exception as error:
            case = getattr(error, "case", None) or ""
            return CaseError(case, "augmentation", Exception.__str__(error), traceback.format_exc())

    def batch(self, iteration: int) -> list[Sample]:
        """The samples of one iteration, augmented: a function of (seed, fold, iteration)."""
        loader = self.loader
        rng = generator(loader.seed, loader.fold, Stream.AUGMENTATION, iteration)
        # The chain draws from the global generators.
        np.random.seed(int(rng.integers(2**32)))
        random.seed(int(rng.integers(2**32)))
        return [self.augmented(sample) for sample in loader.read(iteration, self.read_size)]

    def augmented(self, sample: Sample) -> Sample:
        """Image (C, Z, Y, X) and label (Z, Y, X) of the read size -> of the patch; a cascade's segmentation alike."""
        maps = [sample.label] if sample.first_stage is None else [sample.label, sample.first_stage]
        image, label = sample.image, np.stack(maps).astype(np.float32)
        if self.in_plane_only:  # slices as channels of one 2D image, so that all move alike
            channels, depth = image.shape[:2]
            flat = (1, -1, *image.shape[2:])
            moved = self.moves(data=image.reshape(flat), seg=label.reshape(flat))
            image = moved["data"][0].reshape(channels, depth, *self.patch[1:])
            label = moved["seg"][0].reshape(len(maps), depth, *self.patch[1:])
        else:
            moved = self.moves(data=image[None], seg=label[None])
            image, label = moved["data"][0], moved["seg"][0]
        changed = self.changes(data=np.ascontiguousarray(image[None]), seg=np.ascontiguousarray(label[None]))
        image, label = changed["data"][0].astype(np.float32), changed["seg"][0].astype(np.int16)
        first_stage = None if sample.first_stage is None else np.ascontiguousarray(label[1])
        return Sample(sample.case, np.ascontiguousarray(image), np.ascontiguousarray(label[0]), None, first_stage)


def move(plan: AugmentationPlan, patch: Patch, in_plane_only: bool) -> AbstractTransform:
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


class Mirror(MirrorTransform):
    """Mirroring with left and right labels exchanged; batchgenerators' own draws."""

    def __init__(self, axes: tuple[int, ...], swap: LabelSwap | None):
        super().__init__(axes)
        self.swap = swap

    def __call__(self, **batch: np.ndarray) -> dict[str, np.ndarray]:
        """``data`` and ``seg`` (1, C, Z, Y, X). Which axes were drawn shows on a ramp that is mirrored along."""
        if self.swap is None:
            return super().__call__(**batch)
        label = batch["seg"]
        ramp = np.linspace(0, 1, label.shape[self.swap.axis + 2], dtype=label.dtype)
        shape = [-1 if axis == self.swap.axis + 2 else 1 for axis in range(label.ndim)]
        batch["seg"] = np.concatenate([label, np.broadcast_to(ramp.reshape(shape), label[:, :1].shape)], axis=1)
        batch = super().__call__(**batch)
        label, ramp = batch["seg"][:, :-1], batch["seg"][:, -1:]
        if ramp.flat[0] > ramp.flat[-1]:
            label = self.swap.swap_labels(torch.from_numpy(label.copy()), (self.swap.axis,)).numpy()
        return {**batch, "seg": label}


def change(mirror_axes: tuple[int, ...], in_plane_only: bool, swap: LabelSwap | None = None) -> Compose:
    """Intensities in nnU-Net's order, then mirroring."""
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
        GammaTransform(
            intensity.GAMMA,
            True,
            per_channel=True,
            retain_stats=True,
            p_per_sample=intensity.INVERTED_GAMMA_PROBABILITY,
        ),
        GammaTransform(
            intensity.GAMMA, False, per_channel=True, retain_stats=True, p_per_sample=intensity.GAMMA_PROBABILITY
        ),
    ]
    return Compose(transforms + ([Mirror(mirror_axes, swap)] if mirror_axes else []))


def largest_read(plan: AugmentationPlan, patch: Patch, in_plane_only: bool) -> Patch:
    """Voxels to read so that every draw falls inside: the worst over the extreme angles at the largest zoom."""
    zoom = np.diag([1.0 if in_plane_only else plan.scale[1], plan.scale[1], plan.scale[1]])
    worst = np.array(patch)
    # A quarter turn about an axis is the worst that any larger angle can do.
    angles = [np.deg2rad(np.linspace(0, min(angle, 90.0), 4)) for angle in plan.rotation_degrees]
    for turns in itertools.product(*angles):
        matrix = np.eye(3)
        for axis, angle in enumerate(turns):
            matrix = matrix @ spatial.rotation(axis, angle)
        worst = np.maximum(worst, spatial.read_size(matrix @ zoom, patch))
    z, y, x = (int(n) for n in worst)
    return z, y, x
