"""The page of a folder of predictions: every case with its volumes and warnings, and a viewer of images and segmentations."""

import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import msgspec

from unetrpp.core.errors import UserError
from unetrpp.core.files import write_bytes
from unetrpp.core.text import counted, listed
from unetrpp.dataset.labels import LabelScheme
from unetrpp.inference.inputs import Cases, files_digest, find_cases, recordable_cases
from unetrpp.inference.predictor import Predictor
from unetrpp.inference.record import CaseRecord, Predictions, earlier_runs, review_order
from unetrpp.inference.segmentation import map_path
from unetrpp.io.formats import ending_of
from unetrpp.model.folder import Checkpoint, ModelFolder
from unetrpp.report.case_images import UNCERTAINTY, CaseImages, read_case_images
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
)
from unetrpp.report.page import Rows, render_page, require_page
from unetrpp.report.viewer import Viewer, embed_cases

LOG = logging.getLogger(__name__)
FILE = "report.html"
NO_IMAGE = "its image is not among those given to the command that wrote this page"


def write_prediction_report(
    output: Path | str,
    *,
    input: Path | str | Sequence[Path | str],
    model: Path | str | Sequence[Path | str],
    maps: bool = False,
    device: str = "auto",
) -> Path:
    """Write one HTML page about all predictions in a folder, as `unetrpp_predict --report` does when it is done.

    It lists the cases of all records in the folder, of every part, and holds pictures of up to 40 of them: those with the
    lowest expected Dice first, and of cases without one those with most warnings.

    Args:
        output: folder of a prediction.
        input: the images, as :func:`unetrpp.predict` took them; a case whose image is not among them has no picture.
        model: the model folder, or several.
        maps: also show the gates of every shown case, and its entropy where OUT has none: the first of the folds that were averaged
            predicts it again, once.
        device: of these maps: auto, cpu, cuda, cuda:1 or mps.

    Returns:
        The page's path, report.html in ``output``.

    Raises:
        UserError: there are no predictions in ``output``, ``input`` holds no images, or report.html is not a page.
            A single case that cannot be read raises nothing: it has no picture, and the page says why.
    """
    folder, page = Path(output), Path(output) / FILE
    require_page(page)
    runs = earlier_runs(folder)
    if not runs:
        raise UserError(f"{folder} has no predictions.json; give a folder that unetrpp_predict wrote")
    first = ModelFolder.open(_paths(model)[0])
    images, _ = recordable_cases(find_cases(_paths(input), first.description))
    write_bytes(page, prediction_page(folder, runs, images, first, maps_on=device if maps else None).encode())
    return page


def prediction_page(
    folder: Path, runs: Mapping[str, Predictions], images: Cases, model: ModelFolder, *, maps_on: str | None = None
) -> str:
    """The page about the ``runs`` recorded in a folder; ``images`` are the files of cases. ``model`` is the first one.

    ``maps_on`` is the device on which maps are computed, where they are asked for.
    """
    records = {
        case: record
        for run in runs.values()
        for case, record in run.cases.items()
        if (folder / record.output).is_file()
    }
    failed = {case: reason for run in runs.values() for case, reason in run.failed.items() if case not in records}
    expected = _with_expected_dice(records)
    order = review_order(expected, next((record.expected_by for record in expected.values()), ""))
    cases = [*order, *sorted(records.keys() - set(order))]
    ranked = [*order, *sorted(cases[len(order) :], key=lambda case: (-len(records[case].warnings), case))]
    labels = next((run.labels for run in runs.values() if run.labels is not None), model.plans.labels)
    volumes = {case: CaseVolumes.of(records[case]) for case in cases}
    # Of a choice of regions those, which may overlap; otherwise the labels.
    names = class_names(volumes) or [labels.names[i] for i in labels.foreground]
    warnings = {case: records[case].warnings for case in cases}
    predictor = None if maps_on is None else first_fold(model, runs, maps_on)
    viewer = Viewer(
        labels=labels,
        channels=model.plans.channel_names,
        table=CaseTable(
            cases, [*expected_columns(expected, order), *volume_columns(volumes, names), warnings_column(warnings)]
        ),
        pictures=embed_cases(
            {
                case: partial(_images, folder, case, records[case], images[case], predictor=predictor)
                for case in ranked
                if case in images
            },
            labels,
            model.plans.channel_names,
            absent={case: NO_IMAGE for case in cases if case not in images},
        ),
        volumes=volumes,
        warnings=warnings,
    )
    return render_page(
        "prediction.html",
        title=f"Predictions of {model.path.resolve().name} ({model.dataset})",
        lead=f"{counted(len(cases), 'case')} segmented in {folder.resolve().name}{_unfinished(runs)}.",
        tiles=_tiles(records, failed, labels),
        notices=_notices(runs),
        about_cases="A click on a heading sorts by it, a click on a case shows its slices.",
        viewer=viewer,
        failed=[["case", "reason"], *map(list, sorted(failed.items()))] if failed else [],
        facts=_facts(runs),
    )


