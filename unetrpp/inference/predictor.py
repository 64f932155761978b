"""A trained model kept loaded: one call takes an image and returns its segmentation on the image's own grid."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
import SimpleITK as sitk
import torch
from torch import Tensor

from unetrpp.augmentation.label_swap import label_swap_of
from unetrpp.core.devices import find_device, half_precision, try_kernels
from unetrpp.core.digest import digest
from unetrpp.core.errors import UserError
from unetrpp.core.text import counted, listed
from unetrpp.dataset.intensities import unusable
from unetrpp.inference.calibration import (
    Calibration,
    Temperatures,
    Uncalibrated,
    dice_models_of,
    find_calibration,
    temperatures_of,
)
from unetrpp.inference.case_features import CaseFeatures
from unetrpp.inference.expected_dice import DiceModel, ExpectedDice
from unetrpp.inference.export import Exported, Maps, export
from unetrpp.inference.options import InferenceOptions
from unetrpp.inference.output_rule import OutputRule, channel_thresholds
from unetrpp.inference.segmentation import Segmentation
from unetrpp.inference.sliding_window import OnProgress, SlidingWindow
from unetrpp.inference.weights import load_networks
from unetrpp.io.geometry import voxel_volume_mm3
from unetrpp.io.images import Volume, from_sitk, read_compact_image
from unetrpp.model.folder import Checkpoint, ModelFolder
from unetrpp.model.folds import Folds
from unetrpp.networks.cascade import append_first_stage
from unetrpp.preprocessing.case import PreprocessedCase, preprocess
from unetrpp.preprocessing.grid import CaseGrid, CaseProperties

if TYPE_CHECKING:  # prediction reads no store
    from unetrpp.preprocessing.store import StoredCase

_READING = Lock()  # readers silence the warnings of other libraries, which Python can do for all threads only

Image: TypeAlias = Path | str | Sequence[Path | str] | Volume | sitk.Image
NetworkInput: TypeAlias = np.ndarray[tuple[int, int, int, int], np.dtype[np.float32]]


@dataclass(frozen=True)
class CascadeCase(PreprocessedCase):
    """A case preprocessed for a cascade's second stage, without the segmentation, and for its first stage."""

    first: PreprocessedCase


