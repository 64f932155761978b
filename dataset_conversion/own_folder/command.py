"""`unetrpp_convert folder`: its options, in groups."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from unetrpp.core.command_line import Parser, own_options

if TYPE_CHECKING:
    from unetrpp.dataset_conversion.raw import ConversionResult

DESCRIPTION = """\
Convert a folder of images and labels in which the files of a case have the case's name.

SOURCE is the folder of your data. DIR_OR_PATH is a folder in it whose entries are the cases (files, or folders of DICOM
series), or a path with {case} in it, such as '{case}/{case}_t1.nii.gz'. {group} stands for the patient, where one has several
cases ('{group}/{case}.nii.gz'): all of them are kept in one fold, and in training or test."""

EXAMPLES = """
unetrpp_convert folder sarcoma_ct --images images --labels labels --channel CT --label tumour=1
unetrpp_convert folder nuclei_2d --images images --labels labels --label nucleus=1 --foreground-from-instances
unetrpp_convert folder skin --images photos --labels masks --label naevus=#ff0000 melanoma=#00ff00
unetrpp_convert folder knees --images '{group}/{case}' --labels 'labels/{group}_{case}.nii.gz' --label cartilage=1 --hold-out 10
unetrpp_convert folder glioma --images '{case}/{case}_t1.nii.gz' '{case}/{case}_flair.nii.gz'
    --labels '{case}/{case}_seg.nii.gz' --channel T1,FLAIR --label edema=2 tumour=1 --hold-out 20
unetrpp_convert folder mouse_brain --images images --labels labels --channel MR --label-file atlas.label
unetrpp_convert folder abdomen --images '{case}/ct.nii.gz' --masks '{case}/segmentations/{label}.nii.gz' --channel CT
unetrpp_convert folder cord --images '{case}.nii.gz' --masks cord='{case}_seg.nii.gz' lesion='{case}_lesion.nii.gz' --channel MR
"""


def build_parser() -> Parser:
    parser = Parser("unetrpp_convert folder", DESCRIPTION, EXAMPLES, executor=True)
    parser.usage = (  # argparse would put SOURCE last, where the paths of an option would swallow it
        "unetrpp_convert folder SOURCE --images DIR_OR_PATH ... [--channel NAME[,NAME...]]\n"
        "                              (--labels DIR_OR_PATH | --masks NAME=DIR_OR_PATH ...) [options]"
    )
    what = "the folder of your data, which DIR_OR_PATH is relative to; the dataset gets its name, or --name"
    parser.add_argument("source", type=Path, metavar="SOURCE", help=what)
    _add_images(parser)
    _add_classes(parser)
    _add_tests(parser)
    return parser


def _add_images(parser: Parser) -> None:
    add = parser.add_argument_group("images and labels").add_argument
    add("--images", nargs="+", required=True, metavar="DIR_OR_PATH", help="one, or one per channel")
    what = "the channels in order, such as CT or T1,FLAIR (default: R,G,B or gray of photographs, or the Modality of DICOM)"
    add("--channel", default=(), metavar="NAME[,NAME...]", help=what)
    add("--labels", metavar="DIR_OR_PATH", help="label maps: one file a case, with a value for every class")
    what = (
        "in place of --labels: a mask for every class, with the values 1, 2, ... in this order (where masks overlap, the later "
        "one counts); or one path with {label} in it, which takes every class that is found, by name"
    )
    add("--masks", nargs="+", metavar="NAME=DIR_OR_PATH", help=what)
    what = "a case does not have the classes whose masks it lacks (default: such a case is refused)"
    add("--allow-missing-masks", action="store_true", help=what)


def _add_classes(parser: Parser) -> None:
    add = parser.add_argument_group("classes of --labels").add_argument
    what = (
        "the classes; background=0 need not be given. Label files in colours: NAME=#RRGGBB for each, where black is the "
        "background unless it has another colour"
    )
    add("--label", nargs="+", type=_label, metavar="NAME=VALUE", help=what)
    what = "a file that lists them: of ITK-SNAP or 3D Slicer, JSON, or CSV with a header (value,name)"
    add("--label-file", type=Path, metavar="FILE", help=what)
    what = "take all values that the label files hold; names from --label-file, else from the files, else label_N"
    add("--labels-from-files", action="store_true", help=what)
    what = "for label files that number the objects 1, 2, ...: every value above 0 becomes the one class of --label"
    add("--foreground-from-instances", action="store_true", help=what)


def _add_tests(parser: Parser) -> None:
    add = parser.add_argument_group("test cases (imagesTs, labelsTs), which training does not see").add_argument
    add("--test-images", nargs="+", default=(), metavar="DIR_OR_PATH", help="images of test cases, as --images")
    add("--test-labels", metavar="DIR_OR_PATH", help="labels of --test-images, as --labels")
    what = "hold back N cases (the same ones every time), or those that a text file lists, one a line"
    add("--hold-out", metavar="N|FILE", help=what)


def _label(text: str) -> tuple[str, int | str]:
    name, _, value = text.rpartition("=")
    if name and value.startswith("#"):
        return name, value
    if name and "," in value and value.replace(",", "").isdigit():
        raise argparse.ArgumentTypeError(
            f"{text!r} has several values; a region of several labels is written in a JSON file and given as --label-file "
            "(docs/dataset_format.md)"
        )
    if not name or not value.isdigit():
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME=VALUE with a whole number, such as tumour=1")
    return name, int(value)


def convert(arguments: argparse.Namespace) -> "ConversionResult":
    """
    Raises:
        UserError: as :func:`unetrpp.dataset_conversion.folder.convert_folder`, a class named twice, or a mask without a name.
    """
    from unetrpp.core.errors import UserError
    from unetrpp.dataset_conversion.folder import convert_folder

    label = None if arguments.label is None else dict(arguments.label)
    if label is not None and len(label) < len(arguments.label):
        raise UserError("--label names one class twice; give every class one name and one value")
    given = own_options(arguments, "source") | {
        "channel": arguments.channel.split(",") if arguments.channel else (),
        "label": label,
        "masks": _masks(arguments.masks),
    }
    return convert_folder(arguments.source, **given)


def _masks(given: list[str] | None) -> dict[str, str] | str | None:
    from unetrpp.core.errors import UserError

    if given is None:
        return None
    if len(given) == 1 and "{label}" in given[0] and "=" not in given[0]:
        return given[0]
    pairs = [text.partition("=") for text in given]
    if wrong := [text for text, (name, _, path) in zip(given, pairs, strict=True) if not name or not path]:
        raise UserError(
            f"--masks {wrong[0]!r} names no class; write NAME=PATH for every class, or one path with {{label}} in it"
        )
    masks = {name: path for name, _, path in pairs}
    if len(masks) < len(pairs):
        raise UserError("--masks names one class twice; give every class one path")
    return masks
