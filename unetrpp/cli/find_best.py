"""`unetrpp_find_best`: compare the trained configurations of a dataset and their pairs, choose post-processing."""

import argparse
import sys
from collections.abc import Sequence

from unetrpp.core.command_line import Parser, run

EXAMPLES = """
unetrpp_find_best Hippocampus
unetrpp_find_best Hippocampus --no-pairs
unetrpp_predict --best Hippocampus -i images/ -o segmentations/
"""


def build_parser() -> Parser:
    parser = Parser(
        "unetrpp_find_best",
        "Compare all validated models of a dataset and their pairs on the cross-validation, pick the post-processing, "
        "and write inference.json, which unetrpp_predict --best follows. Pairs are predicted with or without mirroring as "
        "their models were validated.",
        EXAMPLES,
    )
    parser.add_argument(
        "dataset", metavar="DATASET", help="name in the workspace, DatasetNNN_Name, its number, or a path"
    )
    parser.add_argument("--no-pairs", action="store_true", help="single models only: nothing has to be predicted")
    parser.add_argument(
        "--device", default="auto", metavar="DEVICE", help="auto, cpu, cuda, cuda:1, mps (default: auto)"
    )
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    return run(build_parser(), work, argv)


def work(arguments: argparse.Namespace) -> int:
    from unetrpp.core.workspace import Workspace
    from unetrpp.dataset.cases import read_dataset
    from unetrpp.evaluation.selection import find_best, selection_table, with_references
    from unetrpp.inference.selection import FILE

    workspace = Workspace.find(arguments.workspace)
    name, raw = workspace.find_raw(arguments.dataset)
    results = workspace.root / "results" / name
    dataset = with_references(read_dataset(raw, name), workspace.preprocessed(name) / "labels")
    selection = find_best(results, dataset, pairs=not arguments.no_pairs, device=arguments.device)
    print(selection_table(selection))
    print(f"written to {results / FILE}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
