"""A trained model kept loaded: one call takes an image and returns its segmentation on the image's own grid."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import numpy as np
import SimpleITK as sitk
import torch
from torch import Tensor

from unetrpp.augmentation.label_swap import label_swap_of
from unetrpp.core.devices import find_device, half_precision, try_kernels
from unetrpp.core.errors import UserError
from unetrpp.inference.export import Exported, export, on_input_grid, segmentation_on_input_grid
from unetrpp.inference.sliding_window import sliding_window_slabs
from unetrpp.inference.weights import load_networks
from unetrpp.io.formats import strip_ending
from unetrpp.io.geometry import Geometry
from unetrpp.io.images import Volume, from_sitk, read_image, to_sitk, write_image, write_segmentation
from unetrpp.model.folder import ModelFolder
from unetrpp.preprocessing.case import CaseProperties, PreprocessedCase, preprocess
from unetrpp.preprocessing.first_stage import first_stage_on_grid, with_first_stage

WHOLE_NUMBERS_ONLY = (".png", ".bmp", ".jpeg", ".jpg")  # maps of an image of these are written as .tif

Image: TypeAlias = Path | str | Sequence[Path | str] | Volume | sitk.Image


@dataclass(frozen=True)
class Segmentation:
    """The user's label values (Z, Y, X) on the grid of the input, and the maps that were asked for.

    ``probabilities`` (K, Z, Y, X) float16 are of the classes in the order of the labels (of the regions where there
    are some). ``entropy`` and ``disagreement`` (Z, Y, X) run from 0 to 1: of the mean probabilities, and the share of
    the folds that decide otherwise than their mean.
    """

    array: np.ndarray
    geometry: Geometry
    probabilities: np.ndarray | None = None
    entropy: np.ndarray | None = None
    disagreement: np.ndarray | None = None

    def to_sitk(self) -> sitk.Image:
        return to_sitk(self.array, self.geometry)

    def save(self, path: Path) -> None:
        """Write the labels, and beside them the maps as CASE_entropy, CASE_disagreement, CASE_probability_k."""
        for name, array in self._maps().items():
            write_image(map_path(path, name), Volume(array[None].astype(np.float32), self.geometry))
        write_segmentation(path, self.array, self.geometry)

    def _maps(self) -> dict[str, np.ndarray]:
        probabilities = () if self.probabilities is None else self.probabilities
        doubts = () if self.entropy is None or self.disagreement is None else (self.entropy, self.disagreement)
        return dict(zip(map_names(len(probabilities), bool(doubts)), (*probabilities, *doubts), strict=True))


@dataclass(frozen=True)
class CascadeCase(PreprocessedCase):
    """An image as a cascade's second stage takes it, but for the segmentation, and as its first stage takes it."""

    first: PreprocessedCase


def map_names(probabilities: int, uncertainty: bool) -> tuple[str, ...]:
    """The maps of a segmentation: one probability a class, and the doubts.

    >>> map_names(2, True)
    ('probability_0', 'probability_1', 'entropy', 'disagreement')
    """
    return (*(f"probability_{k}" for k in range(probabilities)), *(("entropy", "disagreement") if uncertainty else ()))


def map_path(path: Path, name: str) -> Path:
    """Beside the segmentation at ``path``.

    >>> map_path(Path("case.png"), "entropy").name
    'case_entropy.tif'
    """
    stem = strip_ending(path.name)
    ending = path.name.removeprefix(stem)
    ending = ".tif" if ending.lower() in WHOLE_NUMBERS_ONLY else ending
    return path.with_name(f"{stem}_{name}{ending}")


