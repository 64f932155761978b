"""Scores of one case: overlap of every class from voxel counts, and on request surface distances and lesions.

An undefined metric is None: means leave it out, and summaries count such cases. Voxels under the ignore label are
excluded from everything.
"""

from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np

from unetrpp.core.errors import UserError
from unetrpp.dataset.labels import LabelScheme
from unetrpp.evaluation.lesions import lesion_scores
from unetrpp.evaluation.protocol_metrics import published_scores
from unetrpp.evaluation.surface_distances import surface_scores
from unetrpp.io.formats import is_picture
from unetrpp.io.geometry import Geometry, voxel_volume_mm3

Scores: TypeAlias = dict[str, float | None]  # metric -> value, None where undefined
Unit: TypeAlias = Literal["mm", "pixels", "voxels"]


@dataclass(frozen=True, kw_only=True)
class MetricOptions:
    """What is measured besides the overlap.

    Raises:
        UserError: a tolerance is not above 0, or is given where no distance is measured.
    """

    distances: bool = False  # HD95, normalised surface distance, volume difference and lesion detection
    tolerance: float | None = (
        None  # of the normalised surface distance, mm (pixels or voxels of files without a size); None: one voxel
    )
    published: bool = False  # Dice and HD95 as published tables compute them
    instances: bool = False  # references number the objects of the one class

    def __post_init__(self) -> None:
        if self.tolerance is None:
            return
        if not self.distances:
            raise UserError(
                "--tolerance is that of the normalised surface distance, which is measured with --distances only; "
                "add --distances, or leave --tolerance out"
            )
        if not 0 < self.tolerance < float("inf"):
            raise UserError(f"tolerance must be above 0, not {self.tolerance}")
        object.__setattr__(self, "tolerance", float(self.tolerance))  # 2 and 2.0 are recorded alike


OVERLAP_ONLY = MetricOptions()


@dataclass(frozen=True)
class ScoredClass:
    """A foreground label or region.

    ``key`` is its name in nnU-Net's summary.json: "1", or "(1, 2)" for a region.
    """

    key: str
    name: str
    values: tuple[int, ...]


def scored_classes(scheme: LabelScheme) -> tuple[ScoredClass, ...]:
    """The regions if the scheme has any, else every foreground label."""
    unions = [(target.name, tuple(scheme.values[m] for m in target.members)) for target in scheme.targets]
    return tuple(
        ScoredClass(str(values) if len(values) > 1 else str(values[0]), name, values) for name, values in unions
    )


def score_case(
    prediction: np.ndarray,
    reference: np.ndarray,
    geometry: Geometry,
    scheme: LabelScheme,
    *,
    options: MetricOptions = OVERLAP_ONLY,
    file_ending: str = "",
) -> dict[str, Scores]:
    """Scores by class key of two arrays (Z, Y, X) of the user's values on one grid, read from files of ``file_ending``."""
    valid = None if scheme.ignore_value is None else reference != scheme.ignore_value
    spacing = geometry.spacing_zyx_mm
    scores = {}
    for scored in scored_classes(scheme):
        predicted, true = _mask(prediction, scored, valid), _mask(reference, scored, valid)
        values = overlap_scores(predicted, true, valid)
        if options.published:
            values |= published_scores(predicted, true, valid, options.distances)
        if options.distances:
            voxel_mm3 = voxel_volume_mm3(spacing) if unit_of(geometry, file_ending) == "mm" else None
            values |= volume_scores(predicted, true, voxel_mm3)
            values |= surface_scores(predicted, true, spacing, tolerance_mm=options.tolerance, valid=valid)
            values |= lesion_scores(predicted, true)
        scores[scored.key] = values
    return scores


def unit_of(geometry: Geometry, file_ending: str = "") -> Unit:
    """The unit of distances: pixels of a photograph, and voxels of a stack of them, where the files have no spacing in mm."""
    if set(geometry.spacing_zyx_mm) != {1.0}:
        return "mm"
    if geometry.dimensions == 2:
        return "pixels"
    return "voxels" if is_picture(file_ending) else "mm"


def _mask(array: np.ndarray, scored: ScoredClass, valid: np.ndarray | None) -> np.ndarray:
    mask = array == scored.values[0] if len(scored.values) == 1 else np.isin(array, scored.values)
    return mask if valid is None else mask & valid


def overlap_scores(predicted: np.ndarray, true: np.ndarray, valid: np.ndarray | None = None) -> Scores:
    """Dice and IoU of two masks, and the voxel counts behind them. Both masks empty: Dice and IoU are undefined."""
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


def volume_scores(predicted: np.ndarray, true: np.ndarray, voxel_mm3: float | None) -> Scores:
    """Volumes in ml; ``volume_difference`` is (predicted - true) / true, undefined without a true voxel.

    Args:
        voxel_mm3: None for a file without a physical size, which has no volume in ml but a difference of sizes.
    """
    n_pred, n_ref = int(np.count_nonzero(predicted)), int(np.count_nonzero(true))
    volumes: Scores = {}
    if voxel_mm3 is not None:
        volumes = {"volume_pred_ml": n_pred * voxel_mm3 / 1000, "volume_ref_ml": n_ref * voxel_mm3 / 1000}
    return volumes | {"volume_difference": (n_pred - n_ref) / n_ref if n_ref else None}
