"""One configuration: from a target grid to patch, network, batch, augmentation and their reasons."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import msgspec

from unetrpp.core.errors import UserError
from unetrpp.core.text import format_bytes, format_mm, format_shape
from unetrpp.planners.options import Measures, Options
from unetrpp.planners.rules.memory import LARGEST_SHARE, SMALLEST_BATCH, Fit, fit_by_proxy
from unetrpp.planners.rules.mirroring import LEFT_RIGHT, Mirroring
from unetrpp.planners.rules.spacing import coarser
from unetrpp.planners.rules.topology import Topology
from unetrpp.plans.architecture import Architecture
from unetrpp.plans.plans import AugmentationPlan, Configuration, Decision, LossPlan, Preprocessing

DUMMY_2D = 3  # a patch this much longer than its first axis is augmented in plane only
ELONGATED = 1.5  # a 2D patch more elongated than this is hardly rotated
LOW_RESOLUTION_BELOW = 0.25  # share of the median image in a patch that asks for a low-resolution stage
WORTHWHILE = 2  # the low-resolution image must have this factor fewer voxels

CASCADE = "3d_cascade"
CONFIGURATIONS = ("3d_fullres", "2d", "3d_lowres", CASCADE)


class Network(Protocol):
    """What the planners differ in."""

    options: Options

    def topologies(self, spacing: Sequence[float], shape: Sequence[float]) -> list[Topology]: ...

    def architecture(self, inputs: int, outputs: int, topology: Topology) -> Architecture: ...

    def fit(self, topologies: Sequence[Topology], inputs: int, outputs: int) -> Fit: ...


@dataclass(frozen=True)
class Draft:
    """What all configurations of one dataset share; each is made on demand."""

    network: Network
    preprocessing: Preprocessing  # at full resolution, the chunk still open
    measures: Measures
    mirroring: Mirroring
    initial_logits: tuple[float, ...]  # of a fresh network

    @property
    def channels(self) -> int:
        return len(self.preprocessing.normalization)

    def make(self, name: str) -> dict[str, Configuration]:
        """The configuration of this name; a cascade brings its first stage along.

        Raises:
            UserError: there is no such configuration, or it makes no sense for this dataset.
        """
        if name not in CONFIGURATIONS:
            raise UserError(f"unknown configuration {name!r}; choose among {', '.join(CONFIGURATIONS)}")
        if name == "2d":
            return {name: self.two_dimensional()}
        if self.measures.flat:
            raise UserError(
                f"{name} needs three axes, but the median image has {format_shape(self.measures.shape)} voxels; use 2d"
            )
        if name == "3d_fullres":
            return {name: self.full_resolution()}
        low = self.low_resolution()
        return {"3d_lowres": low} if name == "3d_lowres" else {"3d_lowres": low, CASCADE: self.cascade()}

    def full_resolution(self) -> Configuration:
        """Dice sums run over the batch where the images are so large that there is a low-resolution stage."""
        full = self.three_dimensional(self.measures)
        share = min(1.0, math.prod(full.patch) / math.prod(self.measures.shape))
        times = LOW_RESOLUTION_BELOW / share  # of a patch that was asked for and is that of every resolution
        if self.network.options.patch is None:
            times = self._times_fewer(self._quarter_in_a_patch()[1])
        so = "so many miss a class or have little of it" if times >= WORTHWHILE else "enough to have most classes"
        return _with_dice(full, times >= WORTHWHILE, f"a patch holds {share:.0%} of the median image, {so}")

    def three_dimensional(self, measures: Measures, inputs: int | None = None) -> Configuration:
        spacing, shape = measures.spacing, measures.shape
        return self._configuration(spacing, shape, spacing, measures.cases, inputs or self.channels)

    def two_dimensional(self) -> Configuration:
        """Slices along the plan's first axis, which keep their own spacing."""
        spacing, shape = self.measures.spacing, self.measures.shape
        slices = self.measures.cases * shape[0]
        flat = self._configuration(spacing[1:], shape[1:], (None, spacing[1], spacing[2]), slices, self.channels)
        return _with_dice(flat, True, "a 2D patch is one slice at most, and many miss a class or have little of it")

    def low_resolution(self) -> Configuration:
        """Coarser until a patch holds a quarter of the median image (rule 8)."""
        low, measures = self._quarter_in_a_patch()
        times = self._times_fewer(measures)
        if times < WORTHWHILE:
            share = math.prod(self.three_dimensional(self.measures).patch) / math.prod(self.measures.shape)
            raise UserError(
                f"3d_lowres is of no use here: a patch at full resolution holds {share:.0%} of the median image, "
                f"and a coarser one would have only {times:.1f} times fewer voxels; train 3d_fullres"
            )
        why = f"the first spacing at which a patch holds {LOW_RESOLUTION_BELOW:.0%} of the median image; {times:.1f} times fewer voxels"
        low = _with_dice(low, False, "a patch holds enough of the median image to have most classes")
        return _with(
            low,
            Decision(
                about="low resolution", value=f"{format_mm(measures.spacing)}, {format_shape(measures.shape)}", why=why
            ),
        )

    def _quarter_in_a_patch(self) -> tuple[Configuration, Measures]:
        """The finest configuration of which a patch holds a quarter of the median image, and its grid."""
        measures = self.measures
        low = self.three_dimensional(measures)
        while math.prod(low.patch) < LOW_RESOLUTION_BELOW * math.prod(measures.shape):
            measures = self._coarser_by_proxy(_coarser(measures, self.measures))
            low = self.three_dimensional(measures)
        return low, measures

    def _times_fewer(self, measures: Measures) -> float:
        """How many times fewer voxels than at full resolution."""
        return math.prod(self.measures.shape) / math.prod(measures.shape)

    def _coarser_by_proxy(self, measures: Measures) -> Measures:
        """The first spacing from here on at which the proxy's patch is large enough (a network's estimate is slow)."""
        options, outputs = self.network.options, self.preprocessing.labels.outputs
        while True:
            topologies = self.network.topologies(measures.spacing, measures.shape)
            patch = fit_by_proxy(topologies, outputs, options.gpu_memory_gb, options.batch_size).topology.patch
            if math.prod(patch) >= LOW_RESOLUTION_BELOW * math.prod(measures.shape):
                return measures
            measures = _coarser(measures, self.measures)

    def cascade(self) -> Configuration:
        """Full resolution with the first stage's segmentation as one-hot channels."""
        classes = len(self.preprocessing.labels.foreground)
        stage = self.three_dimensional(self.measures, self.channels + classes)
        why = f"a patch holds too little of the median image; the first stage's {classes} classes come as channels"
        stage = _with_dice(stage, True, "a patch holds too little of the median image to have every class")
        return _with(stage, Decision(about="cascade", value="after 3d_lowres", why=why), first_stage="3d_lowres")

    def _configuration(
        self,
        spacing: Sequence[float],
        shape: Sequence[float],
        resample_to: tuple[float | None, float | None, float | None],
        images: float,
        inputs: int,
    ) -> Configuration:
        """For ``images`` images of a median ``shape`` at ``spacing`` (two axes or three)."""
        options, outputs = self.network.options, self.preprocessing.labels.outputs
        topologies = self.network.topologies(spacing, shape)
        fit = self.network.fit(topologies, inputs, outputs)
        patch = fit.topology.patch
        cap = max(SMALLEST_BATCH, round(images * math.prod(shape) * LARGEST_SHARE / math.prod(patch)))
        batch = options.batch_size or max(SMALLEST_BATCH, min(fit.batch_size, cap))
        augmentation = plan_augmentation(patch)
        axes, side, pairs = self._mirrored(len(patch))
        z, y, x = (*(1,) * (3 - len(patch)), *patch)
        network = self.network.architecture(inputs, outputs, fit.topology)
        return Configuration(
            preprocessing=_replaced(self.preprocessing, spacing_mm=resample_to, chunk=(z, y, x)),
            architecture=msgspec.structs.replace(network, initial_logits=self.initial_logits),
            batch_size=batch,
            mirror_axes=axes,
            swap_axis=side,
            swapped_labels=pairs,
            augmentation=augmentation,
            training_memory_bytes=fit.bytes_of(batch),
            decisions=(
                Decision(
                    about="median image", value=format_shape(shape), why=f"median of the cases at {format_mm(spacing)}"
                ),
                _patch_reason(options, topologies, fit),
                _topology_reason(fit.topology, spacing),
                _batch_reason(options, fit, batch, cap),
                _augmentation_reason(patch, augmentation),
            ),
        )

    def _mirrored(self, dimensions: int) -> tuple[tuple[int, ...], int | None, tuple[tuple[int, int], ...]]:
        """Axes of a patch, which of them exchanges left and right labels, and those."""
        skipped = 3 - dimensions  # a 2D patch has no first plan axis
        places = {axis: self.measures.order.index(axis) - skipped for axis in self.mirroring.axes}
        axes = tuple(sorted(place for place in places.values() if place >= 0))
        side = places.get(LEFT_RIGHT, -1)
        return (axes, side, self.mirroring.pairs) if self.mirroring.pairs and side >= 0 else (axes, None, ())


