"""Ensembles: the mean probabilities of several models, such as 3d_fullres with 2d or UNETR++ with a U-Net."""

import itertools
import math
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO

import numpy as np
import torch
from torch import Tensor

from unetrpp.core.errors import UserError
from unetrpp.inference.calibration import Temperatures, temperature_count
from unetrpp.inference.export import Exported, Maps, append_uncertainty, averaged_slabs, collect
from unetrpp.inference.memory import image_device
from unetrpp.inference.options import InferenceOptions
from unetrpp.inference.output_rule import OutputRule
from unetrpp.inference.predictor import Image, Predictor, as_volume
from unetrpp.inference.segmentation import Segmentation
from unetrpp.io.images import Volume
from unetrpp.networks.cpu_kernels.allocator import keep_freed_memory
from unetrpp.preprocessing.case import PreprocessedCase
from unetrpp.preprocessing.grid import CaseGrid, CaseProperties

Prepared = tuple[PreprocessedCase, ...]  # one per member


class Ensemble:
    """The mean probabilities of its members; with a single member the same as that predictor.

    >>> Ensemble([Predictor("unet__3d_fullres"), Predictor("unetrpp__3d_fullres")])("scan.nii.gz")  # doctest: +SKIP

    Attributes:
        members: the predictors.
        first: the first of them.

    Raises:
        UserError: there are no members, or they differ in labels, channels or file ending.
    """

    def __init__(self, members: Sequence[Predictor]):
        if not members:
            raise UserError("an ensemble needs at least one model")
        self.members = tuple(members)
        self.first = self.members[0]
        for member in self.members[1:]:
            _require_same_task(self.first, member)

    @classmethod
    def load(cls, models: Sequence[Path], options: InferenceOptions) -> "Ensemble":
        """The model folders with the same options, for many cases: on a CPU, freed memory is kept for the next one."""
        ensemble = cls([Predictor.with_options(path, options) for path in models])
        if ensemble.first.device.type == "cpu":
            keep_freed_memory()
        return ensemble

    def __call__(
        self, image: Image, case: str = "image", *, probabilities: bool = False, uncertainty: bool = False
    ) -> Segmentation:
        """Segment one image, as :meth:`Predictor.__call__` does.

        ``uncertainty`` of several models is the entropy of their mean and the share of models that decide otherwise.

        Raises:
            UserError: the image cannot be read, has another number of channels, or holds values that are not finite or too large.
        """
        prepared = self.prepare(as_volume(image), case)
        exported = self.export(prepared, probabilities=probabilities, uncertainty=uncertainty)
        return self.to_input_grid(exported, prepared[0].properties)

    @property
    def temperatures(self) -> Temperatures:
        """Those of the one model. The mean of several models was never fitted, so its temperature is 1.

        Raises:
            UserError: the model's calibration is out of date.
        """
        if len(self.members) == 1:
            return self.first.temperatures
        return (1.0,) * temperature_count(self.first.model.plans.labels)

    @property
    def expected_by(self) -> str:
        """Digest of what the expected Dice is computed with; empty where there is none."""
        return "" if self.why_no_expected_dice else self.first.expected_by

    @property
    def why_no_expected_dice(self) -> str:
        """Empty where there is an expected Dice."""
        if len(self.members) > 1:
            return "it is not fitted for the mean of several models"
        return self.first.why_no_expected_dice

    def prepare(self, volume: Volume, case: str) -> Prepared:
        """The image as each member's network takes it."""
        return tuple(member.prepare(volume, case) for member in self.members)

    def export(self, prepared: Prepared, *, probabilities: Maps = False, uncertainty: bool = False) -> Exported:
        """Run all members and decide on the first one's cropped grid, slab by slab.

        Where members crop the image differently, as those of another program may, the grid is the whole image's.
        """
        if len(self.members) == 1:
            return self.first.export(prepared[0], probabilities=probabilities, uncertainty=uncertainty)
        rule = OutputRule(self.first.model.plans.labels, self.temperatures, self.first.thresholds)
        grids = [member.grid(case.properties) for member, case in zip(self.members, prepared, strict=True)]
        same = all(other.kept == grids[0].kept for other in grids)
        grid = grids[0] if same else grids[0].uncropped()
        streams = [self._slabs(member, case, grid) for member, case in zip(self.members, prepared, strict=True)]

        def means() -> Iterator[Tensor]:
            for models in in_step(streams):
                mean = models.mean(dim=0)
                yield append_uncertainty(mean, models, rule) if uncertainty else mean

        return collect(means(), rule, grid, probabilities=probabilities, uncertainty=uncertainty)

    def _slabs(self, member: Predictor, case: PreprocessedCase, grid: CaseGrid) -> Iterator[Tensor]:
        """The member's mean probabilities on ``grid``."""
        own = member.grid(case.properties)
        slabs = averaged_slabs(member.logits(case), own, averaging=member.model.configuration.averaging)
        return slabs if _is_aligned(own, grid) else on_grid(slabs, own, grid)

    def to_input_grid(self, exported: Exported, properties: CaseProperties) -> Segmentation:
        """The result on the input's grid."""
        grid = self.first.grid(properties)
        cropped = exported.decisions.shape == properties.cropped_shape
        return exported.to_input(grid if cropped else grid.uncropped())


