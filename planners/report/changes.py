"""What would change the plan: the measurement or the option behind it, and what would follow."""

import math
from collections.abc import Iterator

import numpy as np

from unetrpp.core.text import counted, format_bytes, format_mm, format_shape
from unetrpp.io.geometry import reorder, resampled_shape
from unetrpp.planners.configurations import LOW_RESOLUTION_BELOW
from unetrpp.plans.fingerprint import Fingerprint
from unetrpp.plans.plans import Configuration, Plans
from unetrpp.report.page import Card

WHOLE = 0.95  # share of the median image in a patch, from which on the patch is not enlarged


def changes(fingerprint: Fingerprint, plans: Plans) -> list[Card]:
    """Every part of the plan that the user can change: how it is now, and what another value would do."""
    cards = [] if fingerprint.in_pixels else [_spacing(fingerprint, plans)]
    asked = bool({"patch", "preset"} & plans.options.keys())
    cards += [_patch(fingerprint, name, each, asked) for name, each in plans.configurations.items()]
    return [*cards, *_others(fingerprint, plans)]


def patch_share(fingerprint: Fingerprint, configuration: Configuration) -> float:
    """The share of the median image that a patch holds, at most 1; a 2D patch is compared with one slice."""
    plan = configuration.preprocessing
    shapes = []
    for case in fingerprint.cases:
        own = reorder(case.spacing_mm, plan.transpose)
        shapes.append(resampled_shape(reorder(case.cropped_shape, plan.transpose), own, plan.target_spacing(own)))
    median = np.median(shapes, axis=0)[-len(configuration.patch) :]
    return min(1.0, math.prod(min(1.0, n / m) for n, m in zip(configuration.patch, median, strict=True)))


def _spacing(fingerprint: Fingerprint, plans: Plans) -> Card:
    first = next(iter(plans.configurations.values())).preprocessing
    target = first.target_spacing(reorder(fingerprint.median_spacing_mm, first.transpose))
    return Card(
        "voxel size",
        format_mm(target),
        "--spacing Z Y X",
        "Finer voxels keep thinner structures, but a patch then covers less of the body and everything takes longer; "
        "coarser voxels do the reverse. The rule follows the median of the cases, so cases of another resolution can change it.",
    )


def _patch(fingerprint: Fingerprint, name: str, configuration: Configuration, asked: bool) -> Card:
    share, now = patch_share(fingerprint, configuration), format_shape(configuration.patch)
    image = "median slice" if len(configuration.patch) == 2 else "median image"
    holds = f"The patch holds {share:.0%} of the {image}"
    if asked:
        effect = f"{holds}. You asked for this patch, so memory does not change it."
    elif share >= WHOLE:
        effect = (
            f"{holds}, so more memory would not enlarge it, but allows a larger batch or a wider network. "
            "With less memory the patch shrinks."
        )
    else:
        effect = f"{holds}. With more memory the patch grows; with a larger batch it shrinks."
    memory = format_bytes(configuration.training_memory_bytes)
    value = f"{now}, {configuration.batch_size} per batch, {memory}"
    return Card(f"patch and batch of {name}", value, "--gpu-memory-gb, --batch-size, --patch, --width", effect)


def _others(fingerprint: Fingerprint, plans: Plans) -> Iterator[Card]:
    names = ", ".join(plans.configurations)
    if not fingerprint.flat:
        yield Card(
            "configurations",
            names,
            "-c 3d_fullres 2d 3d_lowres 3d_cascade",
            "Others are planned when named. 2d suits thick slices; 3d_lowres and the cascade pay off where a patch "
            f"holds less than {LOW_RESOLUTION_BELOW:.0%} of the image.",
        )
    yield Card(
        "network",
        f"{plans.planner}, attention {plans.options.get('attention', 'by default')}",
        "--planner, --attention",
        "unet and resunet are plain and residual U-Nets; a dataset can have plans from several planners.",
    )
    yield Card(
        "loss",
        ", ".join(dict.fromkeys(each.loss.name for each in plans.configurations.values())),
        "--loss",
        "The focal losses let rare classes and voxels that are hard to classify count more, with distances also those near a "
        "boundary. They are experimental.",
    )
    yield Card(
        "channels",
        ", ".join(plans.channel_names),
        "channel_names in dataset.json",
        'A channel\'s name decides how it is normalised: "CT" keeps Hounsfield units, most others are normalised image by image.',
    )
    yield Card(
        "mirroring",
        plans.options.get("mirror", "auto"),
        "--mirror",
        "Left and right are not mirrored if labels are named left and right, or if a class always lies on one side.",
    )
    yield Card(
        "cases",
        counted(len(fingerprint.cases), "case"),
        "--group-by, splits.json, --overwrite",
        "Several images of one patient belong in one fold. New cases change the plan only if you plan again with "
        "--overwrite; otherwise the existing plan is kept.",
    )
