"""The command `unetrpp_convert`: a public dataset's download, or a folder of your own, becomes a raw dataset."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from unetrpp.core.command_line import Parser, positive, run

if TYPE_CHECKING:
    from unetrpp.dataset_conversion.source import Source

BYTES_A_VALUE = 24  # of a case's peak memory while it is rewritten


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
    parser.add_argument("layout", choices=list(LAYOUTS), help="what SRC looks like; each layout has its own --help")
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
        "Convert a folder of images and labels that are named alike.",
        "unetrpp_convert folder sarcoma_ct --images images --labels labels --channel CT --label tumour=1\n"
        "unetrpp_convert folder nuclei_2d --images images --labels labels --channel R,G,B --label nucleus=1"
        " --foreground-from-instances\n"
        "unetrpp_convert folder glioma --images '{case}/{case}_t1.nii.gz' '{case}/{case}_flair.nii.gz'"
        " --labels '{case}/{case}_seg.nii.gz' --channel T1,FLAIR --label edema=2 tumour=1",
    )
    parser.add_argument("source", type=Path, metavar="SRC", help="the folder that the others are relative to")
    where = "a folder whose file names are the cases, or a path with {case} in it"
    parser.add_argument("--images", nargs="+", required=True, metavar="DIR", help=f"{where}; one, or one a channel")
    parser.add_argument("--labels", required=True, metavar="DIR", help=where)
    parser.add_argument("--test-images", nargs="+", default=[], metavar="DIR", help="images without labels, likewise")
    parser.add_argument(
        "--channel", required=True, metavar="NAME[,NAME...]", help="the channels in order, such as CT or R,G,B"
    )
    parser.add_argument(
        "--label",
        nargs="+",
        required=True,
        type=_label,
        metavar="NAME=VALUE",
        help="the classes; background=0 is understood",
    )
    parser.add_argument(
        "--foreground-from-instances",
        action="store_true",
        help="label files number the objects 1, 2, ...: every value above 0 becomes the one class of --label",
    )
    _add_common(parser)
    return parser


def _add_common(parser: Parser) -> None:
    parser.add_argument("--name", help="of the dataset (default: the source's, without TaskNN_ or DatasetNNN_)")
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
    import shutil

    from unetrpp.core.workspace import Workspace, plain_name
    from unetrpp.dataset_conversion.archive import archive_stem
    from unetrpp.dataset_conversion.msd import msd_folder, read_msd

    stem = archive_stem(arguments.source) or arguments.source.resolve().name
    name = arguments.name or plain_name(stem)
    unpacked = Workspace.find(arguments.workspace).root / "unpacked" / name
    source = read_msd(msd_folder(arguments.source, unpacked))
    code = _write(arguments, name, source, {"layout": "msd"})
    if code == 0:
        shutil.rmtree(unpacked, ignore_errors=True)
    return code


def _convert_folder(arguments: argparse.Namespace) -> int:
    from unetrpp.core.errors import UserError
    from unetrpp.core.workspace import plain_name
    from unetrpp.dataset_conversion.folder import read_folder

    labels = dict(arguments.label)
    if len(labels) < len(arguments.label):
        raise UserError("--label names one class twice; give every class one name and one value")
    if arguments.foreground_from_instances and len(labels.keys() - {"background"}) != 1:
        raise UserError(f"--foreground-from-instances makes one class, but --label names {len(labels)}; name the one")
    channels = arguments.channel.split(",")
    source = read_folder(arguments.source, arguments.images, arguments.labels, channels, labels, arguments.test_images)
    asked = ("images", "labels", "test_images", "channel", "foreground_from_instances")
    options = {"layout": "folder", "label": labels} | {key: getattr(arguments, key) for key in asked}
    name = arguments.name or plain_name(arguments.source.resolve().name)
    return _write(arguments, name, source, options, instances=arguments.foreground_from_instances)


def _write(
    arguments: argparse.Namespace, name: str, source: "Source", options: dict[str, Any], instances: bool = False
) -> int:
    from unetrpp.core.parallel import default_processes, error_table
    from unetrpp.core.workspace import Workspace
    from unetrpp.dataset_conversion.raw import Conversion, write_raw_dataset
    from unetrpp.io.images import most_voxels

    needed = most_voxels(file for case in source.cases for file in case.images) * len(source.channel_names)
    folder = Workspace.find(arguments.workspace).raw(name)
    errors = write_raw_dataset(
        source,
        folder,
        Conversion(source=str(arguments.source.resolve()), options=options),
        instances=instances,
        overwrite=arguments.overwrite,
        processes=arguments.processes or default_processes(needed * BYTES_A_VALUE),
    )
    if errors:
        print(error_table(errors), file=sys.stderr)
    print(f"{folder}: {len(source.cases) - len(errors)} of {len(source.cases)} cases converted")
    return 1 if errors else 0


# layout -> its parser and its work
LAYOUTS = {"msd": (_msd_parser, _convert_msd), "folder": (_folder_parser, _convert_folder)}


if __name__ == "__main__":
    sys.exit(main())
