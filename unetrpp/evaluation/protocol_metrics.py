"""Dice and HD95 as the tables of published benchmarks compute them; added beside the package's own metrics."""

import numpy as np

from unetrpp.evaluation.surface_distances import Scores, pooled_hausdorff95


def published_scores(
    predicted: np.ndarray, true: np.ndarray, valid: np.ndarray | None = None, distances: bool = False
) -> Scores:
    """``Dice_published`` and, with ``distances``, ``HD95_published`` of two masks.

    Dice of a class that neither mask has is 1. HD95 is measured in voxels, whatever the spacing, over both directions
    together, and is 0 where either mask is empty: a missed organ improves it.
    """
    n_pred, n_ref = int(np.count_nonzero(predicted)), int(np.count_nonzero(true))
    hits = int(np.count_nonzero(predicted & true))
    scores: Scores = {"Dice_published": 2 * hits / (n_pred + n_ref) if n_pred + n_ref else 1.0}
    if distances:
        in_voxels = pooled_hausdorff95(predicted, true, (1.0,) * true.ndim, valid) if n_pred and n_ref else None
        scores["HD95_published"] = 0.0 if in_voxels is None else in_voxels
    return scores
