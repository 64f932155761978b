"""The cross-validation of a model folder: the scores of every case by the fold that did not train on it."""

import re
from collections import Counter
from pathlib import Path

import msgspec

from unetrpp.core.errors import UserError
from unetrpp.core.files import Record, read_json, write_bytes, write_json
from unetrpp.core.text import format_score, text_table
from unetrpp.dataset.labels import LabelScheme
from unetrpp.evaluation.metrics import Scores
from unetrpp.evaluation.summary import Summary, as_csv, as_table, mean_scores, summarize
from unetrpp.model.folder import ModelFolder

FILE = "crossval_summary.json"


class FoldScores(Record, frozen=True, kw_only=True):
    fold: int
    cases: int
    mean: dict[str, Scores]
    foreground_mean: Scores


class CrossValidation(Record, frozen=True, kw_only=True):
    """``summary`` pools the cases of all folds; ``folds`` holds the means of each."""

    format: int = 1
    folds: tuple[FoldScores, ...]
    mean_over_folds: Scores
    summary: Summary


def evaluate_model(model: Path | str) -> CrossValidation:
    """Gather the validation of all folds of a model folder, and write crossval_summary.json and .csv into it.

    This is what `unetrpp_evaluate --model` does.

    Raises:
        UserError: no model folder, or as :func:`pool_folds`.
    """
    opened = ModelFolder.open(Path(model))
    result = pool_folds(opened.path, opened.plans.labels)
    write_cross_validation(opened.path, result)
    return result


def pool_folds(model_folder: Path, scheme: LabelScheme) -> CrossValidation:
    """Gather ``fold_k/validation/summary.json`` of every validated fold.

    Raises:
        UserError: no fold was validated yet, or two folds validated the same case.
    """
    summaries = {fold: read_json(path, Summary) for fold, path in _validated_folds(model_folder).items()}
    if not summaries:
        raise UserError(f"{model_folder} has no validated fold; train one with unetrpp_train")
    folds = tuple(
        FoldScores(fold=fold, cases=len(s.metric_per_case), mean=s.mean, foreground_mean=s.foreground_mean)
        for fold, s in summaries.items()
    )
    cases = [msgspec.structs.replace(case, fold=fold) for fold, s in summaries.items() for case in s.metric_per_case]
    case, times = Counter(case.case for case in cases).most_common(1)[0]
    if times > 1:
        raise UserError("two folds validated this case; train all folds with the same splits.json", case=case)
    mean_over_folds = mean_scores([fold.foreground_mean for fold in folds])
    return CrossValidation(folds=folds, mean_over_folds=mean_over_folds, summary=summarize(cases, scheme))


def _validated_folds(model_folder: Path) -> dict[int, Path]:
    """Fold number -> summary.json. ``fold_all`` was trained on every case and has no validation."""
    found = {}
    for folder in model_folder.glob("fold_*"):
        number = re.fullmatch(r"fold_(\d+)", folder.name)
        summary = folder / "validation" / "summary.json"
        if number and summary.is_file():
            found[int(number[1])] = summary
    return dict(sorted(found.items()))


def write_cross_validation(model_folder: Path, result: CrossValidation) -> None:
    """``crossval_summary.json`` and ``.csv`` (one line per case and class) in the model folder."""
    write_bytes((model_folder / FILE).with_suffix(".csv"), as_csv(result.summary).encode())
    write_json(model_folder / FILE, result)


def fold_table(result: CrossValidation) -> str:
    """One line per fold with the mean of every class, then the means over folds and over cases."""
    return text_table(fold_rows(result)) + "\n\nall cases together:\n" + as_table(result.summary)


def fold_rows(result: CrossValidation, metric: str = "Dice") -> list[list[str]]:
    """A header, one row per fold, and the means over folds."""
    classes = result.summary.classes
    rows = [["fold", "cases", *classes.values(), f"mean {metric}"]]
    for fold in result.folds:
        values = [fold.mean[key].get(metric) for key in classes]
        rows.append([str(fold.fold), str(fold.cases), *map(format_score, [*values, fold.foreground_mean.get(metric)])])
    over_folds = [mean_scores([fold.mean[key] for fold in result.folds]).get(metric) for key in classes]
    return [*rows, ["mean", "", *map(format_score, [*over_folds, result.mean_over_folds.get(metric)])]]
