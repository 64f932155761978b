"""Lesion-wise detection: which connected components of reference and prediction overlap."""

from dataclasses import dataclass

import numpy as np
from scipy import ndimage
from scipy.sparse import coo_array
from scipy.sparse.csgraph import maximum_bipartite_matching


@dataclass(frozen=True)
class LesionCounts:
    """Lesions of a reference and predicted components, of one case or, added up, of several."""

    reference: int = 0
    detected: int = 0
    predicted: int = 0
    false: int = 0
    correct: int = 0

    def __add__(self, other: "LesionCounts") -> "LesionCounts":
        sums = {name: value + getattr(other, name) for name, value in vars(self).items()}
        return LesionCounts(**sums)

    @property
    def sensitivity(self) -> float | None:
        """Share of the lesions that are detected; None without a lesion."""
        return self.detected / self.reference if self.reference else None

    @property
    def precision(self) -> float | None:
        """Share of the predicted components that are correct; None without one."""
        return self.correct / (self.correct + self.false) if self.predicted else None


def count_lesions(predicted: np.ndarray, true: np.ndarray) -> LesionCounts:
    """Lesions are the 26-connected components (8-connected in 2D) of two masks (Z, Y, X).

    A lesion of the reference is detected when it shares a voxel with the prediction, and a predicted component is false
    when it shares none with the reference. The correct detections of the precision are the most pairs of a predicted
    component and a lesion that overlap, with each lesion and each component in one pair at most: further fragments of a
    lesion count neither as correct nor as false, so that breaking a prediction into pieces gains nothing.
    """
    lesions, n_true = _components(true)
    components, n_predicted = _components(predicted)
    both = true & predicted
    return LesionCounts(
        reference=n_true,
        detected=len(np.unique(lesions[both])),
        predicted=n_predicted,
        false=n_predicted - len(np.unique(components[both])),
        correct=_pairs(components[both], lesions[both]),
    )


def lesion_scores(predicted: np.ndarray, true: np.ndarray) -> dict[str, float | None]:
    """Sensitivity, precision and F1 of :func:`count_lesions`.

    ``lesion_F1`` is the harmonic mean of the two, and 0 where either is 0 or undefined. No lesion in either mask: all
    three are undefined.
    """
    found = count_lesions(predicted, true)
    return {
        "lesions_ref": found.reference,
        "lesions_detected": found.detected,
        "lesions_pred": found.predicted,
        "lesions_false": found.false,
        "lesion_sensitivity": found.sensitivity,
        "lesion_precision": found.precision,
        "lesion_F1": harmonic_mean(found.sensitivity, found.precision),
    }


def harmonic_mean(sensitivity: float | None, precision: float | None) -> float | None:
    """F1 of the two; 0 where either is 0 or undefined, undefined where both are.

    >>> harmonic_mean(0.5, 1.0), harmonic_mean(0.0, None), harmonic_mean(None, None)
    (0.6666666666666666, 0.0, None)
    """
    if sensitivity is None and precision is None:
        return None
    if not sensitivity or not precision:
        return 0.0
    return 2 * sensitivity * precision / (sensitivity + precision)


def _components(mask: np.ndarray) -> tuple[np.ndarray, int]:
    labels, count = ndimage.label(mask, np.ones((3,) * mask.ndim, bool))
    return labels, int(count)


def _pairs(components: np.ndarray, lesions: np.ndarray) -> int:
    """Size of the largest one-to-one assignment of components to lesions that overlap; numbers of both, voxel by voxel."""
    touching = np.unique(np.stack([components, lesions]), axis=1) - 1
    if not touching.size:
        return 0
    shape = tuple(int(n) + 1 for n in touching.max(axis=1))
    graph = coo_array((np.ones(touching.shape[1], np.int8), tuple(touching)), shape=shape).tocsr()
    return int(np.count_nonzero(maximum_bipartite_matching(graph, perm_type="column") >= 0))
