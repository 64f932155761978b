"""Choosing the model, pair of models and post-processing to predict with, by their scores on the same cases."""

import itertools
import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from unetrpp.core.errors import UserError
from unetrpp.core.files import write_json
from unetrpp.core.workspace import Workspace
from unetrpp.dataset.cases import Case, RawDataset, read_dataset
from unetrpp.evaluation.cross_validation import CrossValidation, pool_folds
from unetrpp.evaluation.pair_validation import validate_pair
from unetrpp.evaluation.postprocessing_choice import choose_components
from unetrpp.evaluation.ranking import Members, rank, reasons
from unetrpp.inference.record import earlier_runs
from unetrpp.inference.selection import FILE, Selection
from unetrpp.model.folder import ModelFolder

LOG = logging.getLogger(__name__)


def find_best(
    dataset: str | Path, *, workspace: Path | str | None = None, pairs: bool = True, device: str = "auto"
) -> tuple[Selection, Path]:
    """Compare all validated models of a dataset, and their pairs, and write inference.json, as `unetrpp_find_best` does.

    Args:
        dataset: name in the workspace, DatasetNNN_Name, its number, or a path.
        workspace: by default $UNETRPP_WORKSPACE, else ./unetrpp_workspace.
        pairs: compare pairs as well, whose validation cases are predicted first; False is ``--no-pairs``.
        device: auto, cpu, cuda, cuda:1 or mps.

    Returns:
        What was chosen, and the path of inference.json.

    Raises:
        UserError: no such dataset, or as :func:`select_best`.
    """
    home = Workspace.find(None if workspace is None else Path(workspace))
    name, folder = home.find_raw(str(dataset))
    raw = with_references(read_dataset(folder, name), home.preprocessed(name) / "labels")
    results = home.root / "results" / name
    return select_best(results, raw, pairs=pairs, device=device), results / FILE


def with_references(dataset: RawDataset, folder: Path) -> RawDataset:
    """The dataset with the labels that folds are validated against: the copies in ``folder``, which --fix may have repaired."""
    ending = dataset.description.file_ending

    def with_copy(case: Case) -> Case:
        copy = folder / f"{case.id}{ending}"
        return replace(case, label=copy) if copy.is_file() else case

    return replace(dataset, cases=tuple(map(with_copy, dataset.cases)))


def select_best(results: Path, dataset: RawDataset, *, pairs: bool = True, device: str = "auto") -> Selection:
    """Compare the fully validated model folders of ``results`` and their pairs, choose, and write inference.json.

    Raises:
        UserError: no model is validated on all of its folds, or models were validated on different cases, or some with
            mirroring and some without.
    """
    models = validated_models(results)
    labels, mirroring = models[0].plans.labels, common_mirroring(models)
    folders: dict[Members, Path] = {(model.path.name,): model.path for model in models}
    for pair in itertools.combinations(models, 2) if pairs else ():
        members = tuple(model.path.name for model in pair)
        folders[members] = validate_pair(results, pair, dataset, device=device, mirroring=mirroring)
    scores = {members: pool_folds(folder, labels) for members, folder in folders.items()}
    _require_same_cases(scores)
    ranked = rank(scores)
    best = ranked[0]
    if best.cases < len(dataset.cases):
        LOG.warning(
            "warning: the scores are of %d of %d training cases; train the other folds to compare on all",
            best.cases,
            len(dataset.cases),
        )
    files = _validation_pairs(folders[best.members], scores[best.members], dataset.cases)
    postprocessing, before, after = choose_components(files, labels)
    selection = Selection(
        dataset=models[0].dataset,
        members=best.members,
        mirroring=mirroring,
        postprocessing=postprocessing,
        why=reasons(ranked, postprocessing),
        candidates=tuple(ranked),
        dice_before_postprocessing=before,
        dice_after_postprocessing=after,
    )
    write_json(results / FILE, selection)
    return selection


def validated_models(results: Path) -> list[ModelFolder]:
    """Model folders whose cross-validation folds all have a summary; the others are named in a warning."""
    models = [ModelFolder.open(path.parent) for path in sorted(results.glob("*/plans.json"))]
    complete = [model for model in models if _is_validated(model)]
    if not complete:
        raise UserError(f"{results} has no model whose folds are all validated; train one with unetrpp_train")
    for model in models:
        if model not in complete:
            LOG.warning("%s is left out: not all of its folds are validated", model.path.name)
    return complete


def _is_validated(model: ModelFolder) -> bool:
    folds = [fold for fold in model.folds() if fold != "all"]
    return bool(folds) and all((_validation(model.path, fold) / "summary.json").is_file() for fold in folds)


def _validation(folder: Path, fold: str | int | None) -> Path:
    return folder / f"fold_{fold}" / "validation"


def common_mirroring(models: Sequence[ModelFolder]) -> bool:
    """Whether all models were validated with mirroring, or all without: predictions.json of every fold records it.

    Raises:
        UserError: some were and some were not, or a fold has no such record.
    """
    found: dict[bool, Path] = {}
    for model in models:
        for fold in (fold for fold in model.folds() if fold != "all"):
            folder = _validation(model.path, fold)
            runs = earlier_runs(folder).values()
            if not runs:
                raise UserError(f"{folder} has no predictions.json; run unetrpp_train again to repeat the validation")
            found |= {run.settings.mirroring: folder for run in runs}
    if len(found) > 1:
        raise UserError(
            f"{found[True]} was predicted with mirroring and {found[False]} without, so they cannot be compared; "
            "run unetrpp_train again for one of them, with or without --no-mirroring"
        )
    return next(iter(found))


def _require_same_cases(scores: Mapping[Members, CrossValidation]) -> None:
    cases = {members: {case.case for case in result.summary.metric_per_case} for members, result in scores.items()}
    first, *others = cases
    for other in others:
        differing = sorted(cases[first] ^ cases[other])
        if differing:
            raise UserError(
                f"{' + '.join(first)} and {' + '.join(other)} were validated on different cases ({differing[0]}); "
                "train both with the same splits.json"
            )


def _validation_pairs(folder: Path, result: CrossValidation, cases: Iterable[Case]) -> dict[str, tuple[Path, Path]]:
    """By case: its prediction in its fold's validation folder, and its reference."""
    labels = {case.id: case.label for case in cases}
    pairs = {}
    for case in result.summary.metric_per_case:
        label = labels.get(case.case)
        if label is None:
            raise UserError("is in the cross-validation, but not in the raw dataset; restore its label", case=case.case)
        pairs[case.case] = (_validation(folder, case.fold) / Path(case.prediction_file).name, label)
    return pairs
