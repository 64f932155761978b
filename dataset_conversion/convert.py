"""The command `unetrpp_convert`: make a raw dataset from a downloaded public dataset or from a folder of your own."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from unetrpp.core.command_line import SKIP_UNREADABLE, Parser, positive, run
from unetrpp.dataset_conversion.folder_command import build_parser, convert

if TYPE_CHECKING:
    from unetrpp.dataset_conversion.raw import ConversionResult


def main(argv: Sequence[str] | None = None) -> int:
    arguments = list(sys.argv[1:] if argv is None else argv)
    layout = LAYOUTS.get(arguments[0]) if arguments else None
    if layout:
        parser, work = layout
        return run(parser(), work, arguments[1:])
    return run(_overview(), lambda _: 2, arguments)


def _overview() -> Parser:
    parser = Parser(
        "unetrpp_convert",
        "Turn a download into a raw dataset (nnU-Net v2's layout) in the workspace.",
        "unetrpp_convert msd Task04_Hippocampus.tar\nunetrpp_convert folder --help",
        workspace=False,
    )
    parser.add_argument("layout", choices=list(LAYOUTS), help="the layout of the download; each has its own --help")
    return parser


def _msd_parser() -> Parser:
    parser = Parser(
        "unetrpp_convert msd",
        "Convert a dataset of the Medical Segmentation Decathlon.",
        "unetrpp_convert msd Task04_Hippocampus.tar\nunetrpp_convert msd ~/data/Task04_Hippocampus --name hippocampus",
    )
    parser.add_argument("source", type=Path, metavar="SRC", help="its folder, .tar or .tar.gz")
    _add_common(parser)
    return parser


def _folder_parser() -> Parser:
    parser = build_parser()
    _add_common(parser)
    return parser


def _add_common(parser: Parser) -> None:
    parser.add_argument(
        "--name",
        metavar="NAME",
        help="name of the dataset (default: that of the source, without TaskNN_ or DatasetNNN_)",
    )
    parser.add_argument("--skip-unreadable", action="store_true", help=SKIP_UNREADABLE)
    parser.add_argument("--overwrite", action="store_true", help="convert every case again")
    parser.add_argument(
        "--processes", type=positive, metavar="N", help="worker processes (default: by cores and memory)"
    )


def _convert_msd(arguments: argparse.Namespace) -> int:
    from unetrpp.dataset_conversion.msd import convert_msd

    converted = convert_msd(
        arguments.source,
        name=arguments.name,
        workspace=arguments.workspace,
        skip_unreadable=arguments.skip_unreadable,
        overwrite=arguments.overwrite,
        processes=arguments.processes,
    )
    return _report(converted)


def _convert_folder(arguments: argparse.Namespace) -> int:
    return _report(convert(arguments))


def _report(converted: "ConversionResult") -> int:
    from unetrpp.core.parallel import CaseError, error_table
    from unetrpp.core.text import counted

    others = [*converted.errors, *(CaseError(name, "", reason) for name, reason in converted.left_out.items())]
    if others:
        print(error_table(others), file=sys.stderr)
    tests, training = len(converted.test_cases), len(converted.cases) - len(converted.test_cases)
    counts = f"{training} training and {counted(tests, 'test case')}" if tests else counted(training, "training case")
    rest = f"; {counted(len(others), 'other was', 'others were')} not" if others else ""
    print(f"{converted.folder}: {counts} converted{rest}")
    return 1 if converted.errors else 0


# layout -> its parser and its work
LAYOUTS = {"msd": (_msd_parser, _convert_msd), "folder": (_folder_parser, _convert_folder)}


if __name__ == "__main__":
    sys.exit(main())
