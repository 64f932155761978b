"""From a fingerprint to plans (experiment planning): what all planners share, and the three built-in ones.

planners/presets.py has those of ``--preset``.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence

from unetrpp.core.text import format_bytes
from unetrpp.dataset.description import DatasetDescription
from unetrpp.dataset.labels import LabelScheme
from unetrpp.networks.design import unet_architecture, unetrpp_architecture
from unetrpp.networks.training_memory import training_memory, usable_bytes
from unetrpp.planners.configurations import ConfigurationPlanner
from unetrpp.planners.options import Options
from unetrpp.planners.rules.attention import largest_placement
from unetrpp.planners.rules.checkpointing import fit_with_checkpointing, with_asked
from unetrpp.planners.rules.element_budget import PLAIN, ElementBudget
from unetrpp.planners.rules.initial_logits import plan_initial_logits
from unetrpp.planners.rules.mirroring import plan_mirroring
from unetrpp.planners.rules.normalization import plan_normalization
from unetrpp.planners.rules.patch_and_batch import DEFAULT_GPU_GB, NETWORKS_STEP, Fit, fit_by_proxy
from unetrpp.planners.rules.plan_warnings import dataset_warnings, patch_warnings
from unetrpp.planners.rules.spacing import plan_target_grid
from unetrpp.planners.rules.storage import plan_storage
from unetrpp.planners.rules.topology import Topology, candidates, topology_of
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

    @property
    def plans_name(self) -> str:
        """The name of its plans where the user gives none."""
        return self.name.rpartition(":")[2]

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
        return [topology_of(self.options.patch, spacing)]

    def fit(self, topologies: Sequence[Topology], inputs: int, outputs: int) -> Fit:
        """The largest of ``topologies`` whose training step fits the GPU, and whether it takes checkpointing."""

        def network(topology: Topology) -> Architecture:
            return largest_placement(self.architecture(inputs, outputs, topology), self.options)

        fit = fit_with_checkpointing(topologies, network, outputs, self.options)
        if self.options.attention == "focal":
            return fit._replace(measured_by=f"{NETWORKS_STEP} with a gate at every skip; the labels may place fewer")
        return fit

    def proxy(self, topologies: Sequence[Topology], outputs: int) -> Fit:
        """A quick guess of :meth:`fit`, with which the search for a low resolution starts."""
        budget, batch = self.options.gpu_memory_gb, self.options.batch_size
        return fit_by_proxy(topologies, outputs, gpu_memory_gb=budget, batch_size=batch)

    def memory_warnings(self, configuration: Configuration) -> list[str]:
        """That a training step needs more memory than the GPU has which is planned for."""
        gigabytes, needed = self.options.gpu_memory_gb or DEFAULT_GPU_GB, configuration.training_memory_bytes
        if needed <= usable_bytes(gigabytes):
            return []
        smaller = "a smaller --batch-size or --patch" if self.options.preset is None else "a smaller --batch-size"
        return [
            f"a training step needs {format_bytes(needed)} by our estimate, and a GPU of {gigabytes:g} GB has about "
            f"{format_bytes(round(usable_bytes(gigabytes)))} for it; {smaller} needs less, and --gpu-memory-gb plans for a larger GPU"
        ]

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
        # The networks of presets start with random heads, as theirs do.
        initial = None if options.preset else plan_initial_logits(fingerprint, labels)
        preprocessing = Preprocessing(
            transpose=grid.order,
            spacing_mm=grid.spacing,
            normalization=normalization,
            labels=labels,
            zero_outside_mask=any(channel.masked for channel in normalization),
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
        warnings = [*grid_warnings, *dataset_warnings(fingerprint, grid, description.groups)]
        for name, configuration in configurations.items():
            found = patch_warnings(fingerprint, grid, configuration, patch_asked=options.patch is not None)
            warnings += [f"{name}: {warning}" for warning in found]
            warnings += [f"{name}: {warning}" for warning in self.memory_warnings(configuration)]
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


class UnetrppPlanner(Planner):
    """UNETR++, the default."""

    name = "unetrpp"

    def architecture(self, inputs: int, outputs: int, topology: Topology) -> Architecture:
        return unetrpp_architecture(inputs, outputs, topology.patch, topology.strides, width=self.options.width)


class ElementPlanner(Planner):
    """Patch and batch as nnU-Net's planners choose them: a budget of feature-map elements stands for the GPU's memory, and a
    patch may exceed the median image."""

    budget: ElementBudget
    labels: LabelScheme | None = None  # of the dataset that is planned

    def plan(
        self, fingerprint: Fingerprint, description: DatasetDescription, plans_name: str, names: Sequence[str] = ()
    ) -> Plans:
        self.labels = description.labels
        return super().plan(fingerprint, description, plans_name, names)

    def topologies(self, spacing: Sequence[float], shape: Sequence[float]) -> list[Topology]:
        if self.options.patch is None:
            return list(candidates(spacing, shape, clip=False))
        return super().topologies(spacing, shape)

    def proxy(self, topologies: Sequence[Topology], outputs: int) -> Fit:
        memory, batch = self.options.gpu_memory_gb, self.options.batch_size
        counted = self.counted_outputs(outputs)
        return fit_by_proxy(topologies, counted, of=self.budget, gpu_memory_gb=memory, batch_size=batch)

    def fit(self, topologies: Sequence[Topology], inputs: int, outputs: int) -> Fit:
        """Patch and batch by nnU-Net's count, which knows neither the loss, large with many classes, nor checkpointing; memory is our
        estimate."""
        fit = self.proxy(topologies, outputs)
        network = self.architecture(inputs, outputs, fit.topology)
        fit = fit._replace(
            memory=training_memory(network), measured_by=f"{NETWORKS_STEP}; patch and batch follow {fit.measured_by}"
        )
        return (
            with_asked(fit, network, self.options.batch_size)._replace(budget=fit.budget)
            if self.options.checkpointing
            else fit
        )

    def counted_outputs(self, outputs: int) -> int:
        """Output channels in nnU-Net's count: one for every label of dataset.json, also for ignore and beside regions."""
        if self.labels is None:
            return outputs
        named = len(self.labels.regions) + 1 if self.labels.regions else len(self.labels.values)
        return named + (self.labels.ignore_value is not None)


class UNetPlanner(ElementPlanner):
    """nnU-Net's plain U-Net with nnU-Net's own patches and memory budget, so that results compare."""

    name = "unet"
    budget = PLAIN

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


BUILT_IN: tuple[type[Planner], ...] = (UnetrppPlanner, UNetPlanner, ResidualUNetPlanner)
PLANNERS = {planner.name: planner for planner in BUILT_IN}
