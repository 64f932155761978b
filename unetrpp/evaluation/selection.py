"""Which model, pair of models and post-processing to predict with: compared on the same cross-validation cases."""

import itertools
import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from unetrpp.core.errors import UserError
from unetrpp.core.files import Record, write_json
from unetrpp.core.text import text_table
from unetrpp.dataset.cases import Case, RawDataset
from unetrpp.evaluation.cross_validation import CrossValidation, cross_validate, write_cross_validation
from unetrpp.evaluation.evaluate import evaluate_pairs
from unetrpp.evaluation.metrics import Scores
from unetrpp.evaluation.postprocessing_choice import choose_components
from unetrpp.evaluation.summary import write_summary
from unetrpp.inference.ensemble import Ensemble
from unetrpp.inference.folder import predict_folder
from unetrpp.inference.postprocessing import PostProcessing
from unetrpp.inference.predictor import Predictor
from unetrpp.inference.record import Settings, earlier_runs
from unetrpp.inference.stream import Request
from unetrpp.model.folder import ModelFolder

LOG = logging.getLogger(__name__)
FILE = "inference.json"
PAIRS = "ensembles"  # folder of the pairs' validation predictions, beside the model folders


class Candidate(Record, frozen=True, kw_only=True):
    """One model or a pair of them; ``members`` are names of model folders."""

    members: tuple[str, ...]
    cases: int
    foreground_mean: Scores
    mean: dict[str, Scores]

    @property
    def name(self) -> str:
        return " + ".join(self.members)

    @property
    def dice(self) -> float:
        return self.foreground_mean.get("Dice") or 0.0


class Selection(Record, frozen=True, kw_only=True):
    """inference.json: what `unetrpp_predict --best` follows, and why."""

    format: int = 1
    dataset: str
    members: tuple[str, ...]
    mirroring: bool  # of the cross-validation, so of everything below
    postprocessing: PostProcessing
    why: tuple[str, ...]
    candidates: tuple[Candidate, ...]  # best first
    dice_before_postprocessing: dict[str, float | None]
    dice_after_postprocessing: dict[str, float | None]


def find_best(results: Path, dataset: RawDataset, *, pairs: bool = True, device: str = "auto") -> Selection:
    """Compare the fully validated model folders of ``results`` and their pairs, choose, and write inference.json.

    Raises:
        UserError: no model is validated on all of its folds, or models were validated on different cases, or some with
            mirroring and some without.
    """
    models = validated_models(results)
    mirroring = common_mirroring(models)
    folders: dict[tuple[str, ...], Path] = {(model.path.name,): model.path for model in models}
    if pairs:
        for first, second in itertools.combinations(models, 2):
            folders[first.path.name, second.path.name] = validate_pair(
                results, first, second, dataset, device, mirroring
            )
    scores = {members: cross_validate(folder, models[0].plans.labels) for members, folder in folders.items()}
    _require_same_cases(scores)
    ranked = rank(scores)
    best = ranked[0]
    if best.cases < len(dataset.cases):
        LOG.warning(
            "warning: the scores are of %d of %d training cases; train the other folds to compare on all",
            best.cases,
            len(dataset.cases),
        )
    files = _validation_pairs(folders[best.members], scores[best.members], dataset)
    postprocessing, before, after = choose_components(files, models[0].plans.labels)
    selection = Selection(
        dataset=models[0].plans.dataset,
        members=best.members,
        mirroring=mirroring,
        postprocessing=postprocessing,
        why=_reasons(ranked, postprocessing),
        candidates=tuple(ranked),
        dice_before_postprocessing=before,
        dice_after_postprocessing=after,
    )
    write_json(results / FILE, selection)
    return selection


def with_references(dataset: RawDataset, folder: Path) -> RawDataset:
    """Its labels as folds were validated against, where ``folder`` has copies: --fix may have repaired them."""
    ending = dataset.description.file_ending

    def with_copy(case: Case) -> Case:
        copy = folder / f"{case.id}{ending}"
        return replace(case, label=copy) if copy.is_file() else case

    return replace(dataset, cases=tuple(map(with_copy, dataset.cases)))


def validated_models(results: Path) -> list[ModelFolder]:
    """Model folders whose every trained cross-validation fold has a summary."""
    folders = sorted(p.parent for p in results.glob("*/plans.json"))
    whole = [model for model in map(ModelFolder.open, folders) if _is_validated(model)]
    if not whole:
        raise UserError(f"{results} has no model whose folds are all validated; train one with unetrpp_train")
    for model in folders:
        if model not in [m.path for m in whole]:
            LOG.warning("%s is left out: not all of its folds are validated", model.name)
    return whole


def _is_validated(model: ModelFolder) -> bool:
    folds = [fold for fold in model.folds() if fold != "all"]
    return bool(folds) and all(
        (model.path / f"fold_{fold}" / "validation" / "summary.json").is_file() for fold in folds
    )


