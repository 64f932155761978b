"""The report of a trained model: what it is, its scores, its worst and best cases, and the reasons for its plans."""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from unetrpp import __version__
from unetrpp.core.errors import UserError
from unetrpp.core.files import read_json_lines, write_bytes
from unetrpp.core.text import counted, format_score, listed
from unetrpp.dataset.cases import Case
from unetrpp.dataset.labels import LabelScheme
from unetrpp.evaluation.calibration_table import calibration_rows
from unetrpp.evaluation.cross_validation import CrossValidation, pool_folds
from unetrpp.evaluation.metrics import scored_classes
from unetrpp.evaluation.summary import Summary
from unetrpp.inference.calibration import Calibration, read_calibration
from unetrpp.model.folder import ModelFolder
from unetrpp.plotting.charts import Distribution, draw_distributions, draw_heat
from unetrpp.report.curves import draw_folds
from unetrpp.report.decisions import decision_cards
from unetrpp.report.page import Rows, render_page, require_page
from unetrpp.report.reliability import draw_reliability
from unetrpp.report.score_tables import class_scores, fold_scores, ranked_cases
from unetrpp.report.shown_cases import raw_cases, shown_cases
from unetrpp.report.validated_cases import case_viewer

LOG = logging.getLogger(__name__)
ALL = "all"  # the fold that is trained on every case
MOST_NAMED = 15  # classes that the table of facts names
FEWEST_CASES = 5  # in the picture of every case and class


def write_report(
    model: Path | str,
    *,
    output: Path | str | None = None,
    workspace: Path | str | None = None,
    maps: bool = False,
    device: str = "auto",
) -> Path:
    """Write the cross-validation and the plans of a model as one HTML page, as `unetrpp_report` does.

    Args:
        model: a model folder with at least one validated fold, or with the trained fold "all", which has no scores.
        output: by default report.html in the model folder.
        workspace: where the raw images of the pictures are; by default $UNETRPP_WORKSPACE, else ./unetrpp_workspace.
        maps: also show where every shown case is uncertain, and its gates: the fold that held it out predicts it again, once.
        device: of these maps: auto, cpu, cuda, cuda:1 or mps.

    Returns:
        The page's path.

    Raises:
        UserError: no model folder, no fold is validated and the fold "all" is not trained, or ``output`` is a file that is
            not a page; maps are asked for and no fold is validated, or one has no final checkpoint.
    """
    if device != "auto" and not maps:
        raise UserError("--device is where --maps predicts, so it has no effect without it; add --maps or leave it out")
    opened = ModelFolder.open(Path(model))
    path = opened.path / "report.html" if output is None else Path(output)
    require_page(path)
    result = _cross_validation(opened)
    cases = raw_cases(opened, None if workspace is None else Path(workspace)) if result else ()
    if maps:
        _require_networks(opened, result)
    write_bytes(path, model_page(opened, result, cases, maps_on=device if maps else None).encode())
    return path


def _require_networks(model: ModelFolder, result: CrossValidation | None) -> None:
    """
    Raises:
        UserError: there is no validated case to predict again, or a fold's final checkpoint is gone.
    """
    if result is None:
        raise UserError("--maps predicts validated cases again, and this model has none; leave it out")
    model.choose_folds([fold.fold for fold in result.folds])


def _cross_validation(model: ModelFolder) -> CrossValidation | None:
    """The scores of all validated folds; None where there is only the fold "all", which has no case to validate on."""
    if model.folds() == [ALL] and model.checkpoint(ALL).is_file():
        return None
    return pool_folds(model.path, model.plans.labels)


def _calibration(model: ModelFolder) -> Calibration | None:
    """The calibration of the model; None where there is none, or with a warning where it is out of date."""
    try:
        return read_calibration(model)
    except UserError as error:
        LOG.warning("left out of the page: %s", error)
        return None


def model_page(
    model: ModelFolder, result: CrossValidation | None, cases: Sequence[Case], *, maps_on: str | None = None
) -> str:
    """The page. ``cases`` of the raw dataset hold the images of the pictures; a case without one gets no picture.

    ``maps_on`` is the device on which maps are computed, where they are asked for.
    """
    plans, summary = model.plans, result.summary if result else None
    calibration = _calibration(model)
    epochs = {fold: read_json_lines(model.path / f"fold_{fold}" / "metrics.jsonl") for fold in model.folds()}
    trained = {fold: lines for fold, lines in epochs.items() if lines}
    return render_page(
        "model.html",
        title=f"{model.dataset}: {model.path.resolve().name}",
        tiles=_tiles(model, result),
        coverage=_coverage(model, result),
        facts=_facts(model),
        folds=fold_scores(result) if result else [],
        classes=class_scores(summary) if summary else [],
        spread=draw_spread(summary) if summary else None,
        heat=draw_cases(summary) if summary else None,
        all_cases=_all_cases(summary) if summary else "",
        viewer=case_viewer(model, summary, cases, maps_on=maps_on),
        cases=list(shown_cases(model, summary, {case.id: case for case in cases})) if summary else [],
        calibration=calibration_rows(calibration) if calibration else [],
        reliability=draw_reliability(calibration) if calibration else None,
        training=_training(trained),
        curves=draw_folds(trained) if trained else None,
        curves_by_fold=_curves(model),
        decisions=decision_cards([*plans.decisions, *model.configuration.decisions]),
        warnings=plans.warnings,
    )


def _kind(labels: LabelScheme) -> str:
    """What is segmented and scored."""
    return "regions" if labels.overlapping else "classes"


