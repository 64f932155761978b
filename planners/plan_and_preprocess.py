"""`unetrpp_plan_and_preprocess`: verify a raw dataset, measure it, plan the training and preprocess every case."""

import argparse
import sys
from collections.abc import Sequence

from unetrpp.core.command_line import SKIP_UNREADABLE, Parser, above_zero, own_options, positive, run
from unetrpp.core.reply import Outcome

EXAMPLES = """\
unetrpp_plan_and_preprocess Hippocampus
unetrpp_plan_and_preprocess Hippocampus --batch-size 2 --width 0.5 --processes 2
unetrpp_plan_and_preprocess Liver -c 3d_fullres 2d --gpu-memory-gb 24
unetrpp_plan_and_preprocess Liver --planner unet --plans-name nnunet_like
unetrpp_plan_and_preprocess Liver --preset resenc-l
unetrpp_plan_and_preprocess path/to/Dataset007_Pancreas --workspace /data/unetrpp"""


def main(argv: Sequence[str] | None = None) -> int:
    return run(build_parser(), work, argv)


def build_parser() -> Parser:
    p = Parser(
        "unetrpp_plan_and_preprocess",
        "Verify a raw dataset, measure it, plan the training and preprocess every case. "
        "The same command again resumes what was interrupted and repeats only what has changed.",
        EXAMPLES,
        executor=True,
    )
    add = p.add_argument
    add(
        "dataset", metavar="DATASET", help="name in the workspace, nnU-Net's DatasetNNN_Name or number, or a raw folder"
    )
    what = "3d_fullres, 2d, 3d_lowres, 3d_cascade with its 3d_lowres (default: 3d_fullres, or 2d for flat images)"
    add("-c", "--configurations", nargs="+", default=[], metavar="NAME", help=what)
    what = "the network: unetrpp (default), unet, resunet, or one that a package registers (docs/extending.md)"
    add("--planner", default="unetrpp", metavar="NAME", help=what)
    add(
        "-p",
        "--plans-name",
        metavar="NAME",
        help="name of the plans (default: the planner's, or the preset's if resenc)",
    )
    add(
        "--batch-size",
        type=positive,
        metavar="N",
        help="patches per training step (default: what memory and data allow)",
    )
    add("--width", type=above_zero, default=1.0, metavar="FACTOR", help="factor for all channel counts (default: 1)")
    add(
        "--gpu-memory-gb",
        type=above_zero,
        metavar="GB",
        help="size of the GPU to plan for (default: 8, whatever GPU this machine has)",
    )
    what = "training computes activations again instead of keeping them: half to two thirds of the memory, so larger patches for the "
    what += "same GPU, for a third more arithmetic (default: where the patch of --patch or a preset does not fit the GPU otherwise)"
    add("--checkpointing", action="store_true", help=what)
    add(
        "--spacing",
        type=above_zero,
        nargs=3,
        metavar=("Z", "Y", "X"),
        help="target spacing in mm (default: by the rules)",
    )
    what = "patch size, coarsest axis first (default: by the rules)"
    add("--patch", type=positive, nargs="+", metavar="VOXELS", help=what)
    presets = ("synapse", "acdc", "tumor", "lung", "resenc-m", "resenc-l", "resenc-xl")
    what = "patch and network as published for UNETR++ (synapse to lung), or as nnU-Net 2.8.1 plans its residual-encoder U-Nets "
    what += "for 8, 24 and 40 GB (resenc-m to resenc-xl)"
    add("--preset", choices=presets, help=what)
    what = "axes to mirror in training and prediction: auto (decided by the labels, default); exchange (all, swapping left and "
    what += "right labels); all; none; or some of z, y, x (left-right) such as zy"
    add("--mirror", default="auto", metavar="AXES", help=what)
    what = "attention modules: auto (EPA at its finest level; default of planned UNETR++); pooled (EPA at all published levels, "
    what += "independent of the patch); paper (as published; default of presets); none; experimental: focal (as auto, with gates and "
    what += "squeeze-and-excitation where foreground is hard to find); all"
    add("--attention", choices=("auto", "pooled", "paper", "none", "focal", "all"), help=what)
    what = "training loss: dice_ce (default); experimental: unified_focal, unified_focal_distance (voxels near a boundary count "
    what += "more), both with numbers from the labels; auto (the labels also decide whether distances count)"
    losses = ("dice_ce", "unified_focal", "unified_focal_distance", "auto")
    add("--loss", choices=losses, default="dice_ce", help=what)
    what = "attention modules of single levels: gate@1=1.5, se@3=off, epa@2=on (level 0 is full resolution)"
    add("--place", nargs="+", default=[], metavar="MODULE@LEVEL=GAMMA", help=what)
    what = "keep the cases of a patient in one fold: a pattern whose first group is the patient, or a CSV file of case,group"
    add("--group-by", metavar="REGEX|CSV", help=what)
    what = "precision of preprocessed images on disk; float16 halves their size (default: float32)"
    add("--store", choices=("float32", "float16"), default="float32", help=what)
    add("--processes", type=positive, metavar="N", help="worker processes (default: by cores and memory)")
    what = "repair sheared axes, and labels on another grid than their image, where that is safe; writes new files"
    add("--fix", action="store_true", help=what)
    add("--plan-only", action="store_true", help="measure and plan without preprocessing")
    add("--skip-unreadable", action="store_true", help=SKIP_UNREADABLE)
    add("--overwrite", action="store_true", help="measure, plan and preprocess again, replacing existing files")
    return p


def result_types() -> dict[str, object]:
    """What ``--json`` gives."""
    from unetrpp.planners.pipeline import PlanningResult

    return {"": PlanningResult}


def work(arguments: argparse.Namespace) -> Outcome:
    from unetrpp.planners.workers import start_method

    start_method()  # workers import while this process does
    from unetrpp.core.parallel import error_table
    from unetrpp.core.workspace import Workspace
    from unetrpp.planners.pipeline import plan_and_preprocess
    from unetrpp.report.next_step import next_command

    result = plan_and_preprocess(arguments.dataset, **own_options(arguments, "dataset"))
    if result.errors:
        print(error_table(result.errors), file=sys.stderr)
        return Outcome(result, 1)
    print(result.summary)
    print(f"next: {next_command(Workspace(result.folder.parent.parent), result.folder.name)}")
    return Outcome(result)


if __name__ == "__main__":
    sys.exit(main())