class Predictor:
    """Averages the folds of one model folder. Of a cascade's second stage, it runs the first stage before.

    Args:
        model_folder: ``results/<dataset>/<plans>__<configuration>`` or a copy.
        folds: "all" trained ones, one, or a list of them.
        device: auto, cpu, cuda, cuda:1, mps.
        mirroring: average over mirrored passes along the planned axes.
        checkpoint: final, best or latest; a cascade's first stage takes the final one.
        step: of the sliding window, in patches.
        tile_batch: tiles in one forward pass; found by trial when None.

    Raises:
        UserError: no model folder, an untrained fold, a damaged checkpoint, or no such device.
    """

    def __init__(
        self,
        model_folder: Path | str,
        folds: str | int | Sequence[str | int] = "all",
        device: str = "auto",
        mirroring: bool = True,
        checkpoint: str = "final",
        step: float = 0.5,
        tile_batch: int | None = None,
    ):
        self.model = ModelFolder.open(Path(model_folder))
        self.device = find_device(device)
        self.folds = self.model.choose_folds(folds, checkpoint)
        self.checkpoint = checkpoint
        self.networks = load_networks(self.model, self.folds, checkpoint, self.device)
        self.first_stage: Predictor | None = None
        if (first := self.model.first_stage) is not None:
            source_folds = first.source_folds(self.folds)
            self.first_stage = Predictor(first.path, source_folds, device, mirroring, "final", step, tile_batch)
        self.mirroring, self.step, self.tile_batch = mirroring, step, tile_batch
        try_kernels(self.device)
        # No float16: what a network trained in another precision computes may exceed its range.
        self.autocast = torch.bfloat16 if half_precision(self.device) == torch.bfloat16 else None

    def __call__(
        self, image: Image, case: str = "image", *, probabilities: bool = False, uncertainty: bool = False
    ) -> Segmentation:
        """Segment a path (or one path a channel), an ITK image, or a Volume: array (C, Z, Y, X) with its geometry."""
        prepared = self.prepare(as_volume(image), case)
        exported = self.export(prepared, probabilities=probabilities, uncertainty=uncertainty)
        return self.to_input_grid(exported, prepared.properties)

    def prepare(self, volume: Volume, case: str) -> PreprocessedCase:
        """
        Raises:
            UserError: wrong number of channels, or values that are not finite.
        """
        if not np.isfinite(volume.array).all():
            raise UserError("the image holds voxels that are no finite number; repair or exclude it", case=case)
        prepared = preprocess(volume, None, self.model.configuration.preprocessing, case)
        if self.first_stage is None:
            return prepared
        return CascadeCase(prepared.image, None, prepared.properties, self.first_stage.prepare(volume, case))

    def export(self, prepared: PreprocessedCase, *, probabilities: bool = False, uncertainty: bool = False) -> Exported:
        """Network and export, slab by slab."""
        plan = self.model.configuration.preprocessing
        slabs = self.logits(prepared)
        return export(slabs, prepared.properties, plan, probabilities=probabilities, uncertainty=uncertainty)

    def logits(self, prepared: PreprocessedCase) -> Iterator[Tensor]:
        """Logits (F, K, n, Y, X) of all folds on the preprocessed grid, slab by slab."""
        configuration = self.model.configuration
        return sliding_window_slabs(
            self.networks,
            torch.from_numpy(self.network_input(prepared)),
            configuration.patch,
            configuration.mirror_axes if self.mirroring else (),
            self.step,
            self.tile_batch,
            self.autocast,
            label_swap_of(configuration),
        )

    def network_input(self, prepared: PreprocessedCase) -> np.ndarray:
        """The image (C, Z, Y, X); of a cascade with the first stage's segmentation, made now, as one more channel."""
        if self.first_stage is None or not isinstance(prepared, CascadeCase):
            return prepared.image
        first, plan = self.first_stage, self.model.configuration.preprocessing
        segmentation = first.to_input_grid(first.export(prepared.first), prepared.first.properties)
        return with_first_stage(prepared.image, first_stage_on_grid(segmentation.array, prepared.properties, plan))

    def to_input_grid(self, exported: Exported, properties: CaseProperties) -> Segmentation:
        """Back onto the input's grid. What was cropped away is background without doubt."""
        plan = self.model.configuration.preprocessing
        probabilities, entropy, disagreement = None, None, None
        if exported.probabilities is not None:
            certain = [0.0 if plan.labels.regions or k else 1.0 for k in range(len(exported.probabilities))]
            pairs = zip(exported.probabilities, certain, strict=True)
            probabilities = np.stack([on_input_grid(p, properties, plan, outside) for p, outside in pairs])
        if exported.uncertainty is not None:
            entropy, disagreement = (on_input_grid(doubt, properties, plan) for doubt in exported.uncertainty)
        array = segmentation_on_input_grid(exported.decisions, properties, plan)
        return Segmentation(array, properties.geometry, probabilities, entropy, disagreement)


def as_volume(image: Image) -> Volume:
    """
    Raises:
        UserError: a file that cannot be read, an array without geometry, or one that does not fit its geometry.
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
    return read_image(Path(image) if isinstance(image, str | Path) else [Path(path) for path in image])


def _require_whole_volume(volume: Volume) -> None:
    shape, grid = volume.array.shape, volume.geometry.shape_zyx
    if len(shape) != 4:
        raise UserError(f"the array has shape {shape}; give (C, Z, Y, X), such as array[None] for one channel")
    if shape[1:] != grid:
        raise UserError(f"the array has shape {shape}, its geometry {grid} (Z, Y, X); make both those of one image")
