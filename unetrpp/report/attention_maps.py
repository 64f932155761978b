"""What the focal modules of a trained network do on one case: maps, coefficients, and their effect on Dice."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor, nn

from unetrpp.evaluation.metrics import Scores, score_case
from unetrpp.inference.predictor import Predictor
from unetrpp.io.images import Volume
from unetrpp.networks.focal_module import FocalModule, Gate, contrast
from unetrpp.networks.gates import SqueezeExcitation, modules_by_place
from unetrpp.plans.architecture import Architecture
from unetrpp.preprocessing.case import PreprocessedCase
from unetrpp.preprocessing.grid import CaseProperties


@dataclass(frozen=True)
class ModuleFinding:
    """One focal module on the case. ``scores`` are those of the prediction with the coefficients replaced by their mean."""

    place: str  # gate@LEVEL or se@LEVEL
    stride: tuple[int, ...]  # of its level, in voxels of the patch
    gamma: float
    mean: float  # of its coefficients A^gamma
    contrast: float  # std / mean over positions or channels, averaged over tiles
    scores: dict[str, Scores] | None
    map: np.ndarray | None  # A^gamma of a gate (Z, Y, X)
    channels: np.ndarray | None  # A^gamma of a squeeze-and-excitation (C,), averaged over tiles


@dataclass(frozen=True)
class AttentionFindings:
    """``image``, ``predicted`` and ``label`` (training indices) lie on the preprocessed grid, as the maps do."""

    image: np.ndarray
    spacing_mm: tuple[float, ...]
    predicted: np.ndarray
    label: np.ndarray | None
    scores: dict[str, Scores] | None  # of the unchanged prediction, on the image's own grid
    modules: tuple[ModuleFinding, ...]


class RecordingNetwork(nn.Module):
    """A network that appends the maps of its gates to its logits: x (B, C, *patch) -> (B, K + gates, *patch).

    The statistics of every module's coefficients are recorded on the way, by place: one tensor (B, ...) per pass.
    """

    def __init__(self, network: nn.Module, modules: Mapping[str, FocalModule]):
        super().__init__()
        self.network, self.deep_supervision = network, False
        self.modules_by_place = dict(modules)
        self.last: dict[str, Tensor] = {}
        self.contrasts: dict[str, list[Tensor]] = {place: [] for place in modules}
        self.means: dict[str, list[Tensor]] = {place: [] for place in modules}
        self.channels: dict[str, list[Tensor]] = {place: [] for place in modules}
        network.deep_supervision = False  # type: ignore[assignment]

    def forward(self, x: Tensor) -> Tensor:
        for place, module in self.modules_by_place.items():
            module.watcher = lambda coefficients, place=place: self.record(place, coefficients)
        try:
            outputs = [self.network(x)]
        finally:
            for module in self.modules_by_place.values():
                module.watcher = None
        for place, module in self.modules_by_place.items():
            if isinstance(module, Gate):
                outputs.append(module.upsampled(self.last[place].movedim(-1, 1), x.shape[2:]).mean(1, keepdim=True))
        return torch.cat(outputs, dim=1)

    def record(self, place: str, coefficients: Tensor) -> None:
        self.last[place] = coefficients
        self.contrasts[place].append(contrast(coefficients))
        self.means[place].append(coefficients.flatten(1).mean(1))
        if isinstance(self.modules_by_place[place], SqueezeExcitation):
            self.channels[place].append(coefficients)


def inspect_case(predictor: Predictor, image: Volume, label: np.ndarray | None, case: str) -> AttentionFindings:
    """The findings of the predictor's one fold. ``label`` (Z, Y, X) holds the user's values on the image's grid.

    The case is predicted once unchanged, and once for every module with that module's coefficients replaced by their mean.
    """
    model = predictor.model
    prepared = predictor.prepare(image, case)
    # The first stage of a cascade runs once, here, instead of once per module.
    prepared = PreprocessedCase(predictor.network_input(prepared), None, prepared.properties)
    properties, grid = prepared.properties, predictor.grid(prepared.properties)

    def predict() -> tuple[np.ndarray, dict[str, Scores] | None]:
        array = predictor.to_input_grid(predictor.export(prepared), properties).array
        return array, None if label is None else score_case(array, label, image.geometry, model.plans.labels)

    _, recorded, maps = recorded_pass(predictor, prepared)
    segmentation, scores = predict()
    without = {}
    for place, module in recorded.modules_by_place.items():
        module.averaged = True
        without[place] = predict()[1]
        module.averaged = False
    return AttentionFindings(
        image=prepared.image[0],
        spacing_mm=grid_spacing(properties),
        predicted=grid.to_network(segmentation),
        label=None if label is None else grid.to_network(label),
        scores=scores,
        modules=_findings(model.architecture(predictor.folds[0]), recorded, maps, without),
    )


def recorded_pass(
    predictor: Predictor, prepared: PreprocessedCase
) -> tuple[Tensor, RecordingNetwork, dict[str, np.ndarray]]:
    """One pass of the predictor's one fold over the whole case, without mirroring.

    Returns:
        The logits (K, Z, Y, X) on the network's grid, the network with what it recorded, and the map (Z, Y, X) of every gate
        by its place.
    """
    model, network = predictor.model, predictor.networks[0]
    placed = modules_by_place(network, model.architecture(predictor.folds[0]))
    recording = RecordingNetwork(network, {place: module for place, module in placed.items() if not module.off})
    unmirrored = replace(predictor.window, mirror_axes=())
    outputs = unmirrored.logits(recording, torch.from_numpy(prepared.image))
    gates = [place for place, module in recording.modules_by_place.items() if isinstance(module, Gate)]
    logits, maps = outputs[: model.plans.labels.outputs], outputs[model.plans.labels.outputs :].cpu().numpy()
    return logits, recording, dict(zip(gates, maps, strict=True))


def _findings(
    architecture: Architecture,
    recorded: RecordingNetwork,
    maps: Mapping[str, np.ndarray],
    without: Mapping[str, dict[str, Scores] | None],
) -> tuple[ModuleFinding, ...]:
    """One finding per module; ``without`` are the scores with the module's coefficients replaced by their mean."""
    return tuple(
        ModuleFinding(
            place=place,
            stride=architecture.stride(int(place.partition("@")[2])),
            gamma=module.gamma.item(),
            mean=torch.cat(recorded.means[place]).mean().item(),
            contrast=torch.cat(recorded.contrasts[place]).mean().item(),
            scores=without[place],
            map=maps.get(place),
            channels=torch.cat(seen).mean(0).cpu().numpy() if (seen := recorded.channels[place]) else None,
        )
        for place, module in recorded.modules_by_place.items()
    )


def grid_spacing(properties: CaseProperties) -> tuple[float, ...]:
    """Spacing (mm, plan order) of the preprocessed grid."""
    sides = zip(properties.cropped_shape, properties.cropped_spacing_mm, properties.shape, strict=True)
    return tuple(n * spacing / resampled for n, spacing, resampled in sides)