def _with_expected_dice(records: Mapping[str, CaseRecord]) -> dict[str, CaseRecord]:
    """The cases whose expected Dice was computed in the same way, so that it can be compared; those of most cases."""
    by = Counter(record.expected_by for record in records.values() if record.mean_expected_dice is not None)
    chosen = max(by, key=lambda digest: by[digest], default="")
    return {case: record for case, record in records.items() if chosen and record.expected_by == chosen}


def expected_columns(records: Mapping[str, CaseRecord], order: Sequence[str]) -> list[Column]:
    """The place in the review order, the mean expected Dice, and up to five classes each with its 90 % interval."""
    if not order:
        return []
    columns = [
        Column("review", {case: Cell(str(i), i) for i, case in enumerate(order, start=1)}),
        score_column("expected Dice", {case: records[case].mean_expected_dice for case in order}),
    ]
    names = list(dict.fromkeys(name for record in records.values() for name in record.expected_dice))
    for name in names if len(names) <= MOST_CLASSES else ():
        found = {case: each for case in order if (each := records[case].expected_dice.get(name)) is not None}
        cells = {case: Cell(f"{e.expected:.2f} ({e.low:.2f} to {e.high:.2f})", e.expected) for case, e in found.items()}
        columns.append(Column(f"expected Dice {name}", cells))
    return columns


def first_fold(model: ModelFolder, runs: Mapping[str, Predictions], device: str) -> Predictor:
    """The first of the folds that were averaged, as the last record says, without mirroring."""
    member = list(runs.values())[-1].settings.members[0]
    checkpoint: Checkpoint = msgspec.convert(member.checkpoint, Checkpoint)
    return Predictor(model.path, folds=member.folds[:1], device=device, mirroring=False, checkpoint=checkpoint)


def _images(
    folder: Path, case: str, record: CaseRecord, files: tuple[Path, ...], *, predictor: Predictor | None
) -> CaseImages:
    """The image, its segmentation and its uncertainty maps, and with a ``predictor`` the maps of its one fold.

    Raises:
        UserError: the image has changed since, or a file cannot be read or lies on another grid.
    """
    if files_digest(case, files) != record.inputs:
        raise UserError("its image has changed since it was segmented")
    fixed = [folder / "fixed" / f"{case}_{i:04d}{ending_of(path)}" for i, path in enumerate(files)]
    straight = [copy if copy.is_file() else path for copy, path in zip(fixed, files, strict=True)]
    output = folder / record.output
    maps = {name: path for name in UNCERTAINTY if (path := map_path(output, name)).name in record.maps}
    images = read_case_images(straight, output, maps=maps)
    if predictor is None:
        return images
    return replace(images, maps=case_maps(predictor, images.image, case) | dict(images.maps))


def _tiles(records: Mapping[str, CaseRecord], failed: Mapping[str, str], labels: LabelScheme) -> list[tuple[str, str]]:
    warned = sum(bool(record.warnings) for record in records.values())
    return [
        ("segmented", str(len(records))),
        ("with warnings", str(warned)),
        ("failed", str(len(failed))),
        ("classes", str(len(labels.foreground))),
    ]


def _unfinished(runs: Mapping[str, Predictions]) -> str:
    """What other parts still had to do, or an interrupted one left."""
    pending = len({name for run in runs.values() for name in run.pending})
    return f"; {pending} more not finished when this page was written" if pending else ""


def _notices(runs: Mapping[str, Predictions]) -> list[str]:
    """What a reader should know before comparing the cases."""
    settings = [run.settings for run in runs.values() if run.cases]
    if all(each == settings[0] for each in settings[1:]):
        return []
    return ["the cases were predicted with different models or settings; the table below has each of them"]


def _facts(runs: Mapping[str, Predictions]) -> Rows:
    """What each record says about its models and settings, one row for equal ones."""
    rows: list[list[str]] = []
    for run in runs.values():
        settings = run.settings
        members = [f"{m.model}, folds {', '.join(m.folds)}, checkpoint {m.checkpoint}" for m in settings.members]
        done = [str(step) for step in (f"threshold {settings.threshold}",) if settings.threshold]
        mirrored = "mirrored" if settings.mirroring else "not mirrored"
        row = [listed(members, 5), mirrored, f"{settings.step:g}", "; ".join(done) or "-", run.device, run.version]
        if row not in rows:
            rows.append(row)
    return [["models", "passes", "step (patches)", "decisions", "device", "unetrpp"], *rows]


def _paths(given: Path | str | Sequence[Path | str]) -> list[Path]:
    return [Path(given)] if isinstance(given, str | Path) else [Path(path) for path in given]
