"""Lesion-wise detection: which connected components of reference and prediction overlap."""

import numpy as np
from scipy import ndimage


def lesion_scores(predicted: np.ndarray, true: np.ndarray) -> dict[str, float | None]:
    """Sensitivity, precision and F1 over lesions, the 26-connected components (8-connected in 2D) of two masks.

    A lesion of the reference is detected, and a predicted one is correct, when it shares a voxel with the other mask.
    """
    n_true, detected = _overlapping_components(true, predicted)
    n_predicted, correct = _overlapping_components(predicted, true)
    sensitivity = detected / n_true if n_true else None
    precision = correct / n_predicted if n_predicted else None
    both = n_true + n_predicted
    return {
        "lesions_ref": n_true,
        "lesions_detected": detected,
        "lesions_pred": n_predicted,
        "lesions_false": n_predicted - correct,
        "lesion_sensitivity": sensitivity,
        "lesion_precision": precision,
        "lesion_F1": (detected + correct) / both if both else None,
    }


def _overlapping_components(mask: np.ndarray, other: np.ndarray) -> tuple[int, int]:
    """Number of components of ``mask``, and how many of them overlap ``other``."""
    labels, count = ndimage.label(mask, np.ones((3,) * mask.ndim, bool))
    overlapping = np.unique(labels[other & mask])
    return count, len(overlapping)
