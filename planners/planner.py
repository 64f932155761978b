"""From a fingerprint to plans: three planners that share every rule and differ in the network and its budget."""

import math
from collections.abc import Sequence

import msgspec

from unetrpp.core.errors import UserError
from unetrpp.core.registry import find
from unetrpp.core.text import format_mm, format_shape
from unetrpp.dataset.description import DatasetDescription
from unetrpp.io.geometry import reorder
from unetrpp.networks.design import unet_architecture, unetrpp_architecture
from unetrpp.networks.presets import preset
from unetrpp.planners.configurations import Draft
from unetrpp.planners.options import FLAT, Measures, Options
from unetrpp.planners.rules.cautions import dataset_warnings, patch_warnings
from unetrpp.planners.rules.first_output import plan_first_output
from unetrpp.planners.rules.memory import Fit, fit_by_cost, fit_by_proxy
from unetrpp.planners.rules.mirroring import plan_mirroring
from unetrpp.planners.rules.normalization import plan_normalization
from unetrpp.planners.rules.spacing import median_resampled_shape, plan_order, target_spacing
from unetrpp.planners.rules.storage import plan_storage
from unetrpp.planners.rules.topology import Topology, candidates, pool
from unetrpp.plans.architecture import Architecture
from unetrpp.plans.fingerprint import Fingerprint
from unetrpp.plans.plans import Configuration, Decision, Plans, Preprocessing


class UnetrppPlanner:
    """UNETR++, the default."""

    name = "unetrpp"
    within_median = True  # the patch never exceeds the padded median image

    def __init__(self, options: Options | None = None):
        self.options = options or Options()

    def topologies(self, spacing: Sequence[float], shape: Sequence[float]) -> list[Topology]:
        """Ever smaller patches with their strides, or the one that was asked for.

        Raises:
            UserError: the patch asked for does not suit.
        """
        patch = self.options.patch
        if patch is None:
            return list(candidates(spacing, shape, self.within_median))
        if len(patch) != len(spacing):
            raise UserError(
                f"--patch has {len(patch)} axes, but the configuration has {len(spacing)}; give one an axis"
            )
        topology = pool(patch, spacing)
        if topology.patch != patch:
            larger, divisors = format_shape(topology.patch), format_shape(topology.divisors)
            raise UserError(
                f"--patch {format_shape(patch)} is no multiple of {divisors}, what pooling needs; take {larger}"
            )
        return [topology]

    def architecture(self, inputs: int, outputs: int, topology: Topology) -> Architecture:
        return unetrpp_architecture(inputs, outputs, topology.patch, topology.strides, self.options.width)

    def fit(self, topologies: Sequence[Topology], inputs: int, outputs: int) -> Fit:
        def network(topology: Topology) -> Architecture:
            return self.architecture(inputs, outputs, topology)

        return fit_by_cost(topologies, network, outputs, self.options.gpu_memory_gb, self.options.batch_size)

    def plan(
        self, fingerprint: Fingerprint, description: DatasetDescription, plans_name: str, names: Sequence[str] = ()
    ) -> Plans:
        """Plan the named configurations; without names the one to start with (3d_fullres, or 2d for flat images).

        Raises:
            UserError: a configuration makes no sense for this dataset, or a channel's name looks misspelt.
        """
        measures, decisions, clusters = self._measures(fingerprint)
        normalization, reasons = plan_normalization(description.channel_names, fingerprint)
        reasons += plan_storage(self.options.store, normalization)
        mirroring = plan_mirroring(fingerprint, description.labels, self.options.mirror)
        preprocessing = Preprocessing(
            transpose=measures.order,
            spacing_mm=measures.spacing,
            normalization=normalization,
            labels=description.labels,
            dtype=self.options.store,
            chunk=(1, 1, 1),  # each configuration sets its own
        )
        first = None if self.options.preset else plan_first_output(fingerprint, description.labels)
        draft = Draft(self, preprocessing, measures, mirroring, first.logits if first else ())
        configurations: dict[str, Configuration] = {}
        for name in names or ["2d" if measures.flat else "3d_fullres"]:
            configurations |= draft.make(name)
        return Plans(
            dataset=description.name,
            name=plans_name,
            planner=self.name,
            options=self.options.as_text(),
            channel_names=description.channel_names,
            labels=description.labels,
            file_ending=description.file_ending,
            configurations=configurations,
            warnings=(
                *clusters,
                *dataset_warnings(fingerprint, measures),
                *(f"{n}: {w}" for n, c in configurations.items() for w in patch_warnings(fingerprint, measures, c)),
            ),
            decisions=(*decisions, *reasons, mirroring.decision, *([first.decision] if first else [])),
        )

    def _measures(self, fingerprint: Fingerprint) -> tuple[Measures, list[Decision], tuple[str, ...]]:
        target = target_spacing(fingerprint.cases)
        spacing, decision = target.spacing, target.decision
        if self.options.spacing is not None:
            why = f"asked for; the rule gives {format_mm(spacing)} ({decision.why})"
            spacing = self.options.spacing
            decision = Decision(about=decision.about, value=f"{format_mm(spacing)} (z, y, x)", why=why)
        shape = median_resampled_shape(fingerprint.cases, spacing)
        # A flat axis comes first whatever its nominal spacing: slices are taken along it.
        order = plan_order([math.inf if n < FLAT else s for n, s in zip(shape, spacing, strict=True)])
        first = "zyx"[order[0]]
        is_what = "flat" if shape[order[0]] < FLAT else "the coarsest"
        equal = len(set(spacing)) == 1 and is_what != "flat"
        why = f"{'all axes are equally fine' if equal else f'{first} is {is_what}'}; slices are taken along the first axis"
        reordered = Decision(about="axis order", value=", ".join("zyx"[axis] for axis in order), why=why)
        measures = Measures(order, reorder(spacing, order), reorder(shape, order), len(fingerprint.cases))
        return measures, [decision, reordered], target.warnings


