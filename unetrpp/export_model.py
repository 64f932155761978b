"""`unetrpp_export`: a trained model as one zip for another machine."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from unetrpp.command_line import Parser, run

EXAMPLES = """
unetrpp_export -m unetrpp_workspace/results/Hippocampus/unetrpp__3d_fullres -o hippocampus.zip
unetrpp_export -m MODEL_FOLDER -o one_fold.zip --folds 0
"""


def build_parser() -> Parser:
    parser = Parser(
        "unetrpp_export",
        "Write a model folder into one zip: weights only, plans, hashes and a model card.",
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
    add("-o", "--output", type=Path, required=True, metavar="ZIP", help="the file to write")
    add("--folds", nargs="+", default=["all"], metavar="FOLD", help="such as 0 1 2; all: every trained one (default)")
    add("--checkpoint", choices=["final", "best", "latest"], default="final", help="default: final")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    return run(build_parser(), work, argv)


def work(arguments: argparse.Namespace) -> int:
    from unetrpp.model_exchange import export_model

    folds = arguments.folds[0] if len(arguments.folds) == 1 else arguments.folds
    export_model(arguments.model, arguments.output, folds, arguments.checkpoint)
    print(f"{arguments.output} ({arguments.output.stat().st_size / 1e6:.1f} MB)")
    return 0


if __name__ == "__main__":
    sys.exit(main())
