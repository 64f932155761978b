"""`unetrpp_import`: unpack a model that unetrpp_export wrote."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from unetrpp.command_line import Parser, run

EXAMPLES = """
unetrpp_import hippocampus.zip
unetrpp_import hippocampus.zip --workspace /data/unetrpp
"""


def build_parser() -> Parser:
    parser = Parser(
        "unetrpp_import",
        "Unpack an exported model into the workspace's results, checking names, sizes and hashes.",
        EXAMPLES,
    )
    parser.add_argument("zip", type=Path, metavar="ZIP", help="written by unetrpp_export")
    parser.add_argument(
        "--largest-gb", type=float, default=20.0, metavar="GB", help="refuse what unpacks to more (default 20)"
    )
    parser.add_argument("--overwrite", action="store_true", help="replace a model of the same name")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    return run(build_parser(), work, argv)


def work(arguments: argparse.Namespace) -> int:
    from unetrpp.model_exchange import import_model
    from unetrpp.workspace import Workspace

    results = Workspace.find(arguments.workspace).root / "results"
    print(import_model(arguments.zip, results, arguments.largest_gb, arguments.overwrite))
    return 0


if __name__ == "__main__":
    sys.exit(main())