class Predictor:
    """The mean of the folds of one model folder. For a cascade's second stage, the first stage runs first.

    Several threads may call it at the same time; each needs the memory of a prediction of its own.

    >>> Predictor("results/Hippocampus/unetrpp__3d_fullres", mirroring=False)("scan.nii.gz").array  # doctest: +SKIP

    Args:
        model_folder: ``results/<dataset>/<plans>__<configuration>`` or a copy of it.
        folds: one, a range such as "0-4", or a list of them; "all" is fold_all. None takes every trained one of the
            cross-validation, or fold_all where it alone is trained.
        device: auto, cpu, cuda, cuda:1 or mps.
        mirroring: average over passes that are mirrored along the planned axes.
        checkpoint: final, best or latest; a cascade's first stage always takes its final one.
        step: of the sliding window, in patches.
        tile_batch: tiles in one forward pass; None chooses by device. It is halved when memory runs out.
        threshold: class or region -> the calibrated probability from which it is predicted.
        export_order: of the interpolation back to the image along an axis of much longer voxels: 0 (the nearest) or 1 (linear).

    Attributes:
        model: the opened model folder.
        options: as given above.
        folds: names of the folds in use, such as ["0", "1"].
        device: where the networks are.
        networks: one per fold, in evaluation mode.
        first_stage: the predictor of a cascade's first stage, else None.
        window: how the networks run over an image.
        temperatures: of the probabilities; see docs/calibration.md.
        thresholds: by output channel.

    Raises:
        UserError: no model folder, an untrained fold, a damaged checkpoint, no such device or class, or an option out of range.
    """

    def __init__(
        self,
        model_folder: Path | str,
        *,
        folds: Folds | None = None,
        device: str = "auto",
        mirroring: bool = True,
        checkpoint: Checkpoint = "final",
        step: float = 0.5,
        tile_batch: int | None = None,
        threshold: Mapping[str, float] | None = None,
        export_order: int = 0,
    ):
        self.options = InferenceOptions(
            folds=folds,
            device=device,
            mirroring=mirroring,
            checkpoint=checkpoint,
            step=step,
            tile_batch=tile_batch,
            threshold=threshold,
            export_order=export_order,
        )
        self.model = ModelFolder.open(model_folder)
        self.thresholds = channel_thresholds(self.model.plans.labels, threshold or {})
        self.device = find_device(device)
        self.folds = self.model.choose_folds(folds, checkpoint)
        self.networks = load_networks(self.model, self.folds, checkpoint, self.device)
        self.first_stage: Predictor | None = None
        if (first := self.model.first_stage) is not None:
            folds = first.source_folds(self.folds)
            # As the second stage got it in training.
            options = replace(self.options, folds=folds, checkpoint="final", threshold=None, export_order=0)
            self.first_stage = Predictor.with_options(first.path, options)
        self.window = self._window()
        try_kernels(self.device)

    @classmethod
    def with_options(cls, model_folder: Path | str, options: InferenceOptions) -> "Predictor":
        """The predictor with all of its options in one object."""
        return cls(model_folder, **vars(options))  # each is a parameter of the same name

    @cached_property
    def digest(self) -> str:
        """:meth:`ModelFolder.digest` of the weights, which are read for it once."""
        return self.model.digest(self.folds, self.options.checkpoint)

    def _window(self) -> SlidingWindow:
        configuration, options = self.model.configuration, self.options
        # No float16: activations of a network that was trained in another precision may exceed its range. On a CPU float32, so that
        # every CPU gives the same labels.
        bfloat16 = self.device.type != "cpu" and half_precision(self.device) == torch.bfloat16
        return SlidingWindow(
            configuration.patch,
            mirror_axes=configuration.mirror_axes if options.mirroring else (),
            step=options.step,
            tile_batch=options.tile_batch,
            autocast=torch.bfloat16 if bfloat16 else None,
            swap=label_swap_of(configuration),
            first_stage_classes=configuration.first_stage_classes,
            nnunet=configuration.preprocessing.rules == "nnunet",
        )

    def __call__(
        self,
        image: Image,
        case: str = "image",
        *,
        probabilities: bool = False,
        uncertainty: bool = False,
        on_progress: OnProgress | None = None,
    ) -> Segmentation:
        """Segment one image.

        Args:
            image: a path, one path per channel, an ITK image, or a ``Volume``: array (C, Z, Y, X) with its geometry.
            case: its name in error messages.
            probabilities: also return a calibrated probability map per class.
            uncertainty: also return the entropy of the calibrated mean and the disagreement of the folds.
            on_progress: gets the passes of tiles that are done and the number of all, after every batch of them; a cascade's
                first stage counts on its own. What it raises ends the prediction.

        Raises:
            UserError: the image cannot be read, has another number of channels, or holds values that are not finite or too large;
                or the model's calibration, which maps and thresholds need, is out of date.
        """
        prepared = self.prepare(as_volume(image), case)
        exported = self.export(prepared, probabilities=probabilities, uncertainty=uncertainty, on_progress=on_progress)
        return self.to_input_grid(exported, prepared.properties)

    def prepare(self, volume: Volume, case: str) -> PreprocessedCase:
        """The image as the network takes it.

        Raises:
            UserError: it has another number of channels, or holds values that are not finite or too large.
        """
        self._require_all_channels(volume, case)
        names, plans = self.model.plans.channel_names, self.model.configuration.preprocessing.normalization
        for channel, name, plan in zip(volume.array, names, plans, strict=False):  # of too many, preprocess tells
            reason = unusable(channel, name, clipped=plan.scheme == "ct")
            if reason is not None:
                raise UserError(reason, case=case)
        prepared = preprocess(volume, None, self.model.configuration.preprocessing, case)
        if self.first_stage is None:
            return prepared
        return CascadeCase(prepared.image, None, prepared.properties, self.first_stage.prepare(volume, case))

    def _require_all_channels(self, volume: Volume, case: str) -> None:
        plans, found = self.model.plans, len(volume.array)
        if found < len(plans.channel_names):
            names = [f"{name} as {case}_{i:04d}{plans.file_ending}" for i, name in enumerate(plans.channel_names)]
            raise UserError(
                f"the image has {counted(found, 'channel')}, but the model takes {len(names)} and was trained on images that had all of "
                f"them; give {listed(names, 20)}",
                case=case,
            )

    def from_store(self, stored: "StoredCase") -> PreprocessedCase:
        """A training case as the network takes it; for a second stage with the segmentation that training took, by the fold of the
        first stage that held the case out."""
        image, _ = stored.read((0, 0, 0), stored.shape)
        if self.first_stage is not None:
            image = append_first_stage(image, stored.read_first_stage((0, 0, 0), stored.shape))
        return PreprocessedCase(image, None, stored.properties)

    def export(
        self,
        prepared: PreprocessedCase,
        *,
        probabilities: Maps = False,
        uncertainty: bool = False,
        on_progress: OnProgress | None = None,
    ) -> Exported:
        """Run the networks and decide on the cropped grid, slab by slab."""
        rule = None
        if probabilities or uncertainty or self.thresholds:
            rule = OutputRule(self.model.plans.labels, self.temperatures, self.thresholds)
        features = self.features(prepared) if self.dice_models else None
        exported = export(
            self.logits(prepared, features, on_progress=on_progress),
            self.grid(prepared.properties),
            averaging=self.model.configuration.averaging,
            rule=rule,
            probabilities=probabilities,
            uncertainty=uncertainty,
        )
        return replace(exported, expected_dice=self._expected(features.rows())) if features else exported

    def features(self, prepared: PreprocessedCase) -> CaseFeatures:
        """What sums up the features of a case while ``logits`` computes them."""
        model, properties = self.model, prepared.properties
        spacing = model.configuration.preprocessing.target_spacing(properties.cropped_spacing_mm)
        image = prepared.image[: len(model.plans.channel_names)]  # without the first stage's segmentation
        mirrored = bool(self.window.mirror_axes)
        return CaseFeatures(model.plans.labels, image, voxel_volume_mm3(spacing), mirrored=mirrored)

    def _expected(self, features: np.ndarray) -> dict[str, ExpectedDice | None]:
        """By class, from features (F, classes, P)."""
        names = [target.name for target in self.model.plans.labels.targets]
        by_class = {name: dict(zip(self.folds, features[:, k], strict=True)) for k, name in enumerate(names)}
        return {name: model(by_class[name]) for name, model in self.dice_models.items()}

    @property
    def dice_models(self) -> Mapping[str, DiceModel]:
        """Class -> how its Dice is expected; empty where that was not fitted to predictions like this one's."""
        return self._dice_models[0]

    @property
    def why_no_expected_dice(self) -> str:
        """Why ``dice_models`` is empty; else empty."""
        return self._dice_models[1]

    @cached_property
    def expected_by(self) -> str:
        """Digest of ``dice_models``."""
        return digest(self.dice_models)

    @cached_property
    def _dice_models(self) -> tuple[Mapping[str, DiceModel], str]:
        return dice_models_of(self._found_calibration, self.model, self.folds, self.options)

    @property
    def temperatures(self) -> Temperatures:
        """Of the mean of the folds: one, or one for each region; 1 where none was fitted.

        Raises:
            UserError: the model's calibration is out of date.
        """
        return self._calibration[0]

    @property
    def uncalibrated(self) -> Uncalibrated:
        """Why the temperatures are 1; empty where they were fitted."""
        return self._calibration[1]

    @cached_property
    def _calibration(self) -> tuple[Temperatures, Uncalibrated]:
        return temperatures_of(self._found_calibration, self.model.plans.labels, self.folds, self.options.checkpoint)

    @cached_property
    def _found_calibration(self) -> Calibration | UserError | None:
        """Looked for once: the checkpoints are hashed to see whether it is theirs."""
        return find_calibration(self.model)

    def logits(
        self,
        prepared: PreprocessedCase,
        features: CaseFeatures | None = None,
        *,
        on_progress: OnProgress | None = None,
    ) -> Iterator[Tensor]:
        """Logits (F, K, n, Y, X) of all folds on the network's grid, slab by slab in z order; ``features`` sums them up."""
        on_pass = features.passes.add if features and features.passes else None
        image = torch.from_numpy(self.network_input(prepared, on_progress))
        slabs = self.window.slabs(self.networks, image, on_pass, on_progress=on_progress)
        return features.watch(slabs) if features else slabs

    def network_input(self, prepared: PreprocessedCase, on_progress: OnProgress | None = None) -> NetworkInput:
        """The image (C, Z, Y, X); for a second stage with the segmentation of the first, which runs now, as last channel."""
        if self.first_stage is None or not isinstance(prepared, CascadeCase):
            return prepared.image
        first = self.first_stage
        exported = first.export(prepared.first, on_progress=on_progress)
        segmentation = first.to_input_grid(exported, prepared.first.properties)
        return append_first_stage(prepared.image, self.grid(prepared.properties).to_network(segmentation.array))

    def grid(self, properties: CaseProperties) -> CaseGrid:
        """The grids of a case under this model's preprocessing plan."""
        return CaseGrid(properties, self.model.configuration.preprocessing, linear_back=self.options.export_order == 1)

    def to_input_grid(self, exported: Exported, properties: CaseProperties) -> Segmentation:
        """The result on the input's grid. Voxels outside the crop are background, with an uncertainty of 0."""
        return exported.to_input(self.grid(properties))


def as_volume(image: Image) -> Volume:
    """The image read, or converted, into a volume.

    Raises:
        UserError: a file cannot be read, or an array has no geometry or does not fit its geometry.
    """
    if isinstance(image, Volume):
        _require_whole_volume(image)
        return image
    if isinstance(image, sitk.Image):
        return from_sitk(image)
    if isinstance(image, np.ndarray):
        raise UserError(
            "an array alone has no spacing; give Volume(array, Geometry(shape_zyx=..., spacing_zyx_mm=...))"
        )
    with _READING:
        return read_compact_image(Path(image) if isinstance(image, str | Path) else [Path(path) for path in image])


def _require_whole_volume(volume: Volume) -> None:
    shape, grid = volume.array.shape, volume.geometry.shape_zyx
    if len(shape) != 4:
        raise UserError(f"the array has shape {shape}; give (C, Z, Y, X), such as array[None] for one channel")
    if shape[1:] != grid:
        raise UserError(f"the array has shape {shape}, but its geometry {grid} (Z, Y, X); both must be of one image")
