"""Calibrating a model on its own cross-validation: every case predicted by the fold that did not train on it."""

import io
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from unetrpp.core.digest import digest, file_digest
from unetrpp.core.errors import UserError
from unetrpp.core.files import write_bytes, write_json
from unetrpp.core.progress import progress_bar
from unetrpp.core.workspace import Workspace
from unetrpp.evaluation.candidates import validation_folder, validation_mirroring
from unetrpp.evaluation.cross_validation import pool_folds, reference_of
from unetrpp.evaluation.expected_dice import check_dice_models, features_and_dice, fit_dice_models
from unetrpp.evaluation.summary import CaseScores
from unetrpp.evaluation.temperature import (
    THRESHOLDS,
    calibrated,
    fit_temperatures,
    log_loss,
    precision_and_recall,
    reliability,
)
from unetrpp.evaluation.voxel_sample import MOST_DOUBTFUL, MOST_SURE, MOST_VALUES, SURE, VoxelSample, VoxelSampler
from unetrpp.inference.calibration import (
    FILE,
    Calibration,
    ClassCalibration,
    Temperatures,
    calibration_basis,
    current_calibration,
    validated_folds,
)
from unetrpp.inference.case_features import feature_names
from unetrpp.inference.export import averaged_slabs
from unetrpp.inference.predictor import Predictor
from unetrpp.io.formats import files_of_image
from unetrpp.io.images import read_label
from unetrpp.model.folder import ModelFolder
from unetrpp.preprocessing.store import Store

SAMPLE = "calibration.npz"  # of a fold's validation cases, so that an interrupted run resumes
HINT = "predict from the workspace that the model was trained in"


def calibrate_model(model: Path | str, *, device: str = "auto") -> Calibration:
    """Fit the temperature of a model, measure its probabilities before and after it, and write calibration.json.

    This is what `unetrpp_evaluate --model --calibrate` does. What is current is kept: the whole, or the samples of folds whose
    weights, images and references are the same.

    Args:
        model: a model folder with validated folds, in the workspace that it was trained in.
        device: where the validation cases are predicted: auto, cpu, cuda, cuda:1 or mps.

    Raises:
        UserError: no fold is validated, folds were validated differently, or a preprocessed case or a reference is gone.
    """
    opened = ModelFolder.open(Path(model))
    pooled = pool_folds(opened.path, opened.plans.labels).summary.metric_per_case
    names = validated_folds(opened)
    if not names:
        raise UserError(
            f"no validated fold of {opened.path} has its final checkpoint; finish its training with unetrpp_train"
        )
    mirroring = validation_mirroring(opened, names)
    if (current := current_calibration(opened)) is not None:
        return current
    cases = {name: tuple(case for case in pooled if str(case.fold) == name) for name in names}
    samples = {name: _Fold(opened, name, own, mirroring).sample(device) for name, own in cases.items() if own}
    result = measure(opened, samples, cases, mirroring=mirroring)
    write_json(opened.path / FILE, result)
    return result


@dataclass(frozen=True)
class FoldSample:
    """Of the validation cases of one fold: a sample of their voxels, and their features (cases, classes, P)."""

    voxels: VoxelSample
    features: np.ndarray


@dataclass(frozen=True)
class _Fold:
    """The validation cases of one fold."""

    model: ModelFolder
    name: str
    cases: tuple[CaseScores, ...]
    mirroring: bool

    @property
    def folder(self) -> Path:
        return validation_folder(self.model.path, self.name)

    def sample(self, device: str) -> FoldSample:
        """The sample of its cases: the stored one where it is current, else a new one."""
        store, path = store_of(self.model), self.folder / SAMPLE
        made_from = self._basis(store)
        if (found := _stored(path, made_from)) is not None:
            return found
        predictor = Predictor(self.model.path, folds=self.name, device=device, mirroring=self.mirroring)
        voxels, features = [], []
        with progress_bar(f"fold {self.name} calibration", len(self.cases)) as bar:
            for case in self.cases:
                sample, rows = sample_case(predictor, store, case.case, self._reference(case))
                voxels.append(sample)
                features.append(rows)
                bar.update()
        found = FoldSample(VoxelSample.joined(voxels), np.stack(features))
        _write(path, found, made_from)
        return found

    def _reference(self, case: CaseScores) -> Path:
        return reference_of(self.model, case, "so the fold cannot be calibrated")

    def _basis(self, store: Store) -> str:
        """Digest of all that the sample depends on."""
        cascade, labels = self.model.configuration.first_stage is not None, self.model.plans.labels
        content: list[object] = [self.model.digest([self.name]), labels, self.mirroring]
        content += [MOST_DOUBTFUL, MOST_SURE, MOST_VALUES, SURE]
        content.append(feature_names(len(self.model.plans.channel_names), mirrored=self.mirroring))
        for case in self.cases:
            content += [case.case, store.image_digest(case.case, with_first_stage=cascade)]
            content += [file_digest(file) for file in files_of_image(self._reference(case))]
        return digest(*content)