def plan_augmentation(patch: Sequence[int]) -> AugmentationPlan:
    """Rotation by the patch's shape (rule 11).

    >>> plan_augmentation((16, 320, 320)).rotation_degrees, plan_augmentation((128, 128, 128)).rotation_degrees
    ((180.0, 0.0, 0.0), (30.0, 30.0, 30.0))
    """
    if len(patch) == 2:
        angle = 15.0 if max(patch) > ELONGATED * min(patch) else 180.0
        return AugmentationPlan(rotation_degrees=(angle, 0.0, 0.0), in_plane_only=True)
    if max(patch) > DUMMY_2D * patch[0]:
        return AugmentationPlan(rotation_degrees=(180.0, 0.0, 0.0), in_plane_only=True)
    return AugmentationPlan(rotation_degrees=(30.0, 30.0, 30.0))


def _coarser(measures: Measures, original: Measures) -> Measures:
    spacing = coarser(measures.spacing)
    z, y, x = (float(round(n * a / b)) for n, a, b in zip(original.shape, original.spacing, spacing, strict=True))
    return replace(measures, spacing=spacing, shape=(z, y, x))


def _patch_reason(options: Options, topologies: Sequence[Topology], fit: Fit) -> Decision:
    patch = fit.topology.patch
    if options.patch is not None or options.preset is not None:
        why = f"published for {options.preset}" if options.preset else "asked for"
        return Decision(
            about="patch", value=format_shape(patch), why=f"{why}; at batch 2 it needs {format_bytes(fit.bytes_of(2))}"
        )
    first = topologies[0].patch
    shrunk = (
        f"shrunk from {format_shape(first)} in {fit.tried - 1} steps" if fit.tried > 1 else "no shrinking was needed"
    )
    why = f"the largest patch of the median image's proportions that fits {fit.budget}; {shrunk}"
    return Decision(about="patch", value=format_shape(patch), why=why)