class UNetPlanner(UnetrppPlanner):
    """nnU-Net's plain U-Net within nnU-Net's own budget, so that results compare."""

    name = "unet"
    within_median = False

    def fit(self, topologies: Sequence[Topology], inputs: int, outputs: int) -> Fit:
        return fit_by_proxy(topologies, outputs, self.options.gpu_memory_gb, self.options.batch_size)

    def architecture(self, inputs: int, outputs: int, topology: Topology) -> Architecture:
        strides, kernels = topology.strides, topology.kernels
        return unet_architecture(inputs, outputs, topology.patch, strides, kernels, width=self.options.width)


class ResidualUNetPlanner(UnetrppPlanner):
    """The U-Net with a residual encoder."""

    name = "resunet"

    def architecture(self, inputs: int, outputs: int, topology: Topology) -> Architecture:
        strides, kernels, width = topology.strides, topology.kernels, self.options.width
        return unet_architecture(inputs, outputs, topology.patch, strides, kernels, residual=True, width=width)


class PresetPlanner(UnetrppPlanner):
    """UNETR++ with patch and network as published for one of its datasets; new trainings use the corrected layout."""

    def __init__(self, options: Options, name: str):
        super().__init__(options)
        self.preset = preset(name)

    def topologies(self, spacing: Sequence[float], shape: Sequence[float]) -> list[Topology]:
        levels = self.preset.levels
        if len(spacing) != len(self.preset.patch):
            raise UserError("the presets are 3D networks; plan 3d_fullres, or 2d without --preset")
        strides, kernels = (tuple(level.stride for level in levels[1:]), tuple(level.kernel for level in levels))
        return [Topology(self.preset.patch, strides, kernels)]

    def architecture(self, inputs: int, outputs: int, topology: Topology) -> Architecture:
        return msgspec.structs.replace(self.preset, in_channels=inputs, out_channels=outputs, spatial_layout="correct")


PLANNERS = {planner.name: planner for planner in (UnetrppPlanner, UNetPlanner, ResidualUNetPlanner)}


def make_planner(name: str, options: Options) -> UnetrppPlanner:
    """The planner of this name, built in, registered under ``unetrpp.planners`` or package.module:Class, or a preset's.

    Raises:
        UserError: a preset was asked for of another network than UNETR++, or there is none of this name.
    """
    if options.preset is None:
        planner = find("planner", name, PLANNERS, allow_import_path=True)(options)
        planner.name = name  # which the plans record
        return planner
    if name != UnetrppPlanner.name:
        raise UserError(f"--preset is for UNETR++, not for --planner {name}; leave one of the two out")
    return PresetPlanner(options, options.preset)
