"""The cross-validation of a model folder: the scores of every case by the fold that did not train on it."""

import logging
import re
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path

import msgspec
from msgspec import UNSET

from unetrpp.core.digest import Derived, digest
from unetrpp.core.errors import UserError
from unetrpp.core.files import Record, read_json, write_bytes, write_json
from unetrpp.core.text import counted, format_score, quoted, text_table
from unetrpp.core.workspace import Workspace
from unetrpp.dataset.labels import LabelScheme
from unetrpp.evaluation.current_scores import current_scores
from unetrpp.evaluation.metrics import MetricOptions, Scores, scored_classes
from unetrpp.evaluation.summary import CaseScores, Distances, Summary, as_csv, as_table, mean_scores, summarize
from unetrpp.model.folder import ModelFolder

LOG = logging.getLogger(__name__)
FILE = "crossval_summary.json"
MOST_COLUMNS = 10  # classes that the table of folds has a column for


class FoldScores(Record, frozen=True, kw_only=True):
    fold: int
    cases: int
    mean: dict[str, Scores]
    foreground_mean: Scores


class CrossValidation(Derived, frozen=True, kw_only=True):
    """``summary`` pools the cases of all folds; ``folds`` holds the means of each."""

    format: int = 1
    folds: tuple[FoldScores, ...]
    mean_over_folds: Scores
    summary: Summary


def evaluate_model(
    model: Path | str, *, distances: bool = False, tolerance: float | None = None, processes: int | None = None
) -> CrossValidation:
    """Gather the validation of all folds of a model folder, and write crossval_summary.json and .csv into it.

    This is what `unetrpp_evaluate --model` does.

    Args:
        distances: score the folds' predictions again where that was not done with HD95, normalised surface distance,
            volumes and lesions; otherwise each fold keeps the metrics that it has.
        tolerance: of the normalised surface distance, in mm (pixels of photographs); None: one voxel of each reference.
        processes: that score again; by default few.

    Raises:
        UserError: no model folder, or as :func:`pool_folds`; with ``distances`` also where a prediction or its reference is
            gone.
    """
    opened = ModelFolder.open(Path(model))
    options = MetricOptions(distances=distances, tolerance=tolerance)
    if distances:
        score_folds_again(opened, options, processes)
    elif processes is not None:
        raise UserError(
            "--processes are for scoring the folds again, which --model does with --distances only; leave it out"
        )
    result = pool_folds(opened.path, opened.plans.labels)
    write_cross_validation(opened.path, result)
    return result


def score_folds_again(model: ModelFolder, options: MetricOptions, processes: int | None = None) -> None:
    """Bring the scores of every validated fold to ``options``, from the predictions and references that they name.

    Raises:
        UserError: a prediction or a reference is gone; nothing is written.
    """
    scheme, pairs = model.plans.labels, {}
    for path in _validated_folds(model.path).values():
        recorded = read_fold(path, scheme)
        pairs[path.parent] = {case.case: _files_of(model, path.parent, case) for case in recorded.metric_per_case}
    for folder, files in pairs.items():
        current_scores(folder, files, scheme, options, processes=processes)


def _files_of(model: ModelFolder, folder: Path, case: CaseScores) -> tuple[Path, Path]:
    """The prediction of a case in ``folder`` and its reference, where it was scored or in the model's workspace."""
    prediction = folder / case.prediction_name
    reference = reference_of(model, case, "so the fold cannot be scored with --distances")
    if not prediction.exists():
        raise UserError(
            f"its prediction {prediction} is gone, so the fold cannot be scored with --distances; run unetrpp_train again",
            case=case.case,
        )
    return prediction, reference


def reference_of(model: ModelFolder, case: CaseScores, consequence: str) -> Path:
    """The reference of a validated case, where it was scored or in the model's workspace.

    Raises:
        UserError: it is in neither; the message has the ``consequence``.
    """
    recorded = Path(case.reference_file)
    home = Workspace.of_model(model.path).preprocessed(model.dataset) / "labels"
    reference = next((path for path in (recorded, home / case.reference_name) if path.exists()), None)
    if reference is None:
        raise UserError(
            f"its reference {recorded} is neither there nor in {home}, {consequence}; restore "
            "it, or give the command in the folder where the fold was scored",
            case=case.case,
        )
    return reference