def _tiles(model: ModelFolder, result: CrossValidation | None) -> list[tuple[str, str]]:
    """The key figures at the top of the page."""
    labels = model.plans.labels
    tiles = [
        (_kind(labels), str(len(scored_classes(labels)))),
        ("cases of the dataset", str(len(model.fingerprint.cases))),
    ]
    if result is not None:
        summary = result.summary
        interval = summary.intervals.get("foreground", {}).get("Dice")
        tiles = [
            ("mean Dice", format_score(summary.foreground_mean["Dice"])),
            *([("95% CI", f"{interval[0]:.3f}–{interval[1]:.3f}")] if interval else []),
            ("validated cases", f"{len(summary.metric_per_case)} of {len(model.fingerprint.cases)}"),
            *tiles[:1],
        ]
    return [*tiles, ("configuration", model.configuration_name), ("network", model.configuration.architecture.network)]


def _coverage(model: ModelFolder, result: CrossValidation | None) -> str:
    """Which cases the scores are of, and what could be done where there are none or few."""
    known = len(model.fingerprint.cases)
    if result is None:
        other = (
            "A dataset of one case allows no cross-validation."
            if known == 1
            else "Train the numbered folds for a cross-validation."
        )
        return (
            f"The fold {ALL!r} was trained on every case, so no case is left to score it on. Predict other labelled images "
            f"and score them with unetrpp_evaluate. {other}"
        )
    validated = len(result.summary.metric_per_case)
    how = "predicted once, with the final checkpoint of a fold that did not train on it"
    if validated >= known:
        return f"Every case was {how}."
    folds = ", ".join(str(fold.fold) for fold in result.folds)
    which = f"fold{'s' if len(result.folds) > 1 else ''} {folds}"
    return f"{validated} of {counted(known, 'case')} so far ({which}): each was {how}. The other cases have not been scored."


def _facts(model: ModelFolder) -> Rows:
    plans, configuration = model.plans, model.configuration
    spacing = [f"{mm:.4g}" for mm in configuration.preprocessing.spacing_mm if mm is not None]
    axes = "y, x" if len(spacing) == 2 else "plan order"
    options = ", ".join(f"{key} {value}" for key, value in plans.options.items())
    names = [scored.name for scored in scored_classes(plans.labels)]
    planner = f"{plans.name}, by the planner {plans.planner}" + (f"; options: {options}" if options else "")
    unchanged = model.fingerprint.in_pixels and set(spacing) == {"1"}
    grid = "as they are" if unchanged else f"{' x '.join(spacing)} {model.fingerprint.length_unit} ({axes})"
    return [
        ["what", "value"],
        ["dataset", f"{model.dataset} ({model.description.title})" if model.description.title else model.dataset],
        ["channels", ", ".join(plans.channel_names)],
        [_kind(plans.labels), listed(names, MOST_NAMED)],
        ["plans", planner],
        [
            "patch",
            f"{' x '.join(map(str, configuration.patch))} {'pixels' if len(configuration.patch) == 2 else 'voxels'}",
        ],
        [model.fingerprint.voxel_name if unchanged else "resampled to", grid],
        ["patches per batch", str(configuration.batch_size)],
        ["folds", ", ".join(model.folds())],
        ["report written by", f"unetrpp {__version__}"],
    ]


def draw_spread(summary: Summary) -> Figure:
    """One row per class with every case as a dot in the colour of its fold, and quartiles and median."""
    rows = []
    for key, name in summary.classes.items():
        scored = [
            (dice, case.fold or 0)
            for case in summary.metric_per_case
            if (dice := case.metrics[key]["Dice"]) is not None
        ]
        rows.append(Distribution(name, [dice for dice, _ in scored], [fold for _, fold in scored]))
    least = min((value for row in rows for value in row.values), default=0.0)
    return draw_distributions(rows, label="Dice", limits=(0.5 if least > 0.5 else 0.0, 1.0))


def draw_cases(summary: Summary) -> Figure | None:
    """Dice of every class (rows) in every case (columns, from the lowest mean on); None for few cases or one class."""
    if len(summary.classes) < 2 or len(summary.metric_per_case) < FEWEST_CASES:
        return None
    ranked = ranked_cases(summary)
    values = [[_or_nan(case.metrics[key]["Dice"]) for case in ranked] for key in summary.classes]
    below = f"{len(ranked)} cases, from the lowest mean Dice to the highest"
    return draw_heat(np.array(values), list(summary.classes.values()), label="Dice (grey: undefined)", below=below)


def _or_nan(value: float | None) -> float:
    return float("nan") if value is None else value


def _all_cases(summary: Summary) -> str:
    """The heading of the table of cases."""
    count = len(summary.metric_per_case)
    return f"All {count} cases" if count > 1 else "The one case"


def _training(folds: Mapping[str, Sequence[Mapping[str, float | None]]]) -> Rows:
    rows = [["fold", "epochs", "loss", "loss on validation patches", "Dice on validation patches", "hours"]]
    for fold, epochs in folds.items():
        last, hours = epochs[-1], sum(epoch["seconds"] or 0 for epoch in epochs) / 3600
        losses = [format_score(last["train_loss"]), format_score(last.get("validation_loss"))]
        rows.append([fold, f"{last['epoch']}", *losses, format_score(last.get("mean_dice")), f"{hours:.2f}"])
    return rows if len(rows) > 1 else []


def _curves(model: ModelFolder) -> dict[str, bytes]:
    """By fold: the picture of its learning curves with every class, where there is one."""
    pictures = {fold: model.path / f"fold_{fold}" / "progress.png" for fold in model.folds()}
    return {fold: path.read_bytes() for fold, path in pictures.items() if path.is_file()}
