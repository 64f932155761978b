"""From a fingerprint to plans (experiment planning): what all planners share, and the three built-in ones."""

from abc import ABC, abstractmethod
from collections.abc import Sequence

import msgspec

from unetrpp.core.errors import UserError
from unetrpp.core.registry import find
from unetrpp.core.text import format_shape
from unetrpp.dataset.description import DatasetDescription
from unetrpp.networks.design import unet_architecture, unetrpp_architecture
from unetrpp.networks.presets import preset
from unetrpp.planners.configurations import ConfigurationPlanner
from unetrpp.planners.options import Options
from unetrpp.planners.rules.initial_logits import plan_initial_logits
from unetrpp.planners.rules.mirroring import plan_mirroring
from unetrpp.planners.rules.normalization import plan_normalization
from unetrpp.planners.rules.patch_and_batch import Fit, fit_by_cost, fit_by_proxy
from unetrpp.planners.rules.plan_warnings import dataset_warnings, patch_warnings
from unetrpp.planners.rules.spacing import plan_target_grid
from unetrpp.planners.rules.storage import plan_storage
from unetrpp.planners.rules.topology import Topology, candidates, pool
from unetrpp.planners.rules.wording import axis_names
from unetrpp.plans.architecture import Architecture
from unetrpp.plans.fingerprint import Fingerprint
from unetrpp.plans.plans import Configuration, Plans, Preprocessing


class Planner(ABC):
    """All rules; a subclass decides which network is planned (``architecture``), and may override any other method.

    A package registers its subclass under ``unetrpp.planners`` (docs/extending.md).
    """

    name: str  # as the plans record it

    def __init__(self, options: Options | None = None):
        self.options = options or Options()

    @abstractmethod
    def architecture(self, inputs: int, outputs: int, topology: Topology) -> Architecture:
        """The network of ``inputs`` channels and ``outputs`` classes or regions for this patch and these strides."""

    def topologies(self, spacing: Sequence[float], shape: Sequence[float]) -> list[Topology]:
        """Patches with their strides, largest first, never above the padded median image; or the requested patch.

        Args:
            spacing: mm, in plan order; of two axes for a 2D configuration.
            shape: of the median image at this spacing.

        Raises:
            UserError: the requested patch has other axes, or is not divisible by the strides.
        """
        if self.options.patch is None:
            return list(candidates(spacing, shape, clip=True))
        return [_topology_of(self.options.patch, spacing)]

    def fit(self, topologies: Sequence[Topology], inputs: int, outputs: int) -> Fit:
        """The largest of ``topologies`` whose training step fits the GPU."""

        def network(topology: Topology) -> Architecture:
            return self.architecture(inputs, outputs, topology)

        budget, batch = self.options.gpu_memory_gb, self.options.batch_size
        return fit_by_cost(topologies, network, outputs, gpu_memory_gb=budget, batch_size=batch)

    def plan(
        self, fingerprint: Fingerprint, description: DatasetDescription, plans_name: str, names: Sequence[str] = ()
    ) -> Plans:
        """Plan the named configurations; without names the one to start with (3d_fullres, or 2d for flat images).

        Raises:
            UserError: a configuration does not suit this dataset, or a channel's name looks misspelt.
        """
        options, labels = self.options, description.labels
        names_of_axes = axis_names(description.file_ending)
        grid, grid_decisions, grid_warnings = plan_target_grid(fingerprint, options.spacing, names_of_axes)
        normalization, channel_decisions = plan_normalization(description.channel_names, fingerprint)
        storage = plan_storage(options.store, normalization)
        mirroring = plan_mirroring(fingerprint, labels, options.mirror)
        # Published networks start with random heads.
        initial = None if options.preset else plan_initial_logits(fingerprint, labels)
        preprocessing = Preprocessing(
            transpose=grid.order,
            spacing_mm=grid.spacing,
            normalization=normalization,
            labels=labels,
            dtype=options.store,
            chunk=(1, 1, 1),  # each configuration sets its own
        )
        maker = ConfigurationPlanner(
            hooks=self,
            preprocessing=preprocessing,
            grid=grid,
            mirroring=mirroring,
            initial_logits=initial.logits if initial else (),
        )
        configurations: dict[str, Configuration] = {}
        for name in names or ["2d" if grid.flat else "3d_fullres"]:
            configurations |= maker.plan(name)
        warnings = [*grid_warnings, *dataset_warnings(fingerprint, grid)]
        for name, configuration in configurations.items():
            found = patch_warnings(fingerprint, grid, configuration, patch_asked=options.patch is not None)
            warnings += [f"{name}: {warning}" for warning in found]
        decisions = [*grid_decisions, *channel_decisions, *storage, mirroring.decision]
        return Plans(
            dataset=description.name,
            name=plans_name,
            planner=self.name,
            options=options.as_text(),
            channel_names=description.channel_names,
            labels=labels,
            file_ending=description.file_ending,
            configurations=configurations,
            warnings=tuple(warnings),
            decisions=(*decisions, *([initial.decision] if initial else [])),
        )


