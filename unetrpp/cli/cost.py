"""`unetrpp_cost`: parameters, multiply-adds and memory of planned networks, computed without a GPU."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from unetrpp.core.command_line import Parser, positive, run
from unetrpp.core.reply import Outcome

if TYPE_CHECKING:
    from unetrpp.cli.results import NetworkCost
    from unetrpp.plans.architecture import Architecture

PRESETS = ("synapse", "acdc", "tumor", "lung")
PLANNED_PRESETS = ("resenc-m", "resenc-l", "resenc-xl")  # whose networks depend on the dataset
EXAMPLES = """
unetrpp_cost unetrpp_workspace/preprocessed/Hippocampus/unetrpp.json
unetrpp_cost unetrpp_workspace/preprocessed/Hippocampus/unet.json -c 3d_fullres --batch-size 4 --precision fp32
unetrpp_cost unetrpp_workspace/preprocessed/Hippocampus/resenc-l.json
unetrpp_cost synapse --batch-size 2
"""
HEADER = (
    "configuration",
    "network",
    "patch",
    "batch",
    "",
    "parameters",
    "bound to patch",
    "multiply-adds",
    "in training",
    "kept",
    "step",
)


def build_parser() -> Parser:
    parser = Parser(
        "unetrpp_cost",
        "Show parameters, multiply-adds of one patch and memory of a training step, by configuration and precision. "
        "Column 'in training': multiply-adds of the forward and backward pass; with checkpointing the forward pass counts twice. "
        "Column 'kept': activations that a batch keeps until the backward pass. Column 'step': the peak memory of a "
        "step with weights, gradients and optimiser states, without a GPU's convolution workspaces and allocator.",
        EXAMPLES,
        workspace=False,
    )
    add = parser.add_argument
    add("plans", metavar="PLANS", help=f"plans.json, or a published network: {', '.join(PRESETS)}")
    add("-c", "--configurations", nargs="+", metavar="NAME", help="configurations of the plans (default: all)")
    add("--batch-size", type=positive, metavar="N", help="patches per step (default: as planned, or 2)")
    add(
        "--precision",
        nargs="+",
        choices=("fp32", "bf16"),
        default=["fp32", "bf16"],
        help="number formats of the computation (default: both)",
    )
    add(
        "--optimizer",
        choices=("sgd", "adamw", "muon"),
        default="sgd",
        help="sgd and muon keep one state per weight, adamw two (default: sgd)",
    )
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    return run(build_parser(), work, argv)


def result_types() -> dict[str, object]:
    """What ``--json`` gives."""
    from unetrpp.cli.results import NetworkCost

    return {"": list[NetworkCost]}


def work(arguments: argparse.Namespace) -> Outcome:
    from unetrpp.cli.results import NetworkCost
    from unetrpp.core.text import text_table
    from unetrpp.networks.cost import estimate

    states = 2 if arguments.optimizer == "adamw" else 1
    found: list[NetworkCost] = []
    for name, (architecture, planned) in _networks(arguments).items():
        batch = arguments.batch_size or planned
        costs = [estimate(architecture, batch, precision, states) for precision in arguments.precision]
        found += [NetworkCost(name, architecture.network, architecture.patch, cost) for cost in costs]
    print(text_table([HEADER, *map(_row, found)], align="l"))
    return Outcome(found)


def _networks(arguments: argparse.Namespace) -> "dict[str, tuple[Architecture, int]]":
    """By configuration: the network and the planned batch size."""
    from unetrpp.core.errors import UserError
    from unetrpp.networks.presets import preset
    from unetrpp.plans.plans import read_plans

    if arguments.plans in PRESETS and not Path(arguments.plans).exists():
        if arguments.configurations:
            raise UserError(
                f"--configurations are those of a plans file; {arguments.plans} is one network, so leave them out"
            )
        return {arguments.plans: (preset(arguments.plans), 2)}
    if not Path(arguments.plans).is_file():
        if arguments.plans in PLANNED_PRESETS:
            raise UserError(
                f"{arguments.plans} has no network until it is planned for a dataset; give the plans file that "
                f"unetrpp_plan_and_preprocess DATASET --preset {arguments.plans} writes"
            )
        raise UserError(
            f"{arguments.plans} is neither a plans file nor a published network; give the JSON that "
            f"unetrpp_plan_and_preprocess writes, or one of {', '.join(PRESETS)}"
        )
    plans = read_plans(Path(arguments.plans))
    names = arguments.configurations or list(plans.configurations)
    chosen = {name: plans.configuration(name) for name in names}
    return {name: (c.architecture, c.batch_size) for name, c in chosen.items()}


def _row(found: "NetworkCost") -> tuple[str, ...]:
    cost = found.cost
    return (
        found.configuration,
        found.network,
        "x".join(str(n) for n in found.patch),
        str(cost.batch_size),
        cost.precision,
        f"{cost.parameters / 1e6:.3f} M",
        f"{cost.patch_bound_parameters / cost.parameters:.1%}",
        f"{cost.multiply_adds / 1e9:.2f} G",
        f"{cost.step_multiply_adds / 1e9:.2f} G",
        f"{cost.activation_bytes / 2**30:.2f} GiB",
        f"{cost.training_bytes / 2**30:.2f} GiB",
    )


if __name__ == "__main__":
    sys.exit(main())