def _is_aligned(own: CaseGrid, other: CaseGrid) -> bool:
    """Whether the cropped grids are the same voxels in the same order."""
    a, b = own.properties, other.properties
    return (own.plan.transpose, a.orientation, a.crop) == (other.plan.transpose, b.orientation, b.crop)


def _require_same_task(first: Predictor, other: Predictor) -> None:
    between = f"{other.model.path} and {first.model.path} differ in their"
    for about in ("labels", "channel_names", "file_ending"):
        if getattr(other.model.plans, about) != getattr(first.model.plans, about):
            raise UserError(f"{between} {about}; average models that were planned with the same dataset.json")


def on_grid(slabs: Iterator[Tensor], own: CaseGrid, other: CaseGrid) -> Iterator[Tensor]:
    """Probabilities (K, m, Y, X) on the cropped grid ``own``, slab by slab, as one slab on the cropped grid ``other`` of the same
    image, which may have another axis order, orientation or crop.

    Voxels that only ``other`` keeps are background. Its first slice needs a part of every slab, so all of them are kept
    meanwhile: on their device where they fit there, else in temporary files, as the maps of many classes may not fit into memory.
    """
    first, labels = next(slabs), own.plan.labels
    shapes = [(len(first), *grid.properties.cropped_shape) for grid in (own, other)]
    size = sum(math.prod(shape) for shape in shapes) * first.itemsize
    device = first.device if first.device.type == "cpu" else image_device(size, first.device)
    with tempfile.TemporaryFile() as file, tempfile.TemporaryFile() as moved_file:
        whole, moved = (_kept(shape, f, device) for shape, f in zip(shapes, (file, moved_file), strict=True))
        done = 0
        for slab in itertools.chain([first], slabs):
            whole[:, done : done + slab.shape[1]] = slab
            done += slab.shape[1]
        axes, flipped, source, target = _overlap(own, other)
        for k, probability in enumerate(whole):
            moved[k] = 0.0 if labels.overlapping or k else 1.0
            moved[k][target] = probability.permute(axes).flip(flipped)[source]
        yield moved


def _kept(shape: tuple[int, ...], file: IO[bytes], device: torch.device) -> Tensor:
    """A tensor of 0 on a device; on a CPU in ``file``."""
    if device.type != "cpu":
        return torch.zeros(shape, device=device)
    return torch.from_numpy(np.memmap(file, np.float32, "w+", shape=shape))


def _overlap(own: CaseGrid, other: CaseGrid) -> tuple[list[int], list[int], tuple[slice, ...], tuple[slice, ...]]:
    """How an array on the cropped grid ``own`` lies on that of ``other``: its axes in the order of ``other``, which of these are
    to be flipped then, and the voxels of both that are the same."""
    axes, flipped, source, target = [], [], [], []
    order = [axis for axis, _, _ in own.axes()]
    for q, (axis, reverse, (first, last)) in enumerate(other.axes()):
        _, own_reverse, (start, stop) = own.axes()[order.index(axis)]
        axes.append(order.index(axis))
        if reverse != own_reverse:
            flipped.append(q)
            n = own.properties.geometry.shape_zyx[axis]
            start, stop = n - stop, n - start
        low, high = max(first, start), max(first, start, min(last, stop))
        source.append(slice(low - start, high - start))
        target.append(slice(low - first, high - first))
    return axes, flipped, tuple(source), tuple(target)


def in_step(streams: Sequence[Iterator[Tensor]]) -> Iterator[Tensor]:
    """Slabs (K, m, Y, X) of several streams, cut to equal thickness and stacked: (M, K, m, Y, X)."""
    held: list[Tensor | None] = [None] * len(streams)
    while True:
        held = [next(stream, None) if slab is None else slab for stream, slab in zip(streams, held, strict=True)]
        slabs = [slab for slab in held if slab is not None]
        if len(slabs) < len(streams):
            return
        depth = min(slab.shape[1] for slab in slabs)
        yield torch.stack([slab[:, :depth].to(slabs[0].device) for slab in slabs])
        held = [slab[:, depth:] if slab.shape[1] > depth else None for slab in slabs]
