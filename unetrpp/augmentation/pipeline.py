"""Augmentation of the samples that a loader has read, into one batch on the training device."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch

from unetrpp.augmentation.intensity import IntensityDraw, apply_intensity, draw_intensity
from unetrpp.augmentation.label_swap import LabelSwap
from unetrpp.augmentation.mask import clear_outside, mark_outside
from unetrpp.augmentation.spatial import apply_affine, draw_affine
from unetrpp.core.devices import to_device
from unetrpp.plans.architecture import as_3d
from unetrpp.plans.plans import AugmentationPlan

MIRROR_PROBABILITY = 0.5

Array = np.ndarray | torch.Tensor


@dataclass(frozen=True)
class SampleDraw:
    """Everything random about one sample; ``affine`` is known before reading, since it decides how much is read."""

    affine: np.ndarray | None
    intensity: IntensityDraw
    mirror: tuple[int, ...]  # plan axes to flip
    swap: LabelSwap | None = None  # labels that change places when its axis is flipped
    masked: tuple[int, ...] = ()  # channels that are 0 outside a mask, and stay so


def draw_sample(
    rng: np.random.Generator,
    plan: AugmentationPlan,
    channels: int,
    mirror_axes: tuple[int, ...],
    *,
    swap: LabelSwap | None = None,
    masked: tuple[int, ...] = (),
) -> SampleDraw:
    """Draw the augmentation of one sample. ``mirror_axes`` and the swap's axis are among the axes (z, y, x)."""
    return SampleDraw(
        affine=draw_affine(rng, plan),
        intensity=draw_intensity(rng, channels),
        mirror=tuple(axis for axis in mirror_axes if rng.random() < MIRROR_PROBABILITY),
        swap=swap,
        masked=masked,
    )


def apply_sample(
    image: torch.Tensor, label: torch.Tensor, draw: SampleDraw, patch: tuple[int, int, int], *, in_plane_only: bool
) -> tuple[torch.Tensor, torch.Tensor]:
    """Augment image (C, Z, Y, X) and label (Z, Y, X), as read, into a patch. The image may be changed in place.

    In a cascade, ``label`` is (2, Z, Y, X): the second map is the first stage's segmentation, which moves with the label.
    """
    label = mark_outside(image, label, draw.masked)
    if draw.affine is not None:
        image, label = apply_affine(image, label, draw.affine, patch)
    image = apply_intensity(image, draw.intensity, in_plane_only)
    if draw.mirror:
        image, label = image.flip([a + 1 for a in draw.mirror]), label.flip([a - 3 for a in draw.mirror])
    label = clear_outside(image, label, draw.masked)
    if draw.mirror and draw.swap is not None:
        label = draw.swap.swap_labels(label, draw.mirror)
    return image, label


@dataclass(frozen=True)
class Sample:
    """One sample as read: image (C, Z, Y, X) float32, label (Z, Y, X), and its augmentation (None: no augmentation).

    ``first_stage`` (Z, Y, X) is the segmentation of a cascade's first stage, in training indices. The arrays may be tensors,
    in pinned memory or on a device.
    """

    case: str
    image: Array
    label: Array
    draw: SampleDraw | None
    first_stage: Array | None = None

    def arrays(self) -> Iterator[Array]:
        yield from (each for each in (self.image, self.label, self.first_stage) if each is not None)

    def moved(self, move: Callable[[torch.Tensor], torch.Tensor]) -> "Sample":
        """The sample with the tensors that ``move`` makes of its arrays."""
        image, label, *first_stage = (move(torch.as_tensor(each)) for each in self.arrays())
        return replace(self, image=image, label=label, first_stage=first_stage[0] if first_stage else None)


def make_batch(
    samples: list[Sample], patch: tuple[int, ...], in_plane_only: bool, device: torch.device
) -> tuple[torch.Tensor, torch.Tensor]:
    """Augment samples on the device and stack them: images (B, C, *patch), labels (B, *patch) int16.

    Samples that are not on the device are copied there. A 2D patch (y, x) is augmented as one slice and loses its z axis
    here. In a cascade the first stage's segmentation becomes the last channel (unetrpp.networks.cascade).
    """
    size = as_3d(patch)
    images, labels = [], []
    for sample in samples:
        image, label, *first_stage = (to_device(torch.as_tensor(each), device) for each in sample.arrays())
        if first_stage:
            label = torch.stack([label, *first_stage])
        if sample.draw is not None:
            image, label = apply_sample(image, label, sample.draw, size, in_plane_only=in_plane_only or len(patch) == 2)
        if first_stage:
            label, moved = label
            image = torch.cat([image, moved[None].to(image.dtype)])
        images.append(image)
        labels.append(label)
    return torch.stack(images).view(len(samples), -1, *patch), torch.stack(labels).view(-1, *patch)
