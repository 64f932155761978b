"""The command `unetrpp_convert`: make a raw dataset from a downloaded public dataset or from a folder of your own."""

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from unetrpp.core.command_line import SKIP_UNREADABLE, Parser, nearest, own_options, positive, run
from unetrpp.core.reply import Outcome, is_asked_for
from unetrpp.dataset_conversion.datasets import add_options, layout, layout_names
from unetrpp.dataset_conversion.own_folder.command import build_parser, convert

if TYPE_CHECKING:
    from unetrpp.dataset_conversion.raw import ConversionResult


def main(argv: Sequence[str] | None = None) -> int:
    arguments = list(sys.argv[1:] if argv is None else argv)
    if arguments and arguments[0] not in names() and not arguments[0].startswith("-"):
        overview = _overview()
        overview.answers_json = is_asked_for(arguments)
        overview.error(f"there is no dataset {arguments[0]!r}{nearest(arguments[0], names())}")
    if not arguments or arguments[0] not in names():
        return run(_overview(), lambda _: Outcome(code=2), arguments)
    if arguments[0] == "list":
        return run(_list_parser(), _list, arguments[1:])
    if arguments[0] == "folder":
        return run(folder_parser(), lambda given: _report(convert(given)), arguments[1:])
    return run(dataset_parser(arguments[0]), _convert_dataset(arguments[0]), arguments[1:])


def result_types() -> dict[str, object]:
    """What ``--json`` gives."""
    from unetrpp.dataset_conversion.datasets import About
    from unetrpp.dataset_conversion.raw import ConversionResult

    return {"list": dict[str, About], "": ConversionResult}


def names() -> list[str]:
    """What the first argument may be."""
    return ["list", "folder", *layout_names()]


def _overview() -> Parser:
    parser = Parser(
        "unetrpp_convert",
        "Turn a download or a folder of your own into a raw dataset (nnU-Net v2's layout) in the workspace.",
        "unetrpp_convert list\nunetrpp_convert msd Task04_Hippocampus.tar\nunetrpp_convert acdc --help\nunetrpp_convert folder --help",
        workspace=False,
    )
    what = (
        f"'list' prints all with their size and origin; 'folder' takes a folder of your own; public datasets and layouts, each "
        f"with its own --help: {', '.join(layout_names())}"
    )
    parser.add_argument("dataset", choices=names(), metavar="DATASET", help=what)
    return parser


def _list_parser() -> Parser:
    what = "Print the datasets and layouts that can be converted, with modality, cases, size, licence and origin."
    return Parser("unetrpp_convert list", what, "unetrpp_convert list", workspace=False)


def _list(arguments: argparse.Namespace) -> Outcome:
    known = {name: layout(name).ABOUT for name in layout_names()}
    for name, about in known.items():
        print(f"{name:<17}{about.title}")
        print(f"{'':<17}{about.modality}; {about.cases}; {about.size}; {about.licence}")
        print(f"{'':<17}{about.origin}")
    print(f"{'folder':<17}a folder of your own, in which the files of a case have the case's name")
    return Outcome(known)


def parsers() -> dict[str, Parser]:
    """The parser of every first argument."""
    return {"list": _list_parser(), "folder": folder_parser(), **{n: dataset_parser(n) for n in layout_names()}}


def dataset_parser(name: str) -> Parser:
    """The options of one dataset."""
    parser = Parser(
        f"unetrpp_convert {name}",
        layout(name).__doc__ or "",
        f"unetrpp_convert {name} ~/Downloads/{name}",
        executor=True,
    )
    parser.add_argument("source", type=Path, metavar="SRC", help="the unpacked folder, or its .tar, .tar.gz or .zip")
    add_options(name, parser)
    what = "leave out cases that are known to be broken (default: they are named and converted)"
    parser.add_argument("--skip-known-broken", action="store_true", help=what)
    what = "link images and labels that can stay as they are (default: copies); a case with another image is refused"
    parser.add_argument("--link", action="store_true", help=what)
    _add_common(parser)
    return parser


def folder_parser() -> Parser:
    """The options of `unetrpp_convert folder`."""
    parser = build_parser()
    _add_common(parser)
    return parser


def _add_common(parser: Parser) -> None:
    parser.add_argument(
        "--name",
        metavar="NAME",
        help="name of the dataset (default: its usual one, or that of the source without TaskNN_ or DatasetNNN_)",
    )
    parser.add_argument("--skip-unreadable", action="store_true", help=SKIP_UNREADABLE)
    parser.add_argument("--overwrite", action="store_true", help="convert every case again")
    parser.add_argument(
        "--processes", type=positive, metavar="N", help="worker processes (default: by cores and memory)"
    )


def _convert_dataset(name: str) -> Callable[[argparse.Namespace], Outcome]:
    def work(arguments: argparse.Namespace) -> Outcome:
        from unetrpp.dataset_conversion.conversion import convert_dataset

        return _report(convert_dataset(name, arguments.source, **own_options(arguments, "source")))

    return work


def _report(converted: "ConversionResult") -> Outcome:
    from unetrpp.core.parallel import CaseError, error_table
    from unetrpp.core.text import counted
    from unetrpp.core.workspace import Workspace
    from unetrpp.report.next_step import plan_command

    others = [*converted.errors, *(CaseError(name, "", reason) for name, reason in converted.left_out.items())]
    if others:
        print(error_table(others), file=sys.stderr)
    tests, training = len(converted.test_cases), len(converted.cases) - len(converted.test_cases)
    counts = f"{training} training and {counted(tests, 'test case')}" if tests else counted(training, "training case")
    rest = f"; {counted(len(others), 'other was', 'others were')} not" if others else ""
    print(f"{converted.folder}: {counts} converted{rest}")
    if converted.errors:
        return Outcome(converted, 1)
    # Also where there are plans: they may be of other cases.
    print(f"next: {plan_command(Workspace(converted.folder.parent.parent), converted.folder.name)}")
    return Outcome(converted)


if __name__ == "__main__":
    sys.exit(main())
