"""`unetrpp_report`: show a trained model on one page: scores, best and worst cases, curves, reasons for its plans."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from unetrpp.core.command_line import Parser, run
from unetrpp.core.reply import Outcome

EXAMPLES = """
unetrpp_report unetrpp_workspace/results/Hippocampus/unetrpp__3d_fullres
unetrpp_report unetrpp_workspace/results/Hippocampus/unetrpp__3d_fullres -o hippocampus.html
unetrpp_report unetrpp_workspace/results/Hippocampus/unetrpp__3d_fullres --maps --device cuda
"""


def build_parser() -> Parser:
    parser = Parser(
        "unetrpp_report",
        "Write the cross-validation of a model, a viewer of its cases, its learning curves and the reasons for its plans as one "
        "self-contained HTML page.",
        EXAMPLES,
    )
    add = parser.add_argument
    add("model", type=Path, metavar="MODEL", help="a model folder with at least one validated fold")
    add("-o", "--output", type=Path, metavar="FILE", help="the page (default: report.html in the model folder)")
    add(
        "--maps",
        action="store_true",
        help="predict the shown cases again, for maps of their uncertainty and of the model's gates",
    )
    add("--device", default="auto", metavar="DEVICE", help="for --maps: auto, cpu, cuda, cuda:1 or mps (default: auto)")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    return run(build_parser(), work, argv)


def result_types() -> dict[str, object]:
    """What ``--json`` gives."""
    from unetrpp.cli.results import Page

    return {"": Page}


def work(arguments: argparse.Namespace) -> Outcome:
    from unetrpp.cli.results import Page
    from unetrpp.report.model_report import write_report
    from unetrpp.report.next_step import predict_command

    page = write_report(
        arguments.model,
        output=arguments.output,
        workspace=arguments.workspace,
        maps=arguments.maps,
        device=arguments.device,
    )
    print(f"report: {page}\nnext: {predict_command(arguments.model)}")
    return Outcome(Page(page))


if __name__ == "__main__":
    sys.exit(main())
