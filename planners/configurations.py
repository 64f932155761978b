"""One configuration (``3d_fullres``, ``2d``, ``3d_lowres``, ``3d_cascade``): patch, network, batch and their reasons."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import msgspec

from unetrpp.core.errors import UserError
from unetrpp.core.text import counted, format_shape
from unetrpp.planners.options import Options
from unetrpp.planners.rules.augmentation import plan_augmentation
from unetrpp.planners.rules.checkpointing import checkpointing_decision
from unetrpp.planners.rules.mirroring import Mirroring, of_patch
from unetrpp.planners.rules.patch_and_batch import Fit, patch_decision, plan_batch
from unetrpp.planners.rules.spacing import TargetGrid, coarser
from unetrpp.planners.rules.topology import Topology, downsampling_decision
from unetrpp.planners.rules.wording import amount, lengths, percent
from unetrpp.plans.architecture import Architecture, as_3d
from unetrpp.plans.plans import CASCADE, CONFIGURATIONS, Configuration, Decision, LossPlan, Preprocessing

LOW_RESOLUTION_BELOW = 0.25  # share of the median image in a patch, below which there is a low-resolution stage
WORTHWHILE = 2  # the low-resolution image must have this factor fewer voxels


class PlannerHooks(Protocol):
    """What differs between planners (:class:`unetrpp.planners.planner.Planner`)."""

    options: Options

    def topologies(self, spacing: Sequence[float], shape: Sequence[float]) -> list[Topology]: ...

    def architecture(self, inputs: int, outputs: int, topology: Topology) -> Architecture: ...

    def fit(self, topologies: Sequence[Topology], inputs: int, outputs: int) -> Fit: ...

    def proxy(self, topologies: Sequence[Topology], outputs: int) -> Fit: ...


@dataclass(frozen=True, kw_only=True)
class ConfigurationPlanner:
    """What all configurations of one dataset share; plans one at a time."""

    hooks: PlannerHooks
    preprocessing: Preprocessing  # at full resolution; each configuration sets its own chunk
    grid: TargetGrid  # at full resolution
    mirroring: Mirroring
    initial_logits: tuple[float, ...]  # of a new network, one per output

    @property
    def channels(self) -> int:
        return len(self.preprocessing.normalization)

    def plan(self, name: str) -> dict[str, Configuration]:
        """The configuration of this name; a cascade comes with its first stage.

        Raises:
            UserError: there is no such configuration, or it does not suit this dataset.
        """
        if name not in CONFIGURATIONS:
            raise UserError(f"unknown configuration {name!r}; choose among {', '.join(CONFIGURATIONS)}")
        if name == "2d":
            return {name: self.two_dimensional()}
        if self.grid.flat:
            raise UserError(
                f"{name} needs three axes, but the median image has {format_shape(self.grid.shape)} voxels; use 2d"
            )
        if name == "3d_fullres":
            return {name: self.full_resolution()}
        low = self.low_resolution()
        return {"3d_lowres": low} if name == "3d_lowres" else {"3d_lowres": low, CASCADE: self.cascade()}

    def full_resolution(self) -> Configuration:
        """Dice sums run over the batch where the images are so large that there is a low-resolution stage (rule 12)."""
        full = self.three_dimensional(self.grid)
        share = min(1.0, math.prod(full.patch) / math.prod(self.grid.shape))
        times = LOW_RESOLUTION_BELOW / share  # the user's own patch is used at every resolution
        if self.hooks.options.patch is None:
            times = self._times_fewer(self._quarter_in_a_patch()[1])
        so = (
            "so many patches miss a class or have little of it"
            if times >= WORTHWHILE
            else "enough to have most classes"
        )
        why = f"a patch holds {percent(share)} of the median image, {so}"
        if share < LOW_RESOLUTION_BELOW:
            why += (
                f"; at a resolution where it holds {LOW_RESOLUTION_BELOW:.0%}, the image has {amount(times)} times fewer voxels "
                f"(over the batch if at least {WORTHWHILE} times)"
            )
        return _with_dice(full, times >= WORTHWHILE, why)

    def three_dimensional(self, grid: TargetGrid, inputs: int | None = None) -> Configuration:
        return self._configuration(grid.spacing, grid.shape, images=grid.cases, inputs=inputs or self.channels)

    def two_dimensional(self) -> Configuration:
        """``2d``: slices along the plan's first axis, which keep their own spacing."""
        _, *spacing = self.grid.spacing
        slices, *shape = self.grid.shape
        flat = self._configuration(spacing, shape, images=self.grid.cases * slices, inputs=self.channels)
        return _with_dice(
            flat, True, "a 2D patch is at most one slice, and many slices miss a class or have little of it"
        )

    def low_resolution(self) -> Configuration:
        """``3d_lowres``: coarser until a patch holds a quarter of the median image (rule 8)."""
        low, grid = self._quarter_in_a_patch()
        times = self._times_fewer(grid)
        if times < WORTHWHILE:
            share = min(1.0, math.prod(self.three_dimensional(self.grid).patch) / math.prod(self.grid.shape))
            raise UserError(
                f"3d_lowres is of no use here: a patch at full resolution holds {share:.0%} of the median image, "
                f"and the low-resolution image would have only {times:.1f} times fewer voxels; train 3d_fullres"
            )
        value = f"{lengths(grid.spacing, grid.unit)}, {format_shape(grid.shape)}"
        share = min(1.0, math.prod(low.patch) / math.prod(grid.shape))
        least = f"at least {LOW_RESOLUTION_BELOW:.0%}"
        why = f"a patch holds {share:.0%} of the median image ({least}), which has {times:.1f} times fewer voxels"
        low = _with_dice(low, False, f"a patch holds {share:.0%} of the median image, enough to have most classes")
        decision = Decision(about="low resolution", value=value, why=why)
        return msgspec.structs.replace(low, decisions=(decision, *low.decisions))

    def cascade(self) -> Configuration:
        """``3d_cascade``: full resolution with the first stage's segmentation as one-hot channels."""
        classes = len(self.preprocessing.labels.foreground)
        stage = self.three_dimensional(self.grid, self.channels + classes)
        share = math.prod(stage.patch) / math.prod(self.grid.shape)
        holds, more = f"a patch holds {percent(share)} of the median image", counted(classes, "further channel")
        why = f"{holds}; the first stage's segmentation is added as {more}, one per class"
        stage = _with_dice(stage, True, f"{holds}, too little to have every class")
        decision = Decision(about="cascade", value="after 3d_lowres", why=why)
        return msgspec.structs.replace(stage, decisions=(decision, *stage.decisions), first_stage="3d_lowres")

    def _quarter_in_a_patch(self) -> tuple[Configuration, TargetGrid]:
        """The finest configuration of which a patch holds a quarter of the median image, and its grid."""
        grid = self.grid
        low = self.three_dimensional(grid)
        while math.prod(low.patch) < LOW_RESOLUTION_BELOW * self._voxels(grid):
            grid = self._coarser_by_proxy(self._coarser(grid))
            low = self.three_dimensional(grid)
        return low, grid

    def _times_fewer(self, grid: TargetGrid) -> float:
        """How many times fewer voxels than at full resolution."""
        return math.prod(grid.spacing) / math.prod(self.grid.spacing)

    def _voxels(self, grid: TargetGrid) -> float:
        """Of the median image at this resolution, before its edges are rounded."""
        return math.prod(self.grid.shape) / self._times_fewer(grid)

    def _coarser_by_proxy(self, grid: TargetGrid) -> TargetGrid:
        """The first grid from here on at which the proxy's patch is large enough (a network's estimate may be slow)."""
        while True:
            fit = self.hooks.proxy(self.hooks.topologies(grid.spacing, grid.shape), self.preprocessing.labels.outputs)
            if math.prod(fit.topology.patch) >= LOW_RESOLUTION_BELOW * self._voxels(grid):
                return grid
            grid = self._coarser(grid)

    def _coarser(self, grid: TargetGrid) -> TargetGrid:
        full, spacing = self.grid, coarser(grid.spacing)
        z, y, x = (float(round(n * a / b)) for n, a, b in zip(full.shape, full.spacing, spacing, strict=True))
        return replace(grid, spacing=spacing, shape=(z, y, x))

    def _configuration(
        self, spacing: Sequence[float], shape: Sequence[float], *, images: float, inputs: int
    ) -> Configuration:
        """The configuration for ``images`` images of a median ``shape`` at ``spacing`` mm (two axes or three)."""
        options, outputs = self.hooks.options, self.preprocessing.labels.outputs
        topologies = self.hooks.topologies(spacing, shape)
        fit = self.hooks.fit(topologies, inputs, outputs)
        patch = fit.topology.patch
        batch, batch_decision = plan_batch(options, fit, images * math.prod(shape), unit=self.grid.voxel_name)
        augmentation, rotation = plan_augmentation(patch)
        mirroring = of_patch(self.mirroring, self.grid.order, len(patch))
        architecture = self.hooks.architecture(inputs, outputs, fit.topology)
        # Slices of a 2D configuration keep their own spacing.
        z, y, x = spacing if len(spacing) == 3 else (None, *spacing)
        one = self.grid.cases == 1
        voxel = lengths(spacing, self.grid.unit)
        why = f"{'the only case' if one else 'median of the cases'}, cropped, at {voxel}"
        return Configuration(
            preprocessing=msgspec.structs.replace(self.preprocessing, spacing_mm=(z, y, x), chunk=as_3d(patch)),
            architecture=msgspec.structs.replace(
                architecture, initial_logits=self.initial_logits, checkpointing=fit.checkpointing is not None
            ),
            batch_size=batch,
            mirror_axes=mirroring.axes,
            swap_axis=mirroring.swap_axis,
            swapped_labels=mirroring.swapped_labels,
            augmentation=augmentation,
            training_memory_bytes=fit.bytes_of(batch),
            decisions=(
                Decision(about="median image", value=format_shape(shape), why=why),
                patch_decision(options, topologies, fit, shape, grid=self.grid),
                downsampling_decision(fit.topology, voxel, published=options.published, unit=self.grid.voxel_name),
                batch_decision,
                *checkpointing_decision(fit),
                rotation,
            ),
        )


def _with_dice(configuration: Configuration, batch: bool, why: str) -> Configuration:
    """The configuration with Dice summed over the batch, or taken of each patch (rule 12), and the reason."""
    decision = Decision(about="Dice", value="over the batch" if batch else "of each patch", why=why)
    decisions = (*configuration.decisions, decision)
    return msgspec.structs.replace(configuration, decisions=decisions, loss=LossPlan(batch_dice=batch))
