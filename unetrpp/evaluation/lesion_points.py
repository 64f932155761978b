"""Precision and sensitivity over lesions at many thresholds, on the cross-validation of a calibrated model."""

from collections.abc import Sequence
from pathlib import Path

import msgspec
import numpy as np
import torch

from unetrpp.core.errors import UserError
from unetrpp.core.files import write_json
from unetrpp.core.progress import progress_bar
from unetrpp.evaluation.calibration import store_of
from unetrpp.evaluation.cross_validation import pool_folds, reference_of
from unetrpp.evaluation.lesions import LesionCounts, count_lesions
from unetrpp.inference.calibration import FILE, Calibration, LesionPoints
from unetrpp.inference.export import averaged_slabs
from unetrpp.inference.output_rule import OutputRule
from unetrpp.inference.predictor import Predictor
from unetrpp.io.images import read_label
from unetrpp.model.folder import ModelFolder
from unetrpp.preprocessing.store import Store

THRESHOLDS = tuple(round(i / 20, 2) for i in range(1, 20))  # components are found anew for each


def count_lesions_of_folds(
    model: ModelFolder, found: Calibration, names: Sequence[str], *, device: str
) -> dict[str, LesionPoints]:
    """Of the classes or regions ``names``, every case predicted by the fold that did not train on it. Those that ``found`` lacks are
    counted now and added to calibration.json.

    Raises:
        UserError: a preprocessed case or a reference is gone.
    """
    missing = [name for name in names if name not in found.lesions]
    if not missing:
        return found.lesions
    counts = {name: [LesionCounts()] * len(THRESHOLDS) for name in missing}
    cases = pool_folds(model.path, model.plans.labels).summary.metric_per_case
    store = store_of(model)
    with progress_bar("counting lesions", len(cases)) as bar:
        for fold in found.folds:
            predictor = Predictor(model.path, folds=fold, device=device, mirroring=found.mirroring)
            for case in cases:
                if str(case.fold) == fold:
                    reference = reference_of(model, case, "so its lesions cannot be counted")
                    own_counts = _of_case(predictor, store, case.case, reference, found=found, names=missing)
                    for name, own in own_counts.items():
                        counts[name] = [a + b for a, b in zip(counts[name], own, strict=True)]
                    bar.update()
    lesions = found.lesions | {name: _points(own) for name, own in counts.items()}
    write_json(model.path / FILE, msgspec.structs.replace(found, lesions=lesions))
    return lesions


def _of_case(
    predictor: Predictor, store: Store, case: str, reference: Path, *, found: Calibration, names: Sequence[str]
) -> dict[str, list[LesionCounts]]:
    """By name, at every threshold, on the image's grid."""
    scheme = predictor.model.plans.labels
    prepared = predictor.from_store(store.open(case))
    grid = predictor.grid(prepared.properties)
    truth = scheme.encode(read_label(reference).array[0])
    if truth.shape != prepared.properties.geometry.shape_zyx:
        raise UserError(f"its reference {reference} is on another grid than its image; restore it", case=case)
    channels = [k for k, channel in enumerate(scheme.output_channels) if channel.name in names]
    rule = OutputRule(scheme, found.temperatures)
    slabs = averaged_slabs(predictor.logits(prepared), grid, averaging=predictor.model.configuration.averaging)
    probabilities = torch.cat([rule.calibrated(slab)[channels].cpu() for slab in slabs], dim=1).numpy()
    known = scheme.known(truth)
    counts = {}
    for k, probability in zip(channels, probabilities, strict=True):
        channel = scheme.output_channels[k]
        true = np.isin(truth, channel.members) & known
        masks = (grid.to_input(probability >= threshold, outside=False) & known for threshold in THRESHOLDS)
        counts[channel.name] = [count_lesions(mask, true) for mask in masks]
    return counts


def _points(counts: Sequence[LesionCounts]) -> LesionPoints:
    return LesionPoints(
        thresholds=THRESHOLDS,
        precision=tuple(each.precision for each in counts),
        recall=tuple(each.sensitivity for each in counts),
    )
