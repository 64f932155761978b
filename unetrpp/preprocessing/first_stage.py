"""The first stage's segmentation on the grid that a cascade's second stage works on: one code for training and
prediction.
"""

import numpy as np

from unetrpp.plans.plans import Preprocessing
from unetrpp.preprocessing.case import CaseProperties, to_plan_order
from unetrpp.preprocessing.crop import slices
from unetrpp.preprocessing.resample import resample_labels, separate_axis


def first_stage_on_grid(segmentation: np.ndarray, properties: CaseProperties, plan: Preprocessing) -> np.ndarray:
    """Training indices (Z, Y, X) on the preprocessed grid, from the user's values (Z, Y, X) on the input's.

    ``properties`` are of the second stage's preprocessing of the same image: its turn, crop and shape are repeated, and
    resampling is that of the labels.
    """
    turned = to_plan_order(segmentation[None], properties.orientation, plan)[0]
    indices = np.ascontiguousarray(plan.labels.encode(turned[slices(properties.crop)]))
    spacing = properties.cropped_spacing_mm
    target = tuple(own if planned is None else planned for own, planned in zip(spacing, plan.spacing_mm, strict=True))
    separate = separate_axis(spacing, target, plan.separate_axis_ratio)
    return resample_labels(indices, properties.shape, plan.labels.foreground, separate)


def with_first_stage(image: np.ndarray, indices: np.ndarray) -> np.ndarray:
    """``image`` (C, Z, Y, X) with the segmentation as one more channel, which the network takes apart."""
    return np.concatenate([image, indices[None].astype(image.dtype)])