def common_mirroring(models: Sequence[ModelFolder]) -> bool:
    """Whether all models were validated with mirroring, or all without, as the folds' predictions.json say.

    Raises:
        UserError: they differ among each other, or one does not say.
    """
    found: dict[bool, Path] = {}
    for model in models:
        for fold in (fold for fold in model.folds() if fold != "all"):
            folder = model.path / f"fold_{fold}" / "validation"
            runs = earlier_runs(folder).values()
            if not runs:
                raise UserError(f"{folder} has no predictions.json; run unetrpp_train again to validate anew")
            found |= {run.settings.mirroring: folder for run in runs}
    if len(found) > 1:
        raise UserError(
            f"{found[True]} was predicted with mirroring and {found[False]} without, so they cannot be compared; "
            "run unetrpp_train again for one of them, with or without --no-mirroring"
        )
    return next(iter(found))


def rank(scores: dict[tuple[str, ...], CrossValidation]) -> list[Candidate]:
    """By mean Dice over all cases; of equal ones the fewer models first."""
    candidates = [
        Candidate(
            members=members,
            cases=len(result.summary.metric_per_case),
            foreground_mean=result.summary.foreground_mean,
            mean=result.summary.mean,
        )
        for members, result in scores.items()
    ]
    return sorted(candidates, key=lambda candidate: (-candidate.dice, len(candidate.members)))


def _require_same_cases(scores: dict[tuple[str, ...], CrossValidation]) -> None:
    cases = {members: {case.case for case in result.summary.metric_per_case} for members, result in scores.items()}
    first, *others = cases
    for other in others:
        differing = sorted(cases[first] ^ cases[other])
        if differing:
            raise UserError(
                f"{' + '.join(first)} and {' + '.join(other)} were validated on different cases ({differing[0]}); "
                "train both on one splits.json"
            )


def validate_pair(
    results: Path, first: ModelFolder, second: ModelFolder, dataset: RawDataset, device: str, mirroring: bool
) -> Path:
    """Predict every fold's validation cases with the pair's models of that fold, and score them. Resumes.

    What other checkpoints or the other mirroring had predicted is made anew.
    """
    folder = results / PAIRS / f"{first.path.name}+{second.path.name}"
    by_id = {case.id: case for case in dataset.cases}
    labels = first.plans.labels
    for fold in (fold for fold in first.folds() if fold != "all"):
        out = folder / f"fold_{fold}" / "validation"
        hashes = [model.digest([fold]) for model in (first, second)]
        current = all(_made_by(run.settings, hashes, mirroring) for run in earlier_runs(out).values())
        if current and (out / "summary.json").is_file():
            continue
        (out / "summary.json").unlink(missing_ok=True)
        validated = cross_validate(first.path, labels).summary.metric_per_case
        cases = [by_id[case.case] for case in validated if str(case.fold) == fold]
        members = [Predictor(model.path, [fold], device, mirroring) for model in (first, second)]
        LOG.info("%s + %s, fold %s: %d cases", first.path.name, second.path.name, fold, len(cases))
        images = {case.id: case.images for case in cases}
        failed = predict_folder(Ensemble(members), images, Request(out, overwrite=not current))
        if failed:
            case, message = next(iter(failed.items()))
            raise UserError(message, case=case)
        summary, errors = evaluate_pairs(_pairs(out, cases, first.plans.file_ending), labels)
        if errors:
            raise UserError(errors[0].message, case=errors[0].case)
        write_summary(out, summary)
    write_cross_validation(folder, cross_validate(folder, labels))
    return folder


def _made_by(settings: Settings, hashes: Sequence[str], mirroring: bool) -> bool:
    return settings.mirroring == mirroring and [member.model_hash for member in settings.members] == hashes


def _pairs(folder: Path, cases: Sequence[Case], ending: str) -> dict[str, tuple[Path, Path]]:
    return {case.id: (folder / f"{case.id}{ending}", case.label) for case in cases if case.label is not None}


def _validation_pairs(folder: Path, result: CrossValidation, dataset: RawDataset) -> dict[str, tuple[Path, Path]]:
    """Prediction (in its fold's validation folder) and reference of every case."""
    labels = {case.id: case.label for case in dataset.cases}
    pairs = {}
    for case in result.summary.metric_per_case:
        name, label = Path(case.prediction_file).name, labels.get(case.case)
        if label is None:
            raise UserError("is in the cross-validation, but not in the raw dataset; restore its label", case=case.case)
        pairs[case.case] = (folder / f"fold_{case.fold}" / "validation" / name, label)
    return pairs


def _reasons(ranked: Sequence[Candidate], postprocessing: PostProcessing) -> tuple[str, ...]:
    best, *others = ranked
    reasons = [f"{best.name}: mean Dice {best.dice:.4f} over {best.cases} cases"]
    if others:
        reasons.append(f"next best {others[0].name}: {others[0].dice:.4f}")
    groups = ", ".join("+".join(map(str, group)) for group in postprocessing.largest_component)
    reasons.append(
        f"largest component of labels {groups}: a class gains and none loses"
        if groups
        else "no post-processing: keeping the largest component helps no class without harming another"
    )
    return tuple(reasons)


def selection_table(selection: Selection) -> str:
    rows = [["candidate", "cases", "mean Dice"]]
    rows += [[c.name, str(c.cases), f"{c.dice:.4f}"] for c in selection.candidates]
    return text_table(rows) + "\n\n" + "\n".join(selection.why)
