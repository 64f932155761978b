"""`unetrpp_export`: write a trained model as one zip for another machine, or as ONNX files for another program."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from unetrpp.core.command_line import Parser, path_or_hub, run
from unetrpp.core.reply import Outcome

EXAMPLES = """
unetrpp_export -m unetrpp_workspace/results/Hippocampus/unetrpp__3d_fullres -o hippocampus.zip
unetrpp_export -m MODEL_FOLDER -o one_fold.zip --folds 0
unetrpp_export -m MODEL_FOLDER --onnx hippocampus_onnx
unetrpp_export -m MODEL_FOLDER -o hf://OWNER/hippocampus
"""


def build_parser() -> Parser:
    parser = Parser(
        "unetrpp_export",
        "Write a model folder into one zip (weights only, plans, hashes and a model card), or its networks as ONNX files "
        "with all steps of pre- and post-processing as JSON. Neither contains the name of a training case.",
        EXAMPLES,
        workspace=False,
    )
    add = parser.add_argument
    add(
        "-m",
        "--model",
        type=Path,
        required=True,
        metavar="MODEL_FOLDER",
        help="unetrpp_workspace/results/<dataset>/<plans>__<configuration>",
    )
    written = parser.add_mutually_exclusive_group(required=True)
    what = "the file to write, or hf://OWNER/NAME on the Hugging Face Hub (needs unetrpp[hub]), for unetrpp_import"
    written.add_argument("-o", "--output", type=path_or_hub, metavar="ZIP", help=what)
    what = 'the folder to write, for any ONNX runtime: fold_K.onnx, model.json (pip install "unetrpp[onnx]")'
    written.add_argument("--onnx", type=Path, metavar="FOLDER", help=what)
    add(
        "--folds",
        nargs="+",
        metavar="FOLD",
        help="such as 0 1 or 0-4, or fold_all (default: all trained ones but fold_all, unless it is the only one)",
    )
    add("--checkpoint", choices=["final", "best", "latest"], default="final", help="which checkpoint (default: final)")
    add("--overwrite", action="store_true", help="replace a zip of the same name, or a folder of an earlier export")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    return run(build_parser(), work, argv)


def result_types() -> dict[str, object]:
    """What ``--json`` gives."""
    from unetrpp.cli.results import Exported

    return {"": Exported}


def work(arguments: argparse.Namespace) -> Outcome:
    from unetrpp.cli.results import Exported
    from unetrpp.core.text import quoted
    from unetrpp.model.folder import typed_folds

    options = {"checkpoint": arguments.checkpoint, "overwrite": arguments.overwrite}
    folds = typed_folds(arguments.folds, [arguments.model], arguments.checkpoint)
    if isinstance(arguments.output, str):
        from unetrpp.export.hub import publish_model

        address = publish_model(arguments.model, arguments.output, folds=folds, **options)
        print(f"{address}\nnext: unetrpp_import {address} (where the model is to predict)")
        return Outcome(Exported((address,)))

    if arguments.onnx is None:
        from unetrpp.export.model_zip import export_model

        path = export_model(arguments.model, arguments.output, folds=folds, **options)
        print(f"{path} ({path.stat().st_size / 1e6:.1f} MB)")
        print(f"next: unetrpp_import {quoted(path)} (where the model is to predict)")
        return Outcome(Exported((str(path),)))

    from unetrpp.export.onnx import export_onnx

    deployment = export_onnx(arguments.model, arguments.onnx, folds=folds, **options)
    paths = [arguments.onnx / network.file for network in deployment.networks]
    for path, network in zip(paths, deployment.networks, strict=True):
        difference = f"within {network.largest_difference:.1g} of PyTorch's logits"
        print(f"{path} ({path.stat().st_size / 1e6:.1f} MB, {difference})")
    return Outcome(Exported(tuple(map(str, paths)), deployment))


if __name__ == "__main__":
    sys.exit(main())
