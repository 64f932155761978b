"""The report of a trained model: what it is, its scores, its worst and best cases, and the reasons for its plans."""

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from unetrpp import __version__
from unetrpp.core.errors import UserError
from unetrpp.core.files import read_json_lines, write_bytes
from unetrpp.core.text import format_score
from unetrpp.core.workspace import Workspace
from unetrpp.dataset.cases import Case, read_dataset
from unetrpp.evaluation.cross_validation import CrossValidation, fold_rows, pool_folds
from unetrpp.evaluation.metrics import scored_classes
from unetrpp.evaluation.summary import CaseScores, Summary, as_rows
from unetrpp.io.images import read_image, read_label
from unetrpp.model.folder import ModelFolder
from unetrpp.plans.plans import Decision
from unetrpp.report.overlays import color, draw_overlay
from unetrpp.report.page import Rows, render_page, require_page

LOG = logging.getLogger(__name__)
LOWEST = 3  # cases that are shown beside the middle and the highest one
MOST_CLASSES = 40  # in the picture of all cases


@dataclass(frozen=True)
class ShownCase:
    """A case with its picture on the page."""

    heading: str
    fold: int | None
    dice: str
    picture: Figure


def write_report(model: Path | str, *, output: Path | str | None = None, workspace: Path | str | None = None) -> Path:
    """Write the cross-validation and the plans of a model as one HTML page, as `unetrpp_report` does.

    Args:
        model: a model folder with at least one validated fold.
        output: by default report.html in the model folder.
        workspace: where the raw images of the pictures are; by default $UNETRPP_WORKSPACE, else ./unetrpp_workspace.

    Returns:
        The page's path.

    Raises:
        UserError: no model folder, no fold is validated, or ``output`` is a file that is not a page.
    """
    opened = ModelFolder.open(Path(model))
    path = opened.path / "report.html" if output is None else Path(output)
    require_page(path)
    result = pool_folds(opened.path, opened.plans.labels)
    cases = raw_cases(opened.dataset, None if workspace is None else Path(workspace))
    write_bytes(path, model_page(opened, result, cases).encode())
    return path


def raw_cases(dataset: str, workspace: Path | None) -> Sequence[Case]:
    """The cases of the raw dataset; none, with a warning, where the workspace does not hold it."""
    try:
        name, folder = Workspace.find(workspace).find_raw(dataset)
        return read_dataset(folder, name).cases
    except UserError as error:
        LOG.warning("the report has no pictures of cases: %s", error)
        return ()


def model_page(model: ModelFolder, result: CrossValidation, cases: Sequence[Case]) -> str:
    """The page. ``cases`` of the raw dataset hold the images of the pictures; a case without one gets no picture."""
    plans = model.plans
    return render_page(
        "model.html",
        title=f"{model.dataset}: {model.path.resolve().name}",
        facts=_facts(model),
        folds=fold_rows(result),
        classes=as_rows(result.summary),
        most_classes=MOST_CLASSES,
        spread=draw_spread(result.summary),
        cases=list(_shown_cases(model, result.summary, {case.id: case for case in cases})),
        training=_training(model),
        curves=_curves(model),
        decisions=_decisions([*plans.decisions, *model.configuration.decisions]),
        warnings=[["warning"], *([text] for text in plans.warnings)] if plans.warnings else [],
    )


def _facts(model: ModelFolder) -> Rows:
    plans, configuration = model.plans, model.configuration
    spacing = ["unchanged" if s is None else f"{s:.4g}" for s in configuration.preprocessing.spacing_mm]
    options = ", ".join(f"{key} {value}" for key, value in plans.options.items())
    return [
        ["what", "value"],
        ["dataset", f"{model.dataset} ({model.description.title})" if model.description.title else model.dataset],
        ["channels", ", ".join(plans.channel_names)],
        ["labels", ", ".join(scored.name for scored in scored_classes(plans.labels))],
        ["plans", f"{plans.name}, by the planner {plans.planner}" + (f"; options: {options}" if options else "")],
        ["configuration", model.configuration_name],
        ["network", configuration.architecture.network],
        ["patch, voxels", " x ".join(map(str, configuration.patch))],
        ["spacing (z, y, x), mm", " x ".join(spacing)],
        ["patches per batch", str(configuration.batch_size)],
        ["folds", ", ".join(model.folds())],
        ["report by", f"unetrpp {__version__}"],
    ]


