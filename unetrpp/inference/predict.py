"""`predict`: the work of the command unetrpp_predict as one call from Python, with the same options."""

import logging
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TypeAlias

from unetrpp.core.devices import device_names
from unetrpp.core.errors import UserError
from unetrpp.core.text import listed
from unetrpp.core.workspace import Workspace
from unetrpp.dataset.description import DatasetDescription
from unetrpp.inference.devices import DeviceWorkers
from unetrpp.inference.ensemble import Ensemble
from unetrpp.inference.folder import refuse_repeated, run_folder
from unetrpp.inference.inputs import Cases, find_cases, recordable_cases, require_series, share
from unetrpp.inference.left_out import left_out
from unetrpp.inference.options import InferenceOptions, OutputOptions
from unetrpp.inference.postprocessing import postprocessing_of
from unetrpp.inference.record import Progress, review_order
from unetrpp.inference.selection import find_selection
from unetrpp.io.dicom_seg import require_dicom_seg
from unetrpp.io.formats import is_folder
from unetrpp.io.surfaces import SurfaceFormat
from unetrpp.model.folder import Checkpoint, ModelFolder
from unetrpp.model.folds import Folds, spell_folds

LOG = logging.getLogger(__name__)

Paths: TypeAlias = Path | str | Sequence[Path | str]


@dataclass(frozen=True)
class PredictionResult:
    """What a call of :func:`predict` left in ``output``.

    Attributes:
        output: the folder of the results and of predictions.json.
        segmented: case -> its segmentation, those that earlier runs finished included.
        review_order: the segmented cases by expected Dice, the lowest first; empty where there is none.
        failed: case -> why it has none; also every image in the folder of ``input`` that belongs to no case.
        left_out: those of ``failed`` that cannot be read or used, in place of it where ``skip_unreadable`` asked for that.
    """

    output: Path
    segmented: dict[str, Path]
    failed: dict[str, str]
    left_out: dict[str, str] = field(default_factory=dict)
    review_order: tuple[str, ...] = ()


