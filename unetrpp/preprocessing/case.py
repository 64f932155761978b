"""One case from a raw volume to what the network sees: the same code for training and for prediction."""

from dataclasses import dataclass

import numpy as np

from unetrpp.core.errors import UserError
from unetrpp.core.files import Record
from unetrpp.io.geometry import (
    Geometry,
    Orientation,
    Spacing,
    canonical_orientation,
    reorder,
    resampled_shape,
    to_canonical,
)
from unetrpp.io.images import Volume
from unetrpp.plans.plans import Preprocessing
from unetrpp.preprocessing.crop import Box, background_values, foreground_box, foreground_mask, shape_of, slices
from unetrpp.preprocessing.normalize import normalize
from unetrpp.preprocessing.resample import resample_image, resample_labels, separate_axis

Shape = tuple[int, int, int]


class CaseProperties(Record, frozen=True, kw_only=True):
    """What is needed to lay a result back onto the input's grid.

    Plan order means: the canonical frame (z, y, x) transposed by ``Preprocessing.transpose``.
    """

    case: str
    geometry: Geometry  # the input's own
    orientation: Orientation  # from the input's array to the canonical frame
    crop: Box  # kept voxels, plan order
    cropped_shape: Shape  # plan order, before resampling
    cropped_spacing_mm: Spacing  # plan order, before resampling
    shape: Shape  # plan order, after resampling


@dataclass(frozen=True)
class PreprocessedCase:
    """``image`` float32 (C, Z, Y, X) and ``label`` training indices (Z, Y, X) or None, in plan order."""

    image: np.ndarray
    label: np.ndarray | None
    properties: CaseProperties


def preprocess(volume: Volume, label: Volume | None, plan: Preprocessing, case: str) -> PreprocessedCase:
    """Canonical orientation -> plan order -> crop -> normalise -> resample.

    Args:
        volume: (C, Z, Y, X) as read.
        label: (1, Z, Y, X) of the user's values on the same grid, or None.

    Raises:
        UserError: the number of channels is not the plans', or a channel's values do not fit its normalisation.
    """
    if len(volume.array) != len(plan.normalization):
        names = ", ".join(n.channel for n in plan.normalization)
        raise UserError(
            f"the image has {len(volume.array)} channels, the plans expect {len(plan.normalization)} ({names})",
            case=case,
        )
    orientation = canonical_orientation(volume.geometry)
    image = to_plan_order(volume.array, orientation, plan)
    box = foreground_box(image)
    background = background_values(image)
    image = np.array(image[:, *slices(box)], np.float32, order="C")  # a copy: normalisation works in place
    spacing = reorder(reorder(volume.geometry.spacing_zyx_mm, orientation.axes), plan.transpose)
    target = tuple(own if planned is None else planned for own, planned in zip(spacing, plan.spacing_mm, strict=True))
    shape = resampled_shape(shape_of(box), spacing, target)
    separate = separate_axis(spacing, target, plan.separate_axis_ratio)
    _normalize_channels(image, plan, background, case)
    labels = None
    if label is not None:
        indices = plan.labels.encode(to_plan_order(label.array, orientation, plan)[0][slices(box)])
        classes = range(1, len(plan.labels.known_values))
        labels = resample_labels(np.ascontiguousarray(indices), shape, classes, separate)
    properties = CaseProperties(
        case=case,
        geometry=volume.geometry,
        orientation=orientation,
        crop=box,
        cropped_shape=shape_of(box),
        cropped_spacing_mm=spacing,
        shape=(shape[0], shape[1], shape[2]),
    )
    return PreprocessedCase(resample_image(image, shape, separate), labels, properties)


def to_plan_order(array: np.ndarray, orientation: Orientation, plan: Preprocessing) -> np.ndarray:
    """(C, Z, Y, X) of a file in the canonical frame, transposed as the plans say (a view)."""
    return to_canonical(array, orientation).transpose(0, *(1 + axis for axis in plan.transpose))


def _normalize_channels(image: np.ndarray, plan: Preprocessing, background: tuple[float, ...], case: str) -> None:
    masked = any(n.masked for n in plan.normalization)
    mask = foreground_mask(image, background) if masked else None
    for channel, how in zip(image, plan.normalization, strict=True):
        try:
            normalize(channel, how, mask)
        except UserError as error:
            raise UserError(str(error), case=case) from None
