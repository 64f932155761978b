"""`unetrpp_attention_report`: show what the focal gates and squeeze-and-excitations of a model do on one case."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from unetrpp.core.command_line import Parser, run
from unetrpp.core.reply import Outcome

EXAMPLES = """
unetrpp_attention_report unetrpp_workspace/results/Hippocampus/unetrpp__3d_fullres hippocampus_001
unetrpp_attention_report unetrpp_workspace/results/Hippocampus/unetrpp__3d_fullres scan.nii.gz --label scan_label.nii.gz
unetrpp_attention_report unetrpp_workspace/results/Brain/unetrpp__3d_fullres t1.nii.gz t2.nii.gz --fold 3 -o brain.html
"""


def build_parser() -> Parser:
    parser = Parser(
        "unetrpp_attention_report",
        "Show every focal gate's map on the image together with the label, and a table of gammas, contrasts and Dice changes, "
        "as one HTML page.",
        EXAMPLES,
    )
    add = parser.add_argument
    add("model", type=Path, metavar="MODEL", help="a model folder")
    what = "id of a training case of the dataset in the workspace, or the files of an image, one per channel"
    add("case", nargs="+", metavar="CASE", help=what)
    add("--label", type=Path, metavar="FILE", help="label of an image given by its files; without one there is no Dice")
    add("--fold", metavar="FOLD", help="a number, or fold_all (default: the first trained one)")
    add("--checkpoint", choices=["final", "best", "latest"], default="final", help="which checkpoint (default: final)")
    add("--device", default="auto", metavar="DEVICE", help="auto, cpu, cuda, cuda:1, mps (default: auto)")
    add(
        "-o", "--output", type=Path, metavar="FILE", help="the page (default: attention_CASE.html in the fold's folder)"
    )
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    return run(build_parser(), work, argv)


def result_types() -> dict[str, object]:
    """What ``--json`` gives."""
    from unetrpp.cli.results import AttentionPage

    return {"": AttentionPage}


def work(arguments: argparse.Namespace) -> Outcome:
    from unetrpp.cli.results import AttentionPage
    from unetrpp.core.text import text_table
    from unetrpp.report.attention_report import write_attention_report

    page, modules = write_attention_report(
        arguments.model,
        arguments.case,
        label=arguments.label,
        fold=arguments.fold,
        checkpoint=arguments.checkpoint,
        device=arguments.device,
        output=arguments.output,
        workspace=arguments.workspace,
    )
    print(text_table(modules))
    print(f"\npage: {page}")
    return Outcome(AttentionPage(page, modules))


if __name__ == "__main__":
    sys.exit(main())