def store_of(model: ModelFolder) -> Store:
    """The preprocessed cases that the model was trained on.

    Raises:
        UserError: they are not in its workspace.
    """
    workspace = Workspace.of_model(model.path)
    plans = model.path.resolve().name.rpartition("__")[0] or model.plans.name
    folder = workspace.store(model.dataset, plans, model.configuration_name)
    if not folder.is_dir():
        raise UserError(f"the preprocessed cases of {model.path} are not in {folder}; {HINT}")
    return Store(folder)


def sample_case(predictor: Predictor, store: Store, case: str, reference: Path) -> tuple[VoxelSample, np.ndarray]:
    """A sample of the voxels inside a case's crop, on the image's own spacing (outside of it nothing is predicted), and the
    features of its fold's prediction (classes, P)."""
    stored, labels = store.open(case), predictor.model.plans.labels
    prepared = predictor.from_store(stored)
    grid = predictor.grid(prepared.properties)
    truth = grid.crop(labels.encode(read_label(reference).array[0]))
    if truth.shape != prepared.properties.cropped_shape:
        raise UserError(f"its reference {reference} is on another grid than its image; restore it", case=case)
    sampler = VoxelSampler(labels, int(digest(case), 16))
    features = predictor.features(prepared)
    slabs = predictor.logits(prepared, features)
    done = 0
    for slab in averaged_slabs(slabs, grid, averaging=predictor.model.configuration.averaging):
        known = truth[done : done + slab.shape[1]].reshape(-1)
        sampler.add(slab.flatten(1).cpu().numpy(), known)
        done += slab.shape[1]
    return sampler.sample(), features.rows()[0]


def measure(
    model: ModelFolder, samples: Mapping[str, FoldSample], cases: Mapping[str, Sequence[CaseScores]], *, mirroring: bool
) -> Calibration:
    """Fit the temperatures and the expected Dice to the ``samples`` of all folds, and compare both with the truth.

    Args:
        samples: by name of the fold; a fold whose cases all count in others has none.
        cases: of every fold, in the order of its sample.

    Raises:
        UserError: no voxel is annotated.
    """
    scheme, sample = model.plans.labels, VoxelSample.joined([fold.voxels for fold in samples.values()])
    if not len(sample.truth):
        raise UserError(f"no voxel of the validation cases of {model.path} is annotated, so nothing can be calibrated")
    temperatures = fit_temperatures(sample, scheme)
    scored = [(name, case) for name in samples for case in cases[name]]
    features = np.concatenate([fold.features for fold in samples.values()])
    found = features_and_dice(scheme, features, scored, model.description.groups or {})
    return Calibration(
        made_from=calibration_basis(model, tuple(cases)),
        temperatures=temperatures,
        folds=tuple(cases),
        mirroring=mirroring,
        voxels=len(sample.truth),
        log_loss_before=log_loss(sample, scheme, (1.0,) * len(temperatures)),
        log_loss_after=log_loss(sample, scheme, temperatures),
        thresholds=THRESHOLDS,
        classes=_classes(model, sample, temperatures),
        expected_dice=fit_dice_models(found),
        dice_check=check_dice_models(found),
    )


def _classes(model: ModelFolder, sample: VoxelSample, temperatures: Temperatures) -> dict[str, ClassCalibration]:
    scheme = model.plans.labels
    before = calibrated(sample, scheme, (1.0,) * len(temperatures))
    after = calibrated(sample, scheme, temperatures)
    found = {}
    first = scheme.outputs - len(scheme.targets)  # the background of a softmax is not scored
    for k, members in enumerate(scheme.membership()[first:], start=first):
        true = members[sample.truth]
        precision, recall = precision_and_recall(after[:, k], true, sample.weight)
        found[scheme.output_channels[k].name] = ClassCalibration(
            before=reliability(before[:, k], true, sample.weight),
            after=reliability(after[:, k], true, sample.weight),
            precision=precision,
            recall=recall,
        )
    return found


def _stored(path: Path, made_from: str) -> FoldSample | None:
    """The sample at ``path`` where it was made from these inputs."""
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as content:
            if content["made_from"].item() != made_from:
                return None
            voxels = VoxelSample(content["logits"], content["truth"], content["weight"])
            return FoldSample(voxels, content["features"])
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error):  # none, or damaged
        return None


def _write(path: Path, sample: FoldSample, made_from: str) -> None:
    buffer, voxels = io.BytesIO(), sample.voxels
    np.savez_compressed(
        buffer,
        logits=voxels.logits,
        truth=voxels.truth,
        weight=voxels.weight,
        features=sample.features,
        made_from=np.array(made_from),
    )
    write_bytes(path, buffer.getvalue())
