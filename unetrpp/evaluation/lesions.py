"""Lesion-wise detection: connected components of the reference and of the prediction that meet."""

import numpy as np
from scipy import ndimage


def lesion_scores(predicted: np.ndarray, true: np.ndarray) -> dict[str, float | None]:
    """Sensitivity, precision and F1 over lesions, the 26-connected components (8-connected in 2D) of two masks.

    A true lesion is detected, and a predicted one is right, when it shares a voxel with the other mask.
    """
    whole_true, found = _components_meeting(true, predicted)
    whole_predicted, right = _components_meeting(predicted, true)
    sensitivity = found / whole_true if whole_true else None
    precision = right / whole_predicted if whole_predicted else None
    both = whole_true + whole_predicted
    return {
        "lesions_ref": whole_true,
        "lesions_detected": found,
        "lesions_pred": whole_predicted,
        "lesions_false": whole_predicted - right,
        "lesion_sensitivity": sensitivity,
        "lesion_precision": precision,
        "lesion_F1": (found + right) / both if both else None,
    }


def _components_meeting(mask: np.ndarray, other: np.ndarray) -> tuple[int, int]:
    """Components of ``mask``, and how many of them meet ``other``."""
    labels, count = ndimage.label(mask, np.ones((3,) * mask.ndim, bool))
    met = np.unique(labels[other & mask])
    return count, len(met)
