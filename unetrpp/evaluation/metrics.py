"""Scores of one case: overlap of every class from voxel counts, and on request distances and lesions.

A metric that is undefined is None: it is left out of means and counted. Voxels under the ignore label count nowhere.
"""

from dataclasses import dataclass

import numpy as np

from unetrpp.dataset.labels import LabelScheme
from unetrpp.evaluation.lesions import lesion_scores
from unetrpp.evaluation.protocol_metrics import published_scores
from unetrpp.evaluation.surface_distances import surface_scores
from unetrpp.io.geometry import Geometry, voxel_volume_mm3

Scores = dict[str, float | None]


@dataclass(frozen=True)
class ScoredClass:
    """A foreground label or region; ``key`` names it as nnU-Net's summary.json does ("1", or "(1, 2)" for a region)."""

    key: str
    name: str
    values: tuple[int, ...]


def scored_classes(scheme: LabelScheme) -> tuple[ScoredClass, ...]:
    """The regions where there are some, else every foreground label."""
    if not scheme.regions:
        return tuple(
            ScoredClass(str(scheme.values[i]), scheme.names[i], (scheme.values[i],)) for i in scheme.foreground
        )
    unions = [(region.name, tuple(scheme.values[m] for m in region.members)) for region in scheme.regions]
    return tuple(
        ScoredClass(str(values) if len(values) > 1 else str(values[0]), name, values) for name, values in unions
    )


def score_case(
    prediction: np.ndarray,
    reference: np.ndarray,
    geometry: Geometry,
    scheme: LabelScheme,
    distances: bool = False,
    tolerance_mm: float = 1.0,
    published: bool = False,
) -> dict[str, Scores]:
    """Scores by class key of two arrays (Z, Y, X) of the user's values on one grid.

    ``distances`` adds HD95, normalised surface distance at ``tolerance_mm``, volume difference and lesion detection.
    ``published`` adds Dice and HD95 as published tables count them.
    """
    valid = None if scheme.ignore_value is None else reference != scheme.ignore_value
    scores = {}
    for scored in scored_classes(scheme):
        predicted, true = _mask(prediction, scored, valid), _mask(reference, scored, valid)
        scores[scored.key] = overlap_scores(predicted, true, valid)
        if published:
            scores[scored.key] |= published_scores(predicted, true, valid, distances)
        if distances:
            scores[scored.key] |= volume_scores(predicted, true, voxel_volume_mm3(geometry.spacing_zyx_mm))
            scores[scored.key] |= surface_scores(predicted, true, geometry.spacing_zyx_mm, tolerance_mm, valid)
            scores[scored.key] |= lesion_scores(predicted, true)
    return scores


def _mask(array: np.ndarray, scored: ScoredClass, valid: np.ndarray | None) -> np.ndarray:
    mask = array == scored.values[0] if len(scored.values) == 1 else np.isin(array, scored.values)
    return mask if valid is None else mask & valid


def overlap_scores(predicted: np.ndarray, true: np.ndarray, valid: np.ndarray | None = None) -> Scores:
    """Dice and IoU of two masks and the counts they come from; both empty: undefined."""
    n_pred, n_ref = int(np.count_nonzero(predicted)), int(np.count_nonzero(true))
    hits = int(np.count_nonzero(predicted & true))
    union = n_pred + n_ref - hits
    voxels = predicted.size if valid is None else int(np.count_nonzero(valid))
    return {
        "Dice": 2 * hits / (n_pred + n_ref) if union else None,
        "IoU": hits / union if union else None,
        "TP": hits,
        "FP": n_pred - hits,
        "FN": n_ref - hits,
        "TN": voxels - union,
        "n_pred": n_pred,
        "n_ref": n_ref,
    }


def volume_scores(predicted: np.ndarray, true: np.ndarray, voxel_mm3: float) -> Scores:
    """Volumes in ml; ``volume_difference`` is (predicted - true) / true, undefined without a true voxel."""
    ml = voxel_mm3 / 1000
    volume_pred, volume_ref = int(np.count_nonzero(predicted)) * ml, int(np.count_nonzero(true)) * ml
    return {
        "volume_pred_ml": volume_pred,
        "volume_ref_ml": volume_ref,
        "volume_difference": (volume_pred - volume_ref) / volume_ref if volume_ref else None,
    }
