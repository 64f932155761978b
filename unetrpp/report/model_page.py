"""The report of a trained model as one page: what it is, how well it did, on which cases not, and why it was planned so."""

import logging
from collections.abc import Iterator, Sequence

import numpy as np
from matplotlib.figure import Figure

from unetrpp import __version__
from unetrpp.core.errors import UserError
from unetrpp.core.files import read_json_lines
from unetrpp.core.text import format_score
from unetrpp.dataset.cases import Case
from unetrpp.evaluation.cross_validation import CrossValidation, fold_rows
from unetrpp.evaluation.metrics import scored_classes
from unetrpp.evaluation.summary import CaseScores, Summary, as_rows
from unetrpp.io.images import read_image, read_label
from unetrpp.model.folder import ModelFolder
from unetrpp.plans.plans import Decision
from unetrpp.report.overlays import color, draw_overlay
from unetrpp.report.page import Rows, Section, page

LOG = logging.getLogger(__name__)
LOWEST = 3  # cases that are format_score beside the middle and the highest one
MOST_CLASSES = 40  # in the picture of all cases

FOLDS = "Every case was predicted once, by the fold that did not train on it, with the final checkpoint."
MEANS = (
    "Means over the cases where a score is defined. Undefined: the class is in neither mask; missed: in the reference "
    "alone; invented: in the prediction alone. The interval is bootstrapped over cases."
)
SPREAD = f"Dice of every case, and the median and quartiles of each class (of many the first {MOST_CLASSES})."
CURVES = "Dice and loss on patches of the validation cases, epoch by epoch."
RESEARCH = "For research use. Not a medical device."


def model_page(model: ModelFolder, result: CrossValidation, cases: Sequence[Case]) -> str:
    """The page. ``cases`` of the raw dataset give the images of the pictures; those that are missing have none."""
    plans, configuration = model.plans, model.configuration
    sections: list[Section] = [
        ("Model", RESEARCH, _facts(model)),
        ("Cross-validation", FOLDS, fold_rows(result)),
        ("All cases together", MEANS, as_rows(result.summary)),
        ("Case by case", SPREAD, draw_spread(result.summary)),
        *_shown_cases(model, result.summary, {case.id: case for case in cases}),
        ("Training", "Sums and last values of each fold's metrics.jsonl.", _training(model)),
        *_curves(model),
        ("Decisions", "What the plans decided, and why.", _decisions([*plans.decisions, *configuration.decisions])),
        ("Warnings", "Of the planner.", [["warning"], *([text] for text in plans.warnings)] if plans.warnings else []),
    ]
    return page(f"{plans.dataset}: {model.path.resolve().name}", sections)


def _facts(model: ModelFolder) -> Rows:
    plans, configuration = model.plans, model.configuration
    spacing = ["as it is" if s is None else f"{s:.4g}" for s in configuration.preprocessing.spacing_mm]
    asked = ", ".join(f"{key} {value}" for key, value in plans.options.items())
    return [
        ["what", "value"],
        ["dataset", plans.dataset],
        ["channels", ", ".join(plans.channel_names)],
        ["labels", ", ".join(scored.name for scored in scored_classes(plans.labels))],
        ["plans", f"{plans.name}, by the planner {plans.planner}" + (f"; asked for: {asked}" if asked else "")],
        ["configuration", model.configuration_name],
        ["network", configuration.architecture.network],
        ["patch, voxels", " x ".join(map(str, configuration.patch))],
        ["spacing (z, y, x), mm", " x ".join(spacing)],
        ["patches a batch", str(configuration.batch_size)],
        ["folds", ", ".join(model.folds())],
        ["report by", f"unetrpp {__version__}"],
    ]


def mean_dice(case: CaseScores) -> float | None:
    """Over the classes where it is defined."""
    defined = [dice for scores in case.metrics.values() if (dice := scores["Dice"]) is not None]
    return sum(defined) / len(defined) if defined else None


def telling_cases(summary: Summary) -> list[tuple[str, CaseScores]]:
    """The lowest three, the middle and the highest case by mean Dice, each with its heading; without repetition."""
    ranked = sorted(
        (case for case in summary.metric_per_case if mean_dice(case) is not None),
        key=lambda case: (mean_dice(case), case.case),
    )
    places = dict.fromkeys(range(min(LOWEST, len(ranked))), "among the lowest")
    if ranked:
        places |= {
            i: name
            for i, name in ((len(ranked) // 2, "in the middle"), (len(ranked) - 1, "the highest"))
            if i not in places
        }
    return [(name, ranked[i]) for i, name in sorted(places.items())]


def draw_spread(summary: Summary) -> Figure:
    """A column a class: every case a dot in the colour of its fold, over quartiles and median."""
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


def _shown_cases(model: ModelFolder, summary: Summary, cases: dict[str, Case]) -> Iterator[Section]:
    """A picture of each telling case whose image, label and prediction are there."""
    labels = model.plans.labels
    names = {labels.values[k]: labels.names[k] for k in labels.foreground}
    for place, scores in telling_cases(summary):
        dice = ", ".join(f"{summary.classes[key]} {format_score(s['Dice'])}" for key, s in scores.metrics.items())
        sentence = f"Fold {scores.fold}. Dice: {dice}. Solid: prediction, dashed: reference."
        prediction = model.path / f"fold_{scores.fold}" / "validation" / f"{scores.case}{model.plans.file_ending}"
        case = cases.get(scores.case)
        if case is None or case.label is None or not prediction.is_file():
            LOG.info("%s: no picture, as its image or its prediction is not here", scores.case)
            continue
        try:
            image, reference = read_image(case.images), read_label(case.label).array[0]
            figure = draw_overlay(image, read_label(prediction).array[0], reference, names, scores.case)
        except UserError as error:
            LOG.warning("%s: no picture: %s", scores.case, error)
            continue
        yield f"{scores.case}, {place}", sentence, figure


def _training(model: ModelFolder) -> Rows:
    rows = [["fold", "epochs", "loss", "loss on validation patches", "Dice on validation patches", "hours"]]
    for fold in model.folds():
        epochs = read_json_lines(model.path / f"fold_{fold}" / "metrics.jsonl")
        if epochs:
            last, hours = epochs[-1], sum(epoch["seconds"] for epoch in epochs) / 3600
            losses = [f"{last['train_loss']:.3f}", f"{last['validation_loss']:.3f}"]
            rows.append([fold, str(last["epoch"]), *losses, format_score(last["mean_dice"]), f"{hours:.2f}"])
    return rows if len(rows) > 1 else []


def _curves(model: ModelFolder) -> Iterator[Section]:
    for fold in model.folds():
        picture = model.path / f"fold_{fold}" / "progress.png"
        if picture.is_file():
            yield f"Fold {fold}", CURVES, picture.read_bytes()


def _decisions(decisions: Sequence[Decision]) -> Rows:
    return [["about", "value", "why"], *([d.about, d.value, d.why] for d in decisions)]
