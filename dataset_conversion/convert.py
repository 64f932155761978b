"""The command `unetrpp_convert`: make a raw dataset from a downloaded public dataset or from a folder of your own."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from unetrpp.core.command_line import SKIP_UNREADABLE, Parser, positive, run

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
    parser.add_argument("layout", choices=list(LAYOUTS), help="the layout of SRC; each has its own --help")
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
    parser = Parser(
        "unetrpp_convert folder",
        "Convert a folder of images and labels in which the files of a case have the case's name.",
        "unetrpp_convert folder sarcoma_ct --images images --labels labels --channel CT --label tumour=1\n"
        "unetrpp_convert folder nuclei_2d --images images --labels labels --channel R,G,B --label nucleus=1"
        " --foreground-from-instances\n"
        "unetrpp_convert folder glioma --images '{case}/{case}_t1.nii.gz' '{case}/{case}_flair.nii.gz'"
        " --labels '{case}/{case}_seg.nii.gz' --channel T1,FLAIR --label edema=2 tumour=1",
    )
    parser.add_argument("source", type=Path, metavar="SRC", help="the folder that the others are relative to")
    where = "a folder whose entries are the cases (files, or folders of DICOM series), or a path with {case} in it"
    parser.add_argument("--images", nargs="+", required=True, metavar="DIR", help=f"{where}; one, or one per channel")
    parser.add_argument("--labels", required=True, metavar="DIR", help=where)
    parser.add_argument(
        "--test-images", nargs="+", default=[], metavar="DIR", help="images without labels, in the same form"
    )
    parser.add_argument(
        "--channel", required=True, metavar="NAME[,NAME...]", help="the channels in order, such as CT or R,G,B"
    )
    parser.add_argument(
        "--label",
        nargs="+",
        required=True,
        type=_label,
        metavar="NAME=VALUE",
        help="the classes; background=0 need not be given",
    )
    parser.add_argument(
        "--foreground-from-instances",
        action="store_true",
        help="for label files that number the objects 1, 2, ...: every value above 0 becomes the one class of --label",
    )
    _add_common(parser)
    return parser


def _add_common(parser: Parser) -> None:
    parser.add_argument(
        "--name", help="name of the dataset (default: that of the source, without TaskNN_ or DatasetNNN_)"
    )
    parser.add_argument("--skip-unreadable", action="store_true", help=SKIP_UNREADABLE)
    parser.add_argument("--overwrite", action="store_true", help="convert every case again")
    parser.add_argument(
        "--processes", type=positive, metavar="N", help="worker processes (default: by cores and memory)"
    )


def _label(text: str) -> tuple[str, int]:
    name, _, value = text.rpartition("=")
    if not name or not value.isdigit():
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME=VALUE with a whole number, such as tumour=1")
    return name, int(value)


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
    from unetrpp.core.errors import UserError
    from unetrpp.dataset_conversion.folder import convert_folder

    label = dict(arguments.label)
    if len(label) < len(arguments.label):
        raise UserError("--label names one class twice; give every class one name and one value")
    converted = convert_folder(
        arguments.source,
        images=arguments.images,
        labels=arguments.labels,
        channel=arguments.channel.split(","),
        label=label,
        test_images=arguments.test_images,
        foreground_from_instances=arguments.foreground_from_instances,
        name=arguments.name,
        workspace=arguments.workspace,
        skip_unreadable=arguments.skip_unreadable,
        overwrite=arguments.overwrite,
        processes=arguments.processes,
    )
    return _report(converted)


def _report(converted: "ConversionResult") -> int:
    from unetrpp.core.parallel import CaseError, error_table

    others = [*converted.errors, *(CaseError(name, "", reason) for name, reason in converted.left_out.items())]
    if others:
        print(error_table(others), file=sys.stderr)
    print(f"{converted.folder}: {len(converted.cases)} of {len(converted.cases) + len(others)} cases converted")
    return 1 if converted.errors else 0


# layout -> its parser and its work
LAYOUTS = {"msd": (_msd_parser, _convert_msd), "folder": (_folder_parser, _convert_folder)}


if __name__ == "__main__":
    sys.exit(main())