def pool_folds(model_folder: Path, scheme: LabelScheme) -> CrossValidation:
    """Gather ``fold_k/validation/summary.json`` of every validated fold.

    A case that several folds hold out counts once, with the scores of the first of them. Metrics that some folds lack are
    left out. Both are said.

    Raises:
        UserError: no fold was validated yet, or a fold's summary.json cannot be read or scores other classes.
    """
    recorded = {fold: read_fold(path, scheme) for fold, path in _validated_folds(model_folder).items()}
    if not recorded:
        raise UserError(f"{model_folder} has no validated fold{_what_to_do(model_folder)}")
    summaries = _with_common_metrics(recorded, model_folder)
    folds = tuple(
        FoldScores(fold=fold, cases=len(s.metric_per_case), mean=s.mean, foreground_mean=s.foreground_mean)
        for fold, s in summaries.items()
    )
    cases: dict[str, CaseScores] = {}
    repeated: list[str] = []
    for fold, s in summaries.items():
        for case in s.metric_per_case:
            if case.case in cases:
                repeated.append(case.case)
            cases.setdefault(case.case, msgspec.structs.replace(case, fold=fold))
    if repeated:
        named = ", ".join(repeated[:3]) + (" ..." if len(repeated) > 3 else "")
        LOG.info(
            "%s: several folds hold out %s; only the score of the first of these folds counts", model_folder.name, named
        )
    return CrossValidation(
        made_from=digest([[fold, s.classes, s.metric_per_case] for fold, s in recorded.items()]),
        folds=folds,
        mean_over_folds=mean_scores([fold.foreground_mean for fold in folds]),
        summary=summarize(cases.values(), scheme, _common_distances(summaries.values())),
    )


def cross_validation_of(model_folder: Path, scheme: LabelScheme) -> CrossValidation | None:
    """The cross-validation of a model folder: pooled from its folds; of an imported model, as it was exported. None where
    there is neither."""
    if _validated_folds(model_folder):
        return pool_folds(model_folder, scheme)
    path = model_folder / FILE
    return read_json(path, CrossValidation) if path.is_file() else None


def _what_to_do(model_folder: Path) -> str:
    """The repair of a model folder without scores. A single case cannot be split into folds."""
    if not (model_folder / "fold_all").is_dir():
        return "; train one with unetrpp_train"
    return (
        ": fold_all was trained on every case, so none is left to score; predict other cases that have labels and score "
        "them (unetrpp_evaluate PREDICTIONS REFERENCES), or train a fold of the cross-validation, which takes a dataset "
        "of two cases or more"
    )


def read_fold(path: Path, scheme: LabelScheme) -> Summary:
    """The scores of one fold, of the classes of ``scheme``.

    Raises:
        UserError: the file cannot be read, or it has other classes.
    """
    again = "delete it and run unetrpp_train again, which scores the fold again"
    summary = read_json(path, Summary, hint=again)
    ours, theirs = {scored.key: scored.name for scored in scored_classes(scheme)}, summary.classes
    if ours != theirs:
        named = ", ".join(theirs.values()) or "none"
        raise UserError(f"{path} has the classes {named}, but the model has {', '.join(ours.values())}; {again}")
    return summary


def _with_common_metrics(summaries: Mapping[int, Summary], model: Path) -> dict[int, Summary]:
    """The summaries without the metrics that some of them lack, such as HD95 where only one fold was scored with --distances."""
    scored = [s for s in summaries.values() if s.metric_per_case]
    repair = f"score them alike with unetrpp_evaluate --model {quoted(model)} --distances"
    metrics = [set(s.foreground_mean) for s in scored]
    common = set.intersection(*metrics) if metrics else set()
    partial = sorted(set().union(*metrics) - common)
    if partial:
        LOG.warning(
            "%s: not every fold has %s, so the pooled scores leave them out; %s", model.name, ", ".join(partial), repair
        )
    headings = sorted({s.heading("NSD") for s in scored})
    if "NSD" in common and len(headings) > 1:
        differing = " and ".join(headings)
        LOG.warning("%s: the folds have %s, so the pooled scores leave NSD out; %s", model.name, differing, repair)
        common.remove("NSD")
    elif not partial:
        return dict(summaries)

    def kept(scores: Scores) -> Scores:
        return {metric: value for metric, value in scores.items() if metric in common}

    def by_class(scores: Mapping[str, Scores]) -> dict[str, Scores]:
        return {key: kept(values) for key, values in scores.items()}

    return {
        fold: msgspec.structs.replace(
            s,
            distances=s.distances if "HD95" in common else UNSET,
            foreground_mean=kept(s.foreground_mean),
            mean=by_class(s.mean),
            metric_per_case=tuple(
                msgspec.structs.replace(case, metrics=by_class(case.metrics)) for case in s.metric_per_case
            ),
        )
        for fold, s in summaries.items()
    }


