"""The cases of a model report that are shown as pictures: the lowest, the middle and the highest one."""

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from matplotlib.figure import Figure

from unetrpp.core.errors import UserError
from unetrpp.dataset.cases import Case, read_dataset, with_references
from unetrpp.evaluation.summary import CaseScores, Summary
from unetrpp.model.folder import ModelFolder
from unetrpp.plotting.overlays import draw_overlay
from unetrpp.report.case_images import read_case_images
from unetrpp.report.page import Rows
from unetrpp.report.score_tables import dice_rows, dice_sentence, mean_dice, ranked_cases

LOG = logging.getLogger(__name__)
LOWEST = 3  # cases that are shown beside the middle and the highest one


@dataclass(frozen=True)
class ShownCase:
    """A case with its picture on the page; ``classes`` is a table where there are too many for a sentence."""

    heading: str
    fold: int | None
    dice: str
    classes: Rows
    picture: Figure


def raw_cases(model: ModelFolder, workspace: Path | None) -> Sequence[Case]:
    """The cases of the model's raw dataset, with the labels that folds are validated against, which --fix may have repaired.

    None, with a warning, where no workspace holds it.
    """
    try:
        home = model.workspace(workspace)
        name, folder = home.find_raw(model.dataset)
        return with_references(read_dataset(folder, name), home.preprocessed(name) / "labels").cases
    except UserError as error:
        LOG.warning("the report has no pictures of cases: %s", error)
        return ()


def typical_cases(summary: Summary) -> list[tuple[str, CaseScores]]:
    """The lowest three cases by mean Dice, the middle and the highest one, each with its place; without repetition."""
    ranked = [case for case in ranked_cases(summary) if mean_dice(case) is not None]
    if len(ranked) == 1:
        return [("the only case", ranked[0])]
    places = dict.fromkeys(range(min(LOWEST, len(ranked))), "among the lowest")
    if ranked:
        places.setdefault(len(ranked) // 2, "in the middle")
        places.setdefault(len(ranked) - 1, "the highest")
    return [(name, ranked[i]) for i, name in sorted(places.items())]


def shown_cases(model: ModelFolder, summary: Summary, cases: Mapping[str, Case]) -> Iterator[ShownCase]:
    """The typical cases whose image, label and prediction are available; ``cases`` are the raw ones by id."""
    for place, scores in typical_cases(summary):
        case = cases.get(scores.case)
        prediction = model.path / f"fold_{scores.fold}" / "validation" / f"{scores.case}{model.plans.file_ending}"
        if case is None or case.label is None or not prediction.is_file():
            LOG.info("%s has no picture, because its image or its prediction is missing", scores.case)
            continue
        try:
            picture = _overlay(model, case, case.label, prediction)
        except UserError as error:
            LOG.warning("%s has no picture: %s", scores.case, error)
            continue
        dice, classes = dice_sentence(summary, scores.metrics), dice_rows(summary, scores.metrics)
        yield ShownCase(f"{scores.case}, {place}", scores.fold, dice, classes, picture)


def _overlay(model: ModelFolder, case: Case, label: Path, prediction: Path) -> Figure:
    labels = model.plans.labels
    names = {labels.values[k]: labels.names[k] for k in labels.foreground}
    read = read_case_images(case.images, prediction, label)
    return draw_overlay(read.image, read.prediction, read.reference, names=names)
