"""`unetrpp_find_best`: compare the trained models of a dataset and their pairs, and choose post-processing."""

import argparse
import sys
from collections.abc import Sequence

from unetrpp.core.command_line import Parser, run
from unetrpp.core.reply import Outcome

EXAMPLES = """
unetrpp_find_best Hippocampus
unetrpp_find_best Hippocampus --no-pairs
unetrpp_predict --best Hippocampus -i images/ -o segmentations/
"""


def build_parser() -> Parser:
    parser = Parser(
        "unetrpp_find_best",
        "Compare all validated models of a dataset and their pairs on the cross-validation, pick the post-processing, "
        "and write inference.json, which unetrpp_predict --best follows. Pairs are predicted with mirroring if their models "
        "were validated with it.",
        EXAMPLES,
        executor=True,
    )
    parser.add_argument(
        "dataset", metavar="DATASET", help="name in the workspace, DatasetNNN_Name, its number, or a path"
    )
    parser.add_argument(
        "--no-pairs", action="store_true", help="compare single models only, for which nothing has to be predicted"
    )
    parser.add_argument(
        "--device",
        default="auto",
        metavar="DEVICE",
        help="where pairs are predicted: auto, cpu, cuda, cuda:1, mps (default: auto)",
    )
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    return run(build_parser(), work, argv)


def result_types() -> dict[str, object]:
    """What ``--json`` gives."""
    from unetrpp.cli.results import Chosen

    return {"": Chosen}


def work(arguments: argparse.Namespace) -> Outcome:
    from unetrpp.cli.results import Chosen
    from unetrpp.core.workspace import Workspace
    from unetrpp.evaluation.find_best import find_best
    from unetrpp.evaluation.ranking import selection_table
    from unetrpp.report.next_step import best_command

    selection, path = find_best(
        arguments.dataset, workspace=arguments.workspace, pairs=not arguments.no_pairs, device=arguments.device
    )
    print(selection_table(selection))
    print(f"written to {path}\nnext: {best_command(Workspace.find(arguments.workspace), path.parent.name)}")
    return Outcome(Chosen(path, selection))


if __name__ == "__main__":
    sys.exit(main())