def predict(
    *,
    input: Paths,
    output: Path | str,
    model: Paths | None = None,
    best: str | None = None,
    workspace: Path | str | None = None,
    folds: Folds | None = None,
    checkpoint: Checkpoint = "final",
    mirroring: bool = True,
    step: float = 0.5,
    fast: bool = False,
    device: str = "auto",
    devices: str | Sequence[str] | None = None,
    tile_batch: int | None = None,
    postprocessing: bool = False,
    classes: Sequence[str] = (),
    masks: bool = False,
    surfaces: SurfaceFormat | None = None,
    intensities: bool = False,
    uncertainty: bool = False,
    probabilities: bool = False,
    dicom_seg: bool = False,
    rtstruct: bool = False,
    fix: bool = False,
    threshold: Mapping[str, float] | None = None,
    export_order: int = 0,
    part: str | None = None,
    skip_unreadable: bool = False,
    overwrite: bool = False,
) -> PredictionResult:
    """Segment images on their own grids with the mean of a model's folds. The same call resumes an unfinished one.

    >>> predict(input="images", output="segmentations", model="unetrpp__3d_fullres").failed  # doctest: +SKIP
    {}

    Args:
        input: a folder of CASE_0000.ending, or one case's files, one per channel; a DICOM series is a folder.
        output: folder for CASE.ending and predictions.json.
        model: a model folder, or several whose probabilities are averaged.
        best: instead of ``model``, a dataset: its models, post-processing and mirroring as unetrpp_find_best chose.
        workspace: where ``best`` looks (default: $UNETRPP_WORKSPACE, else ./unetrpp_workspace).
        folds: one, a range such as "0-4", or a list of them; "all" is fold_all. None takes every trained one of the
            cross-validation, or fold_all where it alone is trained.
        checkpoint: final, best (on the validation fold) or latest.
        mirroring: average over mirrored passes; False is up to 8 times faster.
        step: of the sliding window, in patches.
        fast: one fold, no mirroring and a step of 0.75, in place of ``folds`` and ``step``.
        device: auto, cpu, cuda, cuda:1 or mps.
        devices: instead of ``device``, several of them that share the cases, such as "cuda:0,cuda:1": each has a process of its
            own, so a script that gives them needs ``if __name__ == "__main__":``.
        tile_batch: tiles in one forward pass; None chooses by device. It is halved when memory runs out.
        postprocessing: apply what an imported ``model`` came with; ``best`` says itself whether and what.
        classes: classes or regions that are written, the others become background; empty: all.
        masks: also write a binary mask per class or region, CASE/CLASS.ending.
        surfaces: "stl" or "obj": also write the surface of every class or region in mm, CASE/CLASS.stl.
        intensities: also write mean and sd of the image's intensities in every class or region, into volumes.csv.
        uncertainty: also write the entropy of the calibrated mean and fold disagreement, 0 to 1.
        probabilities: also write a calibrated probability map per class.
        dicom_seg: also write CASE.dcm, a DICOM SEG for the input series.
        rtstruct: also write CASE_rtstruct.dcm, an RT Structure Set for the input series.
        fix: straighten images with slightly sheared axes, into ``output``/fixed.
        threshold: class or region -> the calibrated probability from which it is predicted, in place of the usual rule.
        export_order: of the interpolation back to the image along an axis of much longer voxels: 0 (the nearest, as in
            preprocessing) or 1 (linear).
        part: "k/n": predict every n-th case from the k-th on, so that machines or GPUs share a folder; images that belong
            to no case are listed by the first.
        skip_unreadable: images that cannot be read or used are ``left_out`` of the result and not ``failed``.
        overwrite: predict finished cases again.

    Raises:
        UserError: neither or both of ``model`` and ``best``, a model or input that cannot be used, or an output folder
            with predictions of other settings; maps or thresholds are asked for and the model's calibration is out of date.
            A single case that fails raises nothing: see ``failed``.
    """
    if (model is None) == (best is None):
        raise UserError("give either a model folder (model) or a dataset (best)")
    if best is not None and postprocessing:
        raise UserError("--best applies the post-processing that unetrpp_find_best chose; leave --postprocessing out")
    if devices is not None and device != "auto":
        raise UserError("give either one device (device) or several (devices)")
    names = [] if devices is None else device_names(devices)
    if dicom_seg:
        require_dicom_seg()
    options = InferenceOptions(
        folds=folds,
        device=device,
        mirroring=mirroring,
        checkpoint=checkpoint,
        step=step,
        tile_batch=tile_batch,
        threshold=threshold,
        export_order=export_order,
    )
    written = OutputOptions(
        Path(output),
        part=part,
        overwrite=overwrite,
        classes=tuple(classes),
        masks=masks,
        surfaces=surfaces,
        intensities=intensities,
        probabilities=probabilities,
        uncertainty=uncertainty,
        dicom_seg=dicom_seg,
        rtstruct=rtstruct,
        fix=fix,
    )
    models = [] if model is None else _paths(model)
    if best is not None:
        models, options, written = _follow_selection(best, workspace, options, written)
    if fast:
        options = options.fast(ModelFolder.open(models[0]))
    if postprocessing:
        written = replace(written, postprocessing=postprocessing_of(models))
    # With several devices, the models are loaded here to be looked at, and in the process of each device to be run.
    ensemble = Ensemble.load(models, replace(options, device="cpu") if names else options)
    written.written_classes(ensemble.first.model.plans.labels)  # an unknown one is refused before anything is predicted
    _log_settings(ensemble, written)
    inputs, description = _paths(input), ensemble.first.model.description
    own = [*models, Workspace.find(None if workspace is None else Path(workspace)).root]
    cases, others = _cases_and_others(inputs, description, own)
    refuse_repeated(cases, written, ensemble.first.model.plans)
    if part is not None:  # of several parts, the first lists the others
        cases, others = share(cases, part), others if part.startswith("1/") else {}
    if others:
        LOG.warning("left out of %s, for the reasons given at the end: %s", inputs[0], listed(list(others)))
    if dicom_seg or rtstruct:
        require_series(cases, "--dicom-seg" if dicom_seg else "--rtstruct")
    with DeviceWorkers(names, models, options, written) if names else nullcontext() as workers:
        progress = run_folder(ensemble, cases, written, workers)
    return _result(progress, cases, others, skip_unreadable)


