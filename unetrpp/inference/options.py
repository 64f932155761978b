"""The options of prediction: how a trained model predicts, and what is written where."""

from collections.abc import Mapping
from dataclasses import KW_ONLY, dataclass, replace
from pathlib import Path

from unetrpp.core.errors import UserError
from unetrpp.dataset.labels import LabelScheme
from unetrpp.inference.class_files import class_file_names
from unetrpp.inference.postprocessing import NOTHING, PostProcessing
from unetrpp.inference.segmentation import dicom_seg_name, map_names, map_path, rtstruct_name
from unetrpp.inference.written_classes import WrittenClasses
from unetrpp.io.formats import ending_of, strip_ending
from unetrpp.io.surfaces import SurfaceFormat
from unetrpp.model.folder import Checkpoint, ModelFolder
from unetrpp.model.folds import Folds

FAST_STEP = 0.75  # of --fast, in patches


@dataclass(frozen=True, kw_only=True)
class InferenceOptions:
    """How a trained model predicts.

    Args:
        folds: those whose probabilities are averaged: one, a range such as "0-4", or a list of them; "all" is fold_all. None
            takes every trained one of the cross-validation, or fold_all where it alone is trained.
        device: auto, cpu, cuda, cuda:1 or mps.
        mirroring: average over passes that are mirrored along the planned axes.
        checkpoint: final, best or latest.
        step: of the sliding window, in patches.
        tile_batch: tiles in one forward pass; None chooses by device. It is halved when memory runs out.
        threshold: class or region -> the calibrated probability from which it is predicted.
        export_order: of the interpolation back to the image along an axis of much longer voxels: 0 (the nearest, as in
            preprocessing) or 1 (linear, as along the other axes).

    Raises:
        UserError: ``step``, ``tile_batch`` or ``export_order`` is out of range.
    """

    folds: Folds | None = None
    device: str = "auto"
    mirroring: bool = True
    checkpoint: Checkpoint = "final"
    step: float = 0.5
    tile_batch: int | None = None
    threshold: Mapping[str, float] | None = None
    export_order: int = 0

    def __post_init__(self) -> None:
        if not 0 < self.step <= 1:
            raise UserError(f"step is {self.step}; it must be above 0 and at most 1")
        if self.tile_batch is not None and self.tile_batch < 1:
            raise UserError(f"tile_batch is {self.tile_batch}; it must be at least 1")
        if self.export_order not in (0, 1):
            raise UserError(f"export_order is {self.export_order}; it must be 0 (nearest) or 1 (linear)")

    def fast(self, model: ModelFolder) -> "InferenceOptions":
        """One fold of ``model`` (the first one), no mirroring, and larger steps.

        Raises:
            UserError: folds or a step were chosen, too, or the model is not trained.
        """
        if self.folds is not None or self.step != InferenceOptions.step:
            raise UserError(
                f"--fast takes the first fold and a step of {FAST_STEP}; leave --folds and --step out, or give them with "
                "--no-mirroring and without --fast"
            )
        return replace(self, folds=model.choose_folds(None, self.checkpoint)[:1], mirroring=False, step=FAST_STEP)


@dataclass(frozen=True)
class OutputOptions:
    """Which files are written for every case, and where.

    Args:
        folder: for CASE.ending and the prediction record.
        part: "k/n" of the cases; several processes share a folder, each with a record of its own.
        overwrite: predict finished cases again.
        classes: classes or regions that are written, the others become background; empty: all.
        masks: also write a binary mask per class or region, CASE/CLASS.ending.
        surfaces: also write the surface of every class or region, CASE/CLASS.stl or .obj.
        intensities: also record mean and sd of the image's intensities in every class or region.
        probabilities: also write a probability map per class.
        uncertainty: also write entropy and disagreement.
        dicom_seg: also write CASE.dcm, a DICOM SEG for the input series.
        rtstruct: also write CASE_rtstruct.dcm, an RT Structure Set for the input series.
        fix: straighten images with slightly sheared axes, into ``folder``/fixed.
        postprocessing: of the segmentation.
        log_warnings: about single cases; the record has them in any case.
    """

    folder: Path
    _: KW_ONLY
    part: str | None = None
    overwrite: bool = False
    classes: tuple[str, ...] = ()
    masks: bool = False
    surfaces: SurfaceFormat | None = None
    intensities: bool = False
    probabilities: bool = False
    uncertainty: bool = False
    dicom_seg: bool = False
    rtstruct: bool = False
    fix: bool = False
    postprocessing: PostProcessing = NOTHING
    log_warnings: bool = True

    @property
    def shows_probability(self) -> bool:
        """Whether files are written that a model's temperature changes."""
        return self.probabilities or self.uncertainty

    def written_classes(self, model: LabelScheme) -> WrittenClasses:
        """The classes of a model that are written.

        Raises:
            UserError: the model has no class or region of such a name.
        """
        return WrittenClasses.choose(model, self.classes)

    def class_endings(self, file_ending: str) -> list[str]:
        """Endings of the files of single classes, where those of segmentations end in ``file_ending``."""
        return [file_ending] * self.masks + ([] if self.surfaces is None else [f".{self.surfaces}"])

    def maps(self, output: str, model: LabelScheme) -> tuple[str, ...]:
        """Names of the files that are written in addition to the segmentation ``output``."""
        written = self.written_classes(model)
        names = map_names(written.channels if self.probabilities else (), self.uncertainty)
        files = [map_path(Path(output), name).name for name in names]
        classes = class_file_names(tuple(written.labels.segments())).values()
        for ending in self.class_endings(ending_of(Path(output))):
            files += [f"{strip_ending(output)}/{name}{ending}" for name in classes]
        return (*files, *[dicom_seg_name(output)] * self.dicom_seg, *[rtstruct_name(output)] * self.rtstruct)