def _topology_of(patch: tuple[int, ...], spacing: Sequence[float]) -> Topology:
    """
    Raises:
        UserError: the patch has another number of axes, or is not a multiple of what its pooling needs.
    """
    if len(patch) != len(spacing):
        raise UserError(f"--patch has {len(patch)} axes, but the configuration has {len(spacing)}; give one per axis")
    topology = pool(patch, spacing)
    if topology.patch != patch:
        larger, divisors = format_shape(topology.patch), format_shape(topology.divisors)
        raise UserError(
            f"--patch {format_shape(patch)} is not a multiple of {divisors}, which downsampling needs; use {larger}"
        )
    return topology


class UnetrppPlanner(Planner):
    """UNETR++, the default."""

    name = "unetrpp"

    def architecture(self, inputs: int, outputs: int, topology: Topology) -> Architecture:
        return unetrpp_architecture(inputs, outputs, topology.patch, topology.strides, width=self.options.width)


class UNetPlanner(Planner):
    """nnU-Net's plain U-Net with nnU-Net's own patches and memory budget, so that results compare."""

    name = "unet"

    def topologies(self, spacing: Sequence[float], shape: Sequence[float]) -> list[Topology]:
        """Like the base class, except that a patch may exceed the median image."""
        if self.options.patch is None:
            return list(candidates(spacing, shape, clip=False))
        return super().topologies(spacing, shape)

    def fit(self, topologies: Sequence[Topology], inputs: int, outputs: int) -> Fit:
        budget, batch = self.options.gpu_memory_gb, self.options.batch_size
        return fit_by_proxy(topologies, outputs, gpu_memory_gb=budget, batch_size=batch)

    def architecture(self, inputs: int, outputs: int, topology: Topology) -> Architecture:
        patch, strides, kernels = topology
        return unet_architecture(inputs, outputs, patch, strides, kernels=kernels, width=self.options.width)


class ResidualUNetPlanner(Planner):
    """The U-Net with a residual encoder."""

    name = "resunet"

    def architecture(self, inputs: int, outputs: int, topology: Topology) -> Architecture:
        patch, strides, kernels = topology
        return unet_architecture(
            inputs, outputs, patch, strides, kernels=kernels, residual=True, width=self.options.width
        )


class PresetPlanner(Planner):
    """UNETR++ with patch and network as published for one of its datasets; new trainings use the corrected layout."""

    name = UnetrppPlanner.name

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


BUILT_IN: tuple[type[Planner], ...] = (UnetrppPlanner, UNetPlanner, ResidualUNetPlanner)
PLANNERS = {planner.name: planner for planner in BUILT_IN}


def make_planner(name: str, options: Options) -> Planner:
    """The planner of this name, built in, registered under ``unetrpp.planners`` or package.module:Class, or a preset's.

    Raises:
        UserError: a preset is combined with another planner than UNETR++'s or with a size of its own, or there is no planner
            of this name.
    """
    if options.preset is None:
        planner = find("planner", name, PLANNERS, allow_import_path=True)(options)
        planner.name = name  # which the plans record
        return planner
    if name != UnetrppPlanner.name:
        raise UserError(f"--preset is for UNETR++, not for --planner {name}; leave one of the two out")
    for option, given in (("--patch", options.patch is not None), ("--width", options.width != Options.width)):
        if given:
            raise UserError(
                f"--preset takes patch and network as published, so {option} has no effect; leave one of the two out"
            )
    return PresetPlanner(options, options.preset)
