"""Validation of a fold on whole volumes, predicted by the sliding window and scored on their own grids."""

import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from unetrpp.core.errors import UserError
from unetrpp.core.progress import progress_bar
from unetrpp.core.text import scores_text
from unetrpp.evaluation.current_scores import FILE as SUMMARY
from unetrpp.evaluation.current_scores import current_scores, keep_options, recorded_options
from unetrpp.inference.folder import member_of
from unetrpp.inference.guards import class_voxels, volumes_ml
from unetrpp.inference.options import InferenceOptions
from unetrpp.inference.postprocessing import NOTHING
from unetrpp.inference.predictor import Predictor
from unetrpp.inference.record import FILE, CaseRecord, Predictions, Progress, Settings, earlier_runs
from unetrpp.io.formats import files_of_image
from unetrpp.model.folder import ModelFolder
from unetrpp.preprocessing.store import Store, StoredCase

LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class ValidationCases:
    """The cases of a fold that are predicted and scored."""

    cases: Sequence[str]
    store: Store  # their preprocessed images
    references: Path  # folder of their labels, as CASE.ending


def validate_fold(model: Path, fold: int, cases: ValidationCases, *, device: torch.device, mirroring: bool) -> None:
    """Predict the fold's validation cases as unetrpp_predict would, and score them.

    What is current is kept. A case is predicted again where its image, its preprocessing, the fold's weights or the
    mirroring changed, all are scored again where a prediction, a reference or the classes changed, and predictions of
    cases that the fold no longer holds out are removed.

    Args:
        model: the model folder.

    Raises:
        UserError: a case could not be scored.
    """
    opened, folder = ModelFolder.open(model), model / f"fold_{fold}" / "validation"
    plans, summary = opened.plans, folder / SUMMARY
    settings = Settings(
        dataset=plans.dataset,
        members=(member_of(opened, [str(fold)], "final"),),
        mirroring=mirroring,
        step=InferenceOptions().step,
        postprocessing=NOTHING,
    )
    cascade = opened.configuration.first_stage is not None
    inputs = {case: cases.store.image_digest(case, with_first_stage=cascade) for case in cases.cases}
    files = {case: folder / f"{case}{plans.file_ending}" for case in inputs}
    earlier = _earlier(folder, fold, settings)
    left = {case: path for case, path in files.items() if not _is_current(earlier, case, path, inputs[case])}
    removed = _remove_others(folder, plans.file_ending, files)
    kept = {} if earlier is None else {c: r for c, r in earlier.cases.items() if c in files and c not in left}
    pending = {path.name for path in left.values()}
    progress = Progress(folder / FILE, settings, device=str(device), cases=kept, pending=pending)
    if left or removed:
        keep_options(folder, recorded_options(folder))
        for path in (summary, summary.with_suffix(".csv")):  # not of these predictions
            path.unlink(missing_ok=True)
        progress.save()
    before = summary.read_bytes() if summary.is_file() else None
    if left:
        predictor = Predictor(model, folds=[fold], device=str(device), mirroring=mirroring)
        todo = {case: (path, inputs[case]) for case, path in left.items()}
        predict_cases(predictor, cases.store, todo, progress, title=f"fold {fold} validation")
    pairs = {case: (path, cases.references / path.name) for case, path in files.items()}
    scores = current_scores(folder, pairs, plans.labels)
    if summary.read_bytes() == before:
        LOG.info("fold %d is finished: %s", fold, summary)
    else:
        dice = {scores.classes[key]: mean["Dice"] for key, mean in scores.mean.items()}
        LOG.info("fold %d: Dice %s", fold, scores_text(dice, scores.foreground_mean["Dice"]))


def _earlier(folder: Path, fold: int, settings: Settings) -> Predictions | None:
    """The record of an earlier validation with the same weights and mirroring; None where there is none."""
    try:
        found = earlier_runs(folder).get(FILE)
    except UserError:  # malformed
        return None
    if found is None or found.settings == settings:
        return found
    mirrored = found.settings.mirroring != settings.mirroring
    why = (
        f"now with{'' if settings.mirroring else 'out'} mirroring" if mirrored else "its weights or plans have changed"
    )
    LOG.info("fold %d is validated again: %s", fold, why)
    return None


def _is_current(earlier: Predictions | None, case: str, path: Path, inputs: str) -> bool:
    """Whether the prediction at ``path`` is of this image. Release 0.1.0 did not record the images of a validation."""
    if earlier is None or not path.is_file() or path.name in earlier.pending:
        return False
    return case not in earlier.cases or earlier.cases[case].inputs == inputs


def _remove_others(folder: Path, ending: str, files: Mapping[str, Path]) -> bool:
    """Delete predictions of cases that are not among ``files``; returns whether there were any."""
    others = sorted(set(folder.glob(f"[!.]*{ending}")) - set(files.values()))
    for path in others:
        for file in files_of_image(path):
            file.unlink(missing_ok=True)
    return bool(others)


def predict_cases(
    predictor: Predictor, store: Store, files: Mapping[str, tuple[Path, str]], progress: Progress, *, title: str
) -> None:
    """Write the segmentation of every stored case on the grid of its image.

    Args:
        files: by case, its segmentation and the digest of its image.
        progress: records them.
    """
    try:
        with progress_bar(title, len(files)) as bar:
            for case, (path, inputs) in files.items():
                progress.finish(case, _predict_case(predictor, store.open(case), path, inputs))
                bar.update()
    finally:
        progress.save()


def _predict_case(predictor: Predictor, stored: StoredCase, path: Path, inputs: str) -> CaseRecord:
    """Write the segmentation of a stored case; returns its record. ``inputs`` is the digest of its image."""
    start, labels = time.monotonic(), predictor.model.plans.labels
    exported = predictor.export(predictor.from_store(stored))
    segmentation = predictor.to_input_grid(exported, stored.properties)
    segmentation.save(path)
    voxels, geometry = class_voxels(segmentation.array, labels), segmentation.geometry
    return CaseRecord(
        output=path.name,
        inputs=inputs,
        geometry=geometry,
        volumes_ml=volumes_ml(voxels, geometry),
        areas_pixels=voxels if geometry.dimensions == 2 else {},
        warnings=(),
        seconds=round(time.monotonic() - start, 3),
    )
