"""`unetrpp_import`: unpack a model that unetrpp_export wrote, or convert models of nnU-Net v2 or of the released UNETR++ code."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from unetrpp.cli.call import call
from unetrpp.core.command_line import Parser, above_zero, path_or_hub, run
from unetrpp.core.reply import Outcome

LARGEST_GB = 20.0
EXAMPLES = """
unetrpp_import hippocampus.zip
unetrpp_import hippocampus.zip --workspace /data/unetrpp
unetrpp_import hf://OWNER/hippocampus@v1                               from the Hugging Face Hub
unetrpp_import nnUNet_results/Dataset004_Hippocampus                   all models of nnU-Net v2 in a folder
unetrpp_import exported_by_nnunet.zip --name Hippocampus
unetrpp_import model_final_checkpoint.model --preset synapse --dataset Synapse
unetrpp_import model_final_checkpoint.model --preset acdc --plans unetrpp_workspace/preprocessed/ACDC/acdc.json
"""


def build_parser() -> Parser:
    parser = Parser(
        "unetrpp_import",
        "Make model folders in the workspace's results from an exported zip, whose names, sizes and hashes are checked, from "
        "trained models of nnU-Net v2 (their folder or exported zip), or from a checkpoint of the released UNETR++ code (--preset), "
        "whose tensors are checked. Which of them FILE is, its content says. No code from a file is run.",
        EXAMPLES,
    )
    add = parser.add_argument
    what = "a zip of unetrpp_export, also as hf://OWNER/NAME[@REVISION] on the Hugging Face Hub (needs unetrpp[hub]); a zip, model "
    what += "folder or dataset folder of nnU-Net v2; or a released checkpoint"
    add("file", type=path_or_hub, metavar="FILE", help=what)
    add("--name", metavar="DATASET", help="name of the dataset in the workspace's results (default: its own)")
    add("--preset", choices=("synapse", "acdc", "tumor", "lung"), help="FILE is a released checkpoint of this network")
    source = parser.add_mutually_exclusive_group()
    what = "plans with the spacing, intensities and labels that a checkpoint lacks; dataset.json and fingerprint.json beside them"
    source.add_argument("--plans", type=Path, metavar="FILE", help=what)
    what = "raw dataset to plan instead (name in the workspace, or a folder)"
    source.add_argument("--dataset", metavar="DATASET", help=what)
    add("--configuration", metavar="NAME", help="configuration of the plans (default: 3d_fullres, or the only 3D one)")
    add(
        "--largest-gb",
        type=above_zero,
        default=LARGEST_GB,
        metavar="GB",
        help=f"refuse a zip that unpacks to more (default: {LARGEST_GB:g})",
    )
    add("--overwrite", action="store_true", help="replace a model of the same name")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    return run(build_parser(), work, argv)


def result_types() -> dict[str, object]:
    """What ``--json`` gives."""
    from unetrpp.cli.results import Imported

    return {"": Imported}


def work(arguments: argparse.Namespace) -> Outcome:
    from unetrpp.cli.results import Imported
    from unetrpp.core.errors import UserError
    from unetrpp.report.next_step import predict_command

    if isinstance(arguments.file, str):
        from unetrpp.export.hub import fetch_model

        if arguments.preset is not None:
            raise UserError(
                "--preset is for the file of a released checkpoint, and the hub's are exported models; leave it out"
            )
        arguments.file = fetch_model(arguments.file)
    if arguments.preset is None:
        if arguments.plans or arguments.dataset or arguments.configuration:
            raise UserError("--plans, --dataset and --configuration are for a released checkpoint; add --preset")
        targets = import_models(arguments)
        print("\n".join(map(str, targets)))
        print(f"next: {predict_command(targets[0])}")
        return Outcome(Imported(tuple(targets)))
    if arguments.name is not None:
        raise UserError("--name is not for a released checkpoint, whose plans or dataset name it; leave it out")
    if arguments.largest_gb != LARGEST_GB:
        raise UserError("--largest-gb is for a zip, not for a released checkpoint; leave it out")
    if not (arguments.plans or arguments.dataset):
        raise UserError("a checkpoint holds no spacing, intensities or labels; add --plans FILE or --dataset DATASET")
    if not arguments.file.is_file():
        raise UserError(f"{arguments.file} does not exist; check the path")
    if arguments.dataset:
        code = plan(arguments)
        if code:
            return Outcome(code=code)
    target = import_checkpoint(arguments)
    print(f"{target}\nnext: {predict_command(target)}")
    return Outcome(Imported((target,)))


def import_models(arguments: argparse.Namespace) -> list[Path]:
    """Import an exported zip, or what nnU-Net v2 left, as the content says; returns the model folders."""
    from unetrpp.export.model_zip import import_model, is_exported_model
    from unetrpp.export.nnunet.models import import_nnunet

    options = {"name": arguments.name, "workspace": arguments.workspace, "largest_gb": arguments.largest_gb}
    if is_exported_model(arguments.file):
        return [import_model(arguments.file, overwrite=arguments.overwrite, **options)]
    return import_nnunet(arguments.file, overwrite=arguments.overwrite, **options)


def plan(arguments: argparse.Namespace) -> int:
    """Plan the dataset with unetrpp_plan_and_preprocess, under the preset's name; returns its exit code."""
    from unetrpp.core.workspace import Workspace

    workspace = Workspace.find(arguments.workspace)
    name, _ = workspace.find_raw(arguments.dataset)
    arguments.plans = workspace.plans(name, arguments.preset)
    where = [arguments.dataset, "--workspace", str(workspace.root), "--plan-only"]
    return call(["plan_and_preprocess", *where, "--preset", arguments.preset, "--plans-name", arguments.preset])


def import_checkpoint(arguments: argparse.Namespace) -> Path:
    from unetrpp.export.released import import_released

    return import_released(
        arguments.file,
        preset=arguments.preset,
        plans=arguments.plans,
        configuration=arguments.configuration,
        workspace=arguments.workspace,
        overwrite=arguments.overwrite,
    )


if __name__ == "__main__":
    sys.exit(main())