def _log_settings(ensemble: Ensemble, output: OutputOptions) -> None:
    """Which folds are averaged, the temperature of what is written, and what cannot be told."""
    for member in ensemble.members:
        LOG.info("%s: folds averaged: %s", member.model.path.resolve().name, spell_folds(member.folds))
    if output.shows_probability or ensemble.first.thresholds:
        LOG.info("%s", temperature_text(ensemble))
    if ensemble.why_no_expected_dice:
        LOG.info("no expected Dice: %s", ensemble.why_no_expected_dice)
    if output.uncertainty and [len(member.folds) for member in ensemble.members] == [1]:
        LOG.warning("the disagreement maps are 0 everywhere: a single fold has no other to disagree with")


def _result(progress: Progress, cases: Cases, others: dict[str, str], skip_unreadable: bool) -> PredictionResult:
    """What became of the ``cases``; ``others`` are images that are none, with the reason."""
    unusable = others | {case: progress.failed[case] for case in sorted(progress.refused)}
    skipped = unusable if skip_unreadable and len(progress.refused) < len(cases) else {}
    failed = {case: reason for case, reason in (others | progress.failed).items() if case not in skipped}
    folder, done = progress.path.parent, [case for case in cases if case not in progress.failed]
    segmented = {case: folder / progress.cases[case].output for case in done}
    order = tuple(case for case in review_order(progress.cases, progress.expected_by) if case in segmented)
    return PredictionResult(folder, segmented, failed, skipped, order)


def _cases_and_others(
    inputs: Sequence[Path], description: DatasetDescription, own: Sequence[Path]
) -> tuple[Cases, dict[str, str]]:
    """The cases of the inputs, and the images that are none.

    Models and the workspace (``own``) may lie in the folder.
    """
    found = find_cases(inputs, description)
    others = left_out(inputs[0], found, description, own) if is_folder(inputs[0]) else {}
    cases, unnamable = recordable_cases(found)
    return cases, others | unnamable


def _follow_selection(
    dataset: str, workspace: Path | str | None, options: InferenceOptions, output: OutputOptions
) -> tuple[list[Path], InferenceOptions, OutputOptions]:
    """The model folders that unetrpp_find_best chose, and the options with its mirroring and post-processing."""
    selection, models = find_selection(dataset, workspace)
    options = replace(options, mirroring=options.mirroring and selection.mirroring)
    output = replace(output, postprocessing=selection.postprocessing)
    return models, options, output


def temperature_text(ensemble: Ensemble) -> str:
    """The temperature of the written probabilities, and why it is 1 where none was fitted."""
    first = ensemble.first
    if len(ensemble.members) > 1:
        return "temperature of the probabilities: 1 (the mean of several models was never fitted)"
    values = first.temperatures
    if first.uncalibrated:
        return f"temperature of the probabilities: 1 ({first.uncalibrated})"
    regions = [region.name for region in first.model.plans.labels.regions]
    named = [f"{name} {value:.3f}" for name, value in zip(regions, values, strict=True)] if regions else []
    return f"temperature of the probabilities: {', '.join(named) or format(values[0], '.3f')}"


def _paths(given: Paths) -> list[Path]:
    return [Path(given)] if isinstance(given, str | Path) else [Path(path) for path in given]