def mean_dice(case: CaseScores) -> float | None:
    """Mean Dice of a case over the classes where it is defined."""
    defined = [dice for scores in case.metrics.values() if (dice := scores["Dice"]) is not None]
    return sum(defined) / len(defined) if defined else None


def typical_cases(summary: Summary) -> list[tuple[str, CaseScores]]:
    """The lowest three cases by mean Dice, the middle and the highest one, each with its place; without repetition."""
    ranked = sorted(
        (case for case in summary.metric_per_case if mean_dice(case) is not None),
        key=lambda case: (mean_dice(case), case.case),
    )
    places = dict.fromkeys(range(min(LOWEST, len(ranked))), "among the lowest")
    if ranked:
        places.setdefault(len(ranked) // 2, "in the middle")
        places.setdefault(len(ranked) - 1, "the highest")
    return [(name, ranked[i]) for i, name in sorted(places.items())]


def draw_spread(summary: Summary) -> Figure:
    """One column per class with every case as a dot in the colour of its fold, and quartiles and median."""
    classes = dict(list(summary.classes.items())[:MOST_CLASSES])
    figure = Figure(figsize=(max(4.0, 1.5 + 1.1 * len(classes)), 4), layout="constrained")
    plot = figure.subplots()
    rng = np.random.default_rng(0)
    for place, key in enumerate(classes):
        scored = [
            (case.fold, dice) for case in summary.metric_per_case if (dice := case.metrics[key]["Dice"]) is not None
        ]
        values = np.array([dice for _, dice in scored])
        if not len(values):
            continue
        plot.boxplot(values, positions=[place], widths=0.6, showfliers=False, medianprops={"color": "black"})
        colours = [color(fold or 0) for fold, _ in scored]
        plot.scatter(place + rng.uniform(-0.2, 0.2, len(values)), values, s=9, c=colours, zorder=3)
    plot.set_xticks(range(len(classes)), list(classes.values()), rotation=30 if len(classes) > 4 else 0, ha="center")
    plot.set(ylabel="Dice", ylim=(0, 1))
    plot.grid(axis="y", alpha=0.3)
    return figure


def _shown_cases(model: ModelFolder, summary: Summary, cases: dict[str, Case]) -> Iterator[ShownCase]:
    """The typical cases whose image, label and prediction are available."""
    for place, scores in typical_cases(summary):
        case = cases.get(scores.case)
        prediction = model.path / f"fold_{scores.fold}" / "validation" / f"{scores.case}{model.plans.file_ending}"
        if case is None or case.label is None or not prediction.is_file():
            LOG.info("%s: no picture, as its image or its prediction is missing", scores.case)
            continue
        try:
            picture = _overlay(model, case, case.label, prediction)
        except UserError as error:
            LOG.warning("%s: no picture: %s", scores.case, error)
            continue
        dice = ", ".join(f"{summary.classes[key]} {format_score(s['Dice'])}" for key, s in scores.metrics.items())
        yield ShownCase(f"{scores.case}, {place}", scores.fold, dice, picture)


def _overlay(model: ModelFolder, case: Case, label: Path, prediction: Path) -> Figure:
    labels = model.plans.labels
    names = {labels.values[k]: labels.names[k] for k in labels.foreground}
    image, reference = read_image(case.images), read_label(label).array[0]
    return draw_overlay(image, read_label(prediction).array[0], reference, names=names, title=case.id)


def _training(model: ModelFolder) -> Rows:
    rows = [["fold", "epochs", "loss", "loss on validation patches", "Dice on validation patches", "hours"]]
    for fold in model.folds():
        epochs = read_json_lines(model.path / f"fold_{fold}" / "metrics.jsonl")
        if epochs:
            last, hours = epochs[-1], sum(epoch["seconds"] for epoch in epochs) / 3600
            losses = [f"{last['train_loss']:.3f}", f"{last['validation_loss']:.3f}"]
            rows.append([fold, str(last["epoch"]), *losses, format_score(last["mean_dice"]), f"{hours:.2f}"])
    return rows if len(rows) > 1 else []


def _curves(model: ModelFolder) -> dict[str, bytes]:
    """By fold: the picture of its learning curves, where there is one."""
    pictures = {fold: model.path / f"fold_{fold}" / "progress.png" for fold in model.folds()}
    return {fold: path.read_bytes() for fold, path in pictures.items() if path.is_file()}


def _decisions(decisions: Sequence[Decision]) -> Rows:
    return [["about", "value", "why"], *([d.about, d.value, d.why] for d in decisions)]