def _common_distances(summaries: Iterable[Summary]) -> Distances | None:
    """How the folds measured distances, in one unit (with several tolerances, NSD is left out); None where they did not."""
    found = [s.distances for s in summaries if s.distances is not UNSET]
    return found[0] if found else None


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


def update_cross_validation(model_folder: Path, scheme: LabelScheme) -> CrossValidation | None:
    """Make the cross-validation of a model folder that of its validated folds, and return it; remove it where there are none.

    Other processes may finish or start folds of the model meanwhile: whoever writes last finds that out, and writes again.
    """
    path = model_folder / FILE
    while True:
        before, result = _states(model_folder), None
        try:
            if before:
                result = pool_folds(model_folder, scheme)
        except UserError:
            if _states(model_folder) == before:
                raise
            continue
        if result is None:
            for file in (path, path.with_suffix(".csv")):
                file.unlink(missing_ok=True)
        elif not _is_recorded(path, result):
            write_cross_validation(model_folder, result)
        if _states(model_folder) == before:
            return result


def _states(model_folder: Path) -> dict[int, tuple[int, int, int]]:
    """By validated fold, what changes when its scores are written anew."""
    found = {}
    for fold, path in _validated_folds(model_folder).items():
        with suppress(FileNotFoundError):
            state = path.stat()
            found[fold] = (state.st_ino, state.st_mtime_ns, state.st_size)
    return found


def _is_recorded(path: Path, result: CrossValidation) -> bool:
    """Whether the file holds ``result``. Release 0.1.0 did not record what it was made from, so there the scores are compared."""
    try:
        found = read_json(path, CrossValidation)
    except UserError:
        return False
    if found.made_from:
        return found.made_from == result.made_from
    return found.summary.metric_per_case == result.summary.metric_per_case


def fold_table(result: CrossValidation) -> str:
    """One line per fold with the mean of every class, then the means over folds and over cases.

    Of more than ``MOST_COLUMNS`` classes, a fold's line has their mean alone.
    """
    rows = fold_rows(result)
    if len(result.summary.classes) > MOST_COLUMNS:
        rows = [[*row[:2], row[-1]] for row in rows]
    return text_table(rows) + "\n\nall cases together:\n" + as_table(result.summary)


def fold_rows(result: CrossValidation, metric: str = "Dice") -> list[list[str]]:
    """A header, one row per fold, and the means over folds."""
    classes = result.summary.classes
    rows = [["fold", "cases", *classes.values()]]
    for fold in result.folds:
        values = [fold.mean[key].get(metric) for key in classes]
        rows.append([str(fold.fold), str(fold.cases), *map(format_score, values)])
    over_folds = [mean_scores([fold.mean[key] for fold in result.folds]).get(metric) for key in classes]
    rows.append(["mean", "", *map(format_score, over_folds)])
    last = [f"mean {metric}", *fold_mean_cells(result, metric)]
    return [[*row, cell] for row, cell in zip(rows, last, strict=True)]


def fold_mean_cells(result: CrossValidation, metric: str = "Dice") -> list[str]:
    """The mean over the classes of every fold, and their mean; said is where a fold has no score of some classes.

    Means over different classes do not compare: a fold without the hard class has a higher one.
    """
    classes, folds = len(result.summary.classes), result.folds
    defined = [sum(fold.mean[key].get(metric) is not None for key in result.summary.classes) for fold in folds]
    cells = [
        format_score(fold.foreground_mean.get(metric))
        + (f" ({n} of {classes} classes)" if n not in (0, classes) else "")
        for fold, n in zip(folds, defined, strict=True)
    ]
    complete, mean = defined.count(classes), format_score(result.mean_over_folds.get(metric))
    fewer = complete < len(folds) and any(defined)
    return [*cells, f"{mean} (all classes in {complete} of {counted(len(folds), 'fold')})" if fewer else mean]
