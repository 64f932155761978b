"""The models of a dataset that unetrpp_find_best can compare, and the reason why each of the others is left out."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from unetrpp.core.errors import UserError
from unetrpp.core.text import quoted
from unetrpp.dataset.cases import RawDataset
from unetrpp.dataset.labels import LabelScheme
from unetrpp.evaluation.cross_validation import CrossValidation, read_fold, update_cross_validation
from unetrpp.evaluation.current_scores import current_scores
from unetrpp.evaluation.evaluate import Pairs
from unetrpp.evaluation.metrics import scored_classes
from unetrpp.evaluation.summary import Summary
from unetrpp.inference.record import earlier_runs
from unetrpp.inference.weights import load_network
from unetrpp.model.folder import ModelFolder
from unetrpp.model.folds import spell_folds

LOG = logging.getLogger(__name__)
ENSEMBLES = "ensembles"  # the pairs' validation predictions, beside the model folders
AGAIN = "delete the folder and run unetrpp_train again, which validates the fold again"


@dataclass(frozen=True)
class Validated:
    """A model with the current scores of its cross-validation; all of its folds are trained, validated and can be loaded."""

    model: ModelFolder
    mirroring: bool  # of its validation
    scores: CrossValidation

    @property
    def name(self) -> str:
        return self.model.path.name

    @property
    def labels(self) -> LabelScheme:
        return self.model.plans.labels

    @property
    def folds(self) -> list[str]:
        return [str(fold.fold) for fold in self.scores.folds]

    @property
    def fold_of(self) -> dict[str, int | None]:
        """By case: the first fold that held it out, whose scores count."""
        return {case.case: case.fold for case in self.scores.summary.metric_per_case}


def find_validated(results: Path, dataset: RawDataset) -> tuple[list[Validated], dict[str, str]]:
    """The models in ``results`` that are fit for a comparison; and by name, why another one is not."""
    found: list[Validated] = []
    unfit: dict[str, str] = {}
    folders = (path for path in sorted(results.glob("[!.]*")) if path.is_dir() and path.name != ENSEMBLES)
    for path in folders:
        try:
            if (path / "plans.json").exists() or any(path.glob("fold_*")):
                found.append(read_validated(path, dataset))
        except Exception as error:  # one broken model must not stop the comparison of the others
            unfit[path.name] = reason(error)
    return found, unfit


def reason(error: Exception) -> str:
    """The error as the reason for leaving something out."""
    LOG.debug("left out", exc_info=error)
    return str(error) if isinstance(error, UserError | OSError) else f"{type(error).__name__}: {error}"


def read_validated(path: Path, dataset: RawDataset) -> Validated:
    """Check one model and bring its scores up to date with the labels.

    Raises:
        UserError: a fold is not trained or not validated, or something in the folder is damaged or missing.
    """
    model = ModelFolder.open(path)
    folds = _finished_folds(model, comparable=len(dataset.cases) > 1)
    _require_networks(model, folds)
    mirroring = validation_mirroring(model, folds)
    for fold in folds:
        folder = validation_folder(path, fold)
        recorded = read_fold(folder / "summary.json", model.plans.labels)
        pairs = validation_pairs(folder, recorded, dataset)
        current_scores(folder, pairs, model.plans.labels)
    pooled = update_cross_validation(path, model.plans.labels)
    assert pooled is not None  # as it has folds
    return Validated(model, mirroring, pooled)


def validation_folder(model: Path, fold: str | int | None) -> Path:
    """Where the predictions and scores of the cases are that a fold held out."""
    return model / f"fold_{fold}" / "validation"


def validation_pairs(folder: Path, scores: Summary, dataset: RawDataset) -> Pairs:
    """By case of ``scores``: its prediction in ``folder`` and its reference.

    Raises:
        UserError: the dataset has no label of a case.
    """
    labels = {case.id: case.label for case in dataset.cases}
    pairs = {}
    for case in scores.metric_per_case:
        label = labels.get(case.case)
        if label is None:
            raise UserError(
                "was validated, but the raw dataset has no such label; restore it, or train the model on the present cases",
                case=case.case,
            )
        pairs[case.case] = (folder / case.prediction_name, label)
    return pairs


def _finished_folds(model: ModelFolder, *, comparable: bool) -> list[str]:
    """The folds of the cross-validation, all of which are trained and validated.

    ``comparable``: the dataset has enough cases for a cross-validation.
    """
    folds = [fold for fold in model.folds() if fold != "all"]
    if not folds and "all" in model.folds():
        train = f", or train the folds of the cross-validation ({train_command(model)})" if comparable else ""
        raise UserError(
            "only fold_all is trained, and no case is left to compare it on; "
            f"predict with it (unetrpp_predict -m {quoted(model.path)}){train}"
        )
    if not folds:
        raise UserError(f"no fold is trained; run {train_command(model)}")
    trained = model.trained()
    for what, unfinished in (
        ("not trained to the end", [fold for fold in folds if fold not in trained]),
        (
            "not validated",
            [fold for fold in folds if not (validation_folder(model.path, fold) / "summary.json").is_file()],
        ),
    ):
        if unfinished:
            raise UserError(f"fold {spell_folds(unfinished)} is {what}; run {train_command(model, unfinished)}")
    return folds


def _require_networks(model: ModelFolder, folds: Sequence[str]) -> None:
    """Load the network of every fold once, those of a cascade's first stage, too.

    Raises:
        UserError: a checkpoint is damaged or does not fit, or the first stage is missing.
    """
    for fold in folds:
        load_network(model, fold, "final", torch.device("cpu"))
    if model.first_stage is not None:
        _require_networks(model.first_stage, model.first_stage.source_folds(folds))


def train_command(model: ModelFolder, folds: Sequence[str] = ()) -> str:
    """The command that trains (and validates) these folds of a model, or all of them."""
    spelled = f" {spell_folds(folds)}" if folds else ""
    plans = model.path.name.rpartition("__")[0] or model.plans.name
    where = model.workspace().option
    return f"unetrpp_train {quoted(model.dataset)} {model.configuration_name}{spelled} -p {quoted(plans)}{where}"


def validation_mirroring(model: ModelFolder, folds: Sequence[str]) -> bool:
    """Whether the folds were validated with mirroring: predictions.json of every fold records it."""
    found: dict[bool, str] = {}
    for fold in folds:
        folder = validation_folder(model.path, fold)
        try:
            runs = earlier_runs(folder).values()
        except UserError:
            raise UserError(f"predictions.json in {folder} cannot be read; {AGAIN}") from None
        if not runs:
            raise UserError(f"{folder} has no predictions.json; run unetrpp_train again to repeat the validation")
        found |= {run.settings.mirroring: fold for run in runs}
    if len(found) > 1:
        raise UserError(
            f"fold {found[True]} was validated with mirroring and fold {found[False]} without; run {train_command(model)}, "
            "with or without --no-mirroring, which validates all folds the same way"
        )
    return next(iter(found))


def choose_comparable(found: Sequence[Validated], labels: LabelScheme) -> tuple[list[Validated], dict[str, str]]:
    """The largest set of models that are scored alike, on the same cases; and by name, why another one is not in it.

    A model that lacks folds which another one of the same splits has is left out. Of sets of equal size, the one with
    ``labels`` (those of dataset.json) is taken, then the one with more cases, then the first by name.
    """
    left_out: dict[str, str] = {}
    groups: list[list[Validated]] = []
    for candidate in found:
        fuller = next((other for other in found if _missing_folds(candidate, other)), None)
        if fuller is not None:
            missing = _missing_folds(candidate, fuller)
            left_out[candidate.name] = (
                f"only fold {spell_folds(candidate.folds)} is validated, and {fuller.name} has {spell_folds(fuller.folds)}; "
                f"run {train_command(candidate.model, missing)}"
            )
            continue
        group = next((group for group in groups if _difference(candidate, group[0]) is None), None)
        if group is None:
            groups.append([candidate])
        else:
            group.append(candidate)
    if not groups:
        return [], left_out
    chosen = max(groups, key=lambda group: (len(group), group[0].labels == labels, len(group[0].fold_of)))
    others = {model.name: _difference(model, chosen[0]) for group in groups if group is not chosen for model in group}
    return chosen, left_out | {name: why for name, why in others.items() if why is not None}


def _missing_folds(candidate: Validated, other: Validated) -> list[str]:
    """The folds that ``candidate`` lacks of ``other``, if all that it has are folds of the other, too; otherwise none."""
    if not candidate.fold_of.items() < other.fold_of.items():
        return []
    return [fold for fold in other.folds if fold not in candidate.folds]


def _difference(model: Validated, other: Validated) -> str | None:
    """Why the scores of two models cannot be compared; None if they can."""
    if model.labels != other.labels:
        return (
            f"it has the classes {_spell_labels(model.labels)}, and the compared models have {_spell_labels(other.labels)}; "
            "plan and train all of them with one dataset.json"
        )
    if model.mirroring != other.mirroring:
        kinds = ("with mirroring", "without") if model.mirroring else ("without mirroring", "with it")
        option = " --no-mirroring" if model.mirroring else ""
        return (
            f"it was validated {kinds[0]}, and the compared models {kinds[1]}; "
            f"run {train_command(model.model)}{option}, which validates it again"
        )
    differing = sorted(model.fold_of.keys() ^ other.fold_of.keys())
    if differing:
        return (
            f"it was validated on other cases than the compared models ({len(model.fold_of)}, not {len(other.fold_of)}; "
            f"{differing[0]} is in only one of the two); train all of them with the same splits.json"
        )
    return None


def _spell_labels(scheme: LabelScheme) -> str:
    named = [f"{scored.name} = {scored.key}" for scored in scored_classes(scheme)]
    return ", ".join([*named, *([] if scheme.ignore_value is None else [f"ignore = {scheme.ignore_value}"])])