def _topology_reason(topology: Topology, spacing: Sequence[float]) -> Decision:
    steps = ", ".join(format_shape(stride) for stride in topology.strides) or "none"
    smallest = tuple(n // d for n, d in zip(topology.patch, topology.divisors, strict=True))
    why = (
        f"axes within a factor 2 of the finest spacing ({format_mm(spacing)}) are halved while 8 voxels long; "
        f"{format_shape(smallest)} remain"
    )
    return Decision(about="downsampling", value=steps, why=why)


def _batch_reason(options: Options, fit: Fit, batch: int, cap: int) -> Decision:
    if options.batch_size is not None:
        why = f"asked for; memory allows {fit.batch_size}, 5 % of the dataset is {cap}"
    else:
        why = f"memory allows {fit.batch_size}, 5 % of the dataset's voxels are {cap} patches, and at least {SMALLEST_BATCH}"
    memory = format_bytes(fit.bytes_of(batch))
    return Decision(about="batch size", value=str(batch), why=f"{why}; {memory} estimated ({fit.measured_by})")


def _augmentation_reason(patch: Sequence[int], plan: AugmentationPlan) -> Decision:
    ratio = max(patch) / (min(patch) if len(patch) == 2 else patch[0])
    where = "in plane only" if plan.in_plane_only else "about all axes"
    why = f"the longest edge is {ratio:.1f} times the {'shortest' if len(patch) == 2 else 'first'}"
    return Decision(about="rotation", value=f"up to {max(plan.rotation_degrees):g} degrees, {where}", why=why)


def _with(configuration: Configuration, decision: Decision, **changes: Any) -> Configuration:
    decisions = (decision, *configuration.decisions)
    return msgspec.structs.replace(configuration, decisions=decisions, **changes)


def _with_dice(configuration: Configuration, batch: bool, why: str) -> Configuration:
    """The Dice of a class taken over the batch or of each patch (rule 12)."""
    decision = Decision(about="Dice", value="over the batch" if batch else "of each patch", why=why)
    decisions = (*configuration.decisions, decision)
    return msgspec.structs.replace(configuration, decisions=decisions, loss=LossPlan(batch_dice=batch))


def _replaced(preprocessing: Preprocessing, **changes: Any) -> Preprocessing:
    return msgspec.structs.replace(preprocessing, **changes)
