"""The validated cases of a cross-validation on the page of a model: their row in the table, and their pictures."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import lru_cache, partial
from pathlib import Path

from unetrpp.core.errors import UserError
from unetrpp.dataset.cases import Case
from unetrpp.evaluation.summary import CaseScores, Summary
from unetrpp.inference.guards import check_sizes
from unetrpp.inference.predictor import Predictor
from unetrpp.inference.record import CaseRecord, earlier_runs
from unetrpp.io.geometry import voxel_volume_mm3
from unetrpp.model.folder import ModelFolder
from unetrpp.report.case_images import CaseImages, read_case_images
from unetrpp.report.case_maps import case_maps
from unetrpp.report.case_table import (
    MOST_CLASSES,
    CaseTable,
    CaseVolumes,
    Cell,
    Column,
    class_names,
    score_column,
    volume_columns,
    warnings_column,
    word_column,
)
from unetrpp.report.score_tables import lowest_class, mean_dice, ranked_cases
from unetrpp.report.viewer import MOST_PICTURES, Load, Pictures, Viewer, embed_cases

LOG = logging.getLogger(__name__)
NO_IMAGE = "the workspace does not hold its image and its reference"
NO_PREDICTION = "its prediction is no longer in the validation folder of its fold"


def case_viewer(
    model: ModelFolder, summary: Summary | None, cases: Sequence[Case], *, maps_on: str | None = None
) -> Viewer:
    """The table and the pictures of all validated cases; nothing where there are no scores.

    Args:
        cases: of the raw dataset, with the images and references of the pictures.
        maps_on: the device on which maps of uncertainty and gates are computed; None: without these maps.
    """
    labels, channels = model.plans.labels, model.plans.channel_names
    if summary is None:
        return Viewer(labels, channels, CaseTable((), ()), Pictures())
    ranked = ranked_cases(summary)
    records = _records(model)
    volumes = {case: CaseVolumes.of(record) for case, record in records.items()}
    warnings = {case: _warnings(model, record) for case, record in records.items()}
    raw = {case.id: case for case in cases}
    absent = {scored.case: why for scored in ranked if (why := _absent(model, scored, raw.get(scored.case)))}
    shown = spread([scored for scored in ranked if scored.case not in absent])
    return Viewer(
        labels=labels,
        channels=channels,
        table=CaseTable([case.case for case in ranked], validation_columns(summary, volumes, warnings)),
        pictures=embed_cases(_sources(model, shown, raw, maps_on), labels, channels, absent=absent),
        volumes=volumes,
        warnings=warnings,
    )


def validation_columns(
    summary: Summary, volumes: Mapping[str, CaseVolumes], warnings: Mapping[str, Sequence[str]]
) -> list[Column]:
    """The columns of the table, from the left; the first one, the case, is not among them."""
    cases = summary.metric_per_case
    columns = [Column("fold", {case.case: Cell(str(case.fold), case.fold) for case in cases})]
    if len(summary.classes) > 1:
        columns.append(score_column("mean Dice", {case.case: mean_dice(case) for case in cases}))
    if len(summary.classes) <= MOST_CLASSES:
        for key, name in summary.classes.items():
            columns.append(score_column(f"Dice {name}", {case.case: case.metrics[key]["Dice"] for case in cases}))
    else:
        lowest = {case.case: found for case in cases if (found := lowest_class(summary, case)) is not None}
        columns.append(word_column("lowest class", {case: name for case, (name, _) in lowest.items()}))
        columns.append(score_column("Dice of this class", {case: dice for case, (_, dice) in lowest.items()}))
    return [*columns, *volume_columns(volumes, class_names(volumes)), warnings_column(warnings)]


def spread(ranked: Sequence[CaseScores]) -> list[CaseScores]:
    """The cases in the order in which they get a picture: all where there are at most 40, else 20 from the lowest mean
    Dice on, 20 spread evenly over the others, and then the rest."""
    if len(ranked) <= MOST_PICTURES:
        return list(ranked)
    half = MOST_PICTURES // 2
    others = ranked[half:]
    chosen = {round(i * (len(others) - 1) / (half - 1)) for i in range(half)}
    first = [case for i, case in enumerate(others) if i in chosen]
    return [*ranked[:half], *first, *(case for i, case in enumerate(others) if i not in chosen)]


def _records(model: ModelFolder) -> dict[str, CaseRecord]:
    """What the validation of every fold recorded of its predictions."""
    found: dict[str, CaseRecord] = {}
    for fold in model.folds():
        try:
            for run in earlier_runs(model.path / f"fold_{fold}" / "validation").values():
                found |= run.cases
        except UserError as error:
            LOG.warning("left out of the page: %s", error)
    return found


def _warnings(model: ModelFolder, record: CaseRecord) -> list[str]:
    """Those recorded, or, as a validation records none, those about the sizes of the classes."""
    voxel_ml = voxel_volume_mm3(record.geometry.spacing_zyx_mm) / 1000
    voxels = {name: round(volume / voxel_ml) for name, volume in record.volumes_ml.items()}
    about = check_sizes(voxels, record.geometry, model.plans.labels, model.fingerprint) if voxels else []
    return [*record.warnings, *(notice.text for notice in about if notice.text not in record.warnings)]


def _absent(model: ModelFolder, scored: CaseScores, case: Case | None) -> str:
    """Why a case cannot have a picture; nothing where its files are there."""
    if case is None or case.label is None:
        return NO_IMAGE
    return "" if _prediction(model, scored).is_file() else NO_PREDICTION


def _prediction(model: ModelFolder, scored: CaseScores) -> Path:
    return model.path / f"fold_{scored.fold}" / "validation" / f"{scored.case}{model.plans.file_ending}"


def _sources(
    model: ModelFolder, shown: Sequence[CaseScores], raw: Mapping[str, Case], maps_on: str | None
) -> dict[str, Load]:
    """How the images of every case are read; fold by fold where networks have to be loaded."""

    @lru_cache(maxsize=1)
    def predictor(fold: str) -> Predictor:
        return Predictor(model.path, folds=[fold], device=maps_on or "auto", mirroring=False)

    def load(scored: CaseScores) -> CaseImages:
        case = raw[scored.case]
        images = read_case_images(case.images, _prediction(model, scored), case.label)
        if maps_on is None:
            return images
        return replace(images, maps=case_maps(predictor(str(scored.fold)), images.image, scored.case))

    first, rest = shown[:MOST_PICTURES], shown[MOST_PICTURES:]
    if maps_on is not None:
        first = sorted(first, key=lambda scored: scored.fold or 0)
    return {scored.case: partial(load, scored) for scored in (*first, *rest)}
