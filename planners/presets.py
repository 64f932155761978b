"""The planners of ``--preset``, and the one that the options ask for."""

from collections.abc import Sequence

import msgspec

from unetrpp.core.errors import UserError
from unetrpp.core.registry import find
from unetrpp.core.text import GIGABYTE, format_bytes
from unetrpp.networks.design import unet_architecture
from unetrpp.networks.presets import PRESETS, preset
from unetrpp.planners.options import Options
from unetrpp.planners.planner import PLANNERS, ElementPlanner, Planner, ResidualUNetPlanner, UnetrppPlanner
from unetrpp.planners.rules.element_budget import RESENC
from unetrpp.planners.rules.patch_and_batch import NETWORKS_STEP, Fit, fit_by_proxy
from unetrpp.planners.rules.topology import Topology
from unetrpp.plans.architecture import Architecture
from unetrpp.plans.plans import Configuration


class PresetPlanner(Planner):
    """UNETR++ with patch and network as published for one of its datasets; new trainings use the corrected layout."""

    name = UnetrppPlanner.name

    def __init__(self, options: Options, name: str):
        super().__init__(options)
        self.preset = preset(name)

    def topologies(self, spacing: Sequence[float], shape: Sequence[float]) -> list[Topology]:
        levels = self.preset.levels
        if len(spacing) != len(self.preset.patch):
            raise UserError("the presets of UNETR++ are 3D networks; plan 3d_fullres, or 2d without --preset")
        strides, kernels = (tuple(level.stride for level in levels[1:]), tuple(level.kernel for level in levels))
        return [Topology(self.preset.patch, strides, kernels)]

    def architecture(self, inputs: int, outputs: int, topology: Topology) -> Architecture:
        return msgspec.structs.replace(self.preset, in_channels=inputs, out_channels=outputs, spatial_layout="correct")


class ResEncPlanner(ElementPlanner):
    """The U-Net with a residual encoder, planned as nnU-Net 2.8.1 plans its ResEnc M, L and XL; its memory is our estimate."""

    name = ResidualUNetPlanner.name

    def __init__(self, options: Options, preset: str):
        super().__init__(options)
        self.preset, self.budget = preset, RESENC[preset]

    @property
    def plans_name(self) -> str:
        return self.preset

    def memory_warnings(self, configuration: Configuration) -> list[str]:
        meant, needed = self.budget.gigabytes, configuration.training_memory_bytes
        if needed <= meant * GIGABYTE:
            return []
        return [
            f"a training step needs {format_bytes(needed)} by our estimate, more than the {meant:g} GB that {self.preset} is meant for; "
            f"a smaller --batch-size needs less, and --planner {self.name} with --gpu-memory-gb {meant:g} stays below it"
        ]

    def architecture(self, inputs: int, outputs: int, topology: Topology) -> Architecture:
        patch, strides, kernels = topology
        return unet_architecture(inputs, outputs, patch, strides, kernels=kernels, residual=True)

    def proxy(self, topologies: Sequence[Topology], outputs: int) -> Fit:
        """A requested batch does not change the patch."""
        return fit_by_proxy(topologies, self.counted_outputs(outputs), of=self.budget)

    def fit(self, topologies: Sequence[Topology], inputs: int, outputs: int) -> Fit:
        fit = super().fit(topologies, inputs, outputs)
        return fit._replace(
            budget=self.budget.reason(len(fit.topology.patch)),
            limit="the budget",
            measured_by=f"{NETWORKS_STEP}; nnU-Net means it for {self.budget.gigabytes:g} GB",
        )


def make_planner(name: str, options: Options) -> Planner:
    """The planner of this name, built in, registered under ``unetrpp.planners`` or package.module:Class, or a preset's.

    Raises:
        UserError: a preset is combined with another network's planner or with a size of its own, or there is no planner of
            this name.
    """
    if options.preset is None:
        planner = find("planner", name, PLANNERS, allow_import_path=True)(options)
        planner.name = name  # which the plans record
        return planner
    if options.preset in RESENC:
        return _resenc_planner(name, options, options.preset)
    if options.preset not in PRESETS:
        raise UserError(f"preset {options.preset!r} is not one of {', '.join([*PRESETS, *RESENC])}")
    if name != UnetrppPlanner.name:
        raise UserError(f"--preset is for UNETR++, not for --planner {name}; leave one of the two out")
    _refuse_sizes(options, "--preset takes patch and network as published")
    return PresetPlanner(options, options.preset)


def _resenc_planner(name: str, options: Options, preset: str) -> Planner:
    fitting = (UnetrppPlanner.name, ResEncPlanner.name)  # the first is the default, so it may not have been asked for
    if name not in fitting:
        raise UserError(
            f"--preset {preset} is a U-Net with a residual encoder, not for --planner {name}; leave one of the two out"
        )
    _refuse_sizes(options, f"--preset {preset} takes patch and network by nnU-Net's rule")
    if options.gpu_memory_gb is not None:
        raise UserError(
            f"--preset {preset} plans for {RESENC[preset].gigabytes:g} GB as nnU-Net does, so --gpu-memory-gb has no effect; "
            f"leave one of the two out, or take --planner {ResidualUNetPlanner.name}, which plans for any memory"
        )
    return ResEncPlanner(options, preset)


def _refuse_sizes(options: Options, why: str) -> None:
    """
    Raises:
        UserError: ``options`` has a patch or a width, although a preset decides them.
    """
    for option, given in (("--patch", options.patch is not None), ("--width", options.width != Options.width)):
        if given:
            raise UserError(f"{why}, so {option} has no effect; leave one of the two out")
