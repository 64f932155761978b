"""`unetrpp_predict`: segment raw images with a trained model folder."""

import argparse
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from unetrpp.core.command_line import (
    SKIP_UNREADABLE,
    Parser,
    by_name,
    let_waiting_threads_sleep,
    named_share,
    positive,
    run,
)
from unetrpp.core.reply import Outcome

if TYPE_CHECKING:
    from unetrpp.inference.predict import PredictionResult

MOST_TO_REVIEW = 5  # cases that are named at the end

EXAMPLES = """
unetrpp_predict -i images/ -o segmentations/ -m unetrpp_workspace/results/Hippocampus/unetrpp__3d_fullres
unetrpp_predict -i scan.nii.gz -o segmentations/ -m MODEL --folds 0 --no-mirroring
unetrpp_predict -i images/ -o segmentations/ -m MODEL --uncertainty --report
unetrpp_predict -i images/ -o segmentations/ -m MODEL --threshold lesion=0.3
unetrpp_predict -i images/ -o segmentations/ -m MODEL --classes liver spleen --masks --surfaces stl
unetrpp_predict -i dicom_series/ -o segmentations/ -m MODEL --dicom-seg --rtstruct
unetrpp_predict -i images/ -o segmentations/ -m MODEL --devices cuda:0,cuda:1
unetrpp_predict -i images/ -o segmentations/ -m MODEL --executor dask=tcp://HOST:8786
unetrpp_predict -i images/ -o segmentations/ -m MODEL OTHER_MODEL      mean of several models
unetrpp_predict -i images/ -o segmentations/ --best Hippocampus        what unetrpp_find_best chose
"""


def build_parser() -> Parser:
    parser = Parser(
        "unetrpp_predict",
        "Segment images on their own grids with the mean of a model's folds. The same command resumes an unfinished run.",
        EXAMPLES,
        executor=True,
    )
    add = parser.add_argument
    add(
        "-i",
        "--input",
        type=Path,
        nargs="+",
        required=True,
        metavar="IN",
        help="a folder of CASE_0000.ending, or one case's files, one per channel; a DICOM series is a folder",
    )
    add("-o", "--output", type=Path, required=True, metavar="OUT", help="folder for CASE.ending and predictions.json")
    which = parser.add_mutually_exclusive_group(required=True)
    which.add_argument(
        "-m",
        "--model",
        type=Path,
        nargs="+",
        metavar="MODEL_FOLDER",
        help="unetrpp_workspace/results/<dataset>/<plans>__<configuration>, or a copy; several are averaged",
    )
    which.add_argument(
        "--best", metavar="DATASET", help="use the models, post-processing and mirroring that unetrpp_find_best chose"
    )
    add(
        "--folds",
        nargs="+",
        metavar="FOLD",
        help="folds to average, such as 0 1 or 0-4, or fold_all (default: all trained ones but fold_all, unless it is the only one)",
    )
    add(
        "--checkpoint",
        choices=["final", "best", "latest"],
        default="final",
        help="checkpoint of each fold; best was selected on the validation fold (default: final)",
    )
    add(
        "--no-mirroring",
        action="store_true",
        help="one pass instead of the mean over mirrored passes: up to 8 times faster",
    )
    add("--step", type=step, default=0.5, metavar="STEP", help="step of the sliding window, in patches (default: 0.5)")
    add(
        "--fast",
        action="store_true",
        help="one fold, no mirroring and a step of 0.75 (what it costs: docs/measured_prediction.md)",
    )
    where = parser.add_mutually_exclusive_group()
    known = "auto, cpu, cuda, cuda:1 or mps (default: auto)"
    where.add_argument("--device", default="auto", metavar="DEVICE", help=known)
    where.add_argument(
        "--devices", metavar="DEVICES", help="several devices that share the cases, such as cuda:0,cuda:1 (or 0,1)"
    )
    add(
        "--tile-batch",
        type=positive,
        metavar="N",
        help="tiles per forward pass (default: by device; halved when memory runs out)",
    )
    what = "apply the post-processing that a model imported from nnU-Net came with"
    add("--postprocessing", action="store_true", help=what)
    add(
        "--classes",
        nargs="+",
        default=(),
        metavar="CLASS",
        help="write these classes or regions alone; the others become background",
    )
    add("--masks", action="store_true", help="also write a mask of 0 and 1 per class or region, OUT/CASE/CLASS.ending")
    add(
        "--surfaces",
        choices=["stl", "obj"],
        help="also write the surface of every class or region in mm (LPS), OUT/CASE/CLASS.stl or .obj",
    )
    what = "also write mean and standard deviation of the image's intensities per class or region into volumes.csv"
    add("--intensities", action="store_true", help=what)
    add("--uncertainty", action="store_true", help="also write entropy and fold disagreement, 0 to 1, as volumes")
    what = "also write the probability of every class as a volume, calibrated if unetrpp_evaluate --calibrate was run"
    add("--probabilities", action="store_true", help=what)
    add(
        "--threshold",
        type=named_share,
        nargs="+",
        action="extend",
        metavar="CLASS=P",
        help="predict a class or region where its calibrated probability is at least P (default: the most probable class)",
    )
    add(
        "--export-order",
        type=int,
        choices=[0, 1],
        default=0,
        help="interpolation back to the image along an axis of much longer voxels: 0 takes the nearest, so neighbouring slices "
        "may be equal; 1 is linear (default: 0)",
    )
    add(
        "--dicom-seg",
        action="store_true",
        help="also write CASE.dcm, a DICOM SEG for the input series (needs unetrpp[dicom])",
    )
    what = "also write CASE_rtstruct.dcm, an RT Structure Set with contours on the slices of the input series"
    add("--rtstruct", action="store_true", help=what)
    add("--fix", action="store_true", help="straighten images with slightly sheared axes, into OUT/fixed")
    add(
        "--part",
        metavar="K/N",
        help="predict every N-th case from the K-th on, so that machines or GPUs share a folder",
    )
    add("--skip-unreadable", action="store_true", help=SKIP_UNREADABLE)
    add("--report", action="store_true", help="also write OUT/report.html: a table and a viewer of all cases in OUT")
    what = "with --report: predict the shown cases once more, for maps of their uncertainty and of the model's gates"
    add("--maps", action="store_true", help=what)
    add("--overwrite", action="store_true", help="predict finished cases again")
    return parser


def step(text: str) -> float:
    """Argument type: a number above 0 and at most 1."""
    value = float(text)
    if not 0 < value <= 1:
        raise argparse.ArgumentTypeError(f"must be above 0 and at most 1, not {text}")
    return value


def main(argv: Sequence[str] | None = None) -> int:
    let_waiting_threads_sleep()
    return run(build_parser(), work, argv)


def result_types() -> dict[str, object]:
    """What ``--json`` gives."""
    from unetrpp.inference.predict import PredictionResult

    return {"": PredictionResult}


def work(arguments: argparse.Namespace) -> Outcome:
    from unetrpp.core.errors import UserError
    from unetrpp.core.text import quoted
    from unetrpp.inference.predict import predict
    from unetrpp.model.folder import typed_folds

    if arguments.maps and not arguments.report:
        raise UserError("--maps are shown by the page of --report; add it, or leave --maps out")
    if arguments.report:
        _require_room_for_page(arguments.output)
    result = predict(
        input=arguments.input,
        output=arguments.output,
        model=arguments.model,
        best=arguments.best,
        workspace=arguments.workspace,
        # With --fast folds are refused, also all of them.
        folds=arguments.folds
        if arguments.fast
        else typed_folds(arguments.folds, _models(arguments), arguments.checkpoint),
        checkpoint=arguments.checkpoint,
        mirroring=not arguments.no_mirroring,
        step=arguments.step,
        fast=arguments.fast,
        device=arguments.device,
        devices=arguments.devices,
        tile_batch=arguments.tile_batch,
        postprocessing=arguments.postprocessing,
        classes=arguments.classes,
        masks=arguments.masks,
        surfaces=arguments.surfaces,
        intensities=arguments.intensities,
        uncertainty=arguments.uncertainty,
        probabilities=arguments.probabilities,
        dicom_seg=arguments.dicom_seg,
        rtstruct=arguments.rtstruct,
        export_order=arguments.export_order,
        threshold=by_name(arguments.threshold, "--threshold") or None,
        fix=arguments.fix,
        part=arguments.part,
        skip_unreadable=arguments.skip_unreadable,
        overwrite=arguments.overwrite,
    )
    code = report(result)
    if arguments.report:
        _write_page(arguments)
    if result.segmented:
        page = "" if arguments.report else ", or the same command with --report (a page to look at them)"
        print(f"next: unetrpp_evaluate {quoted(str(result.output))} REFERENCES (to score them){page}")
    return Outcome(result, code)


def _require_room_for_page(output: Path) -> None:
    """Refuse --report before anything is predicted where a file of the user would be replaced."""
    from unetrpp.report.page import require_page
    from unetrpp.report.prediction_report import FILE

    require_page(output / FILE)


def _write_page(arguments: argparse.Namespace) -> None:
    from unetrpp.core.devices import device_names
    from unetrpp.report.prediction_report import write_prediction_report

    device = arguments.device if arguments.devices is None else device_names(arguments.devices)[0]
    page = write_prediction_report(
        arguments.output, input=arguments.input, model=list(_models(arguments)), maps=arguments.maps, device=device
    )
    print(f"report: {page}")


def _models(arguments: argparse.Namespace) -> Iterator[Path]:
    """The model folders; what --best chose is read when the first of them is asked for."""
    from unetrpp.inference.selection import find_selection

    yield from arguments.model or find_selection(arguments.best, arguments.workspace)[1]


def report(result: "PredictionResult") -> int:
    """Print how many cases are segmented, and on stderr what failed or was left out; returns the exit code."""
    from unetrpp.core.problems import grouped
    from unetrpp.core.text import counted_of, listed, text_table

    count, others = len(result.segmented), result.failed | result.left_out
    total = count + len(others)
    print(f"{counted_of(count, total, 'case', 'is/are')} segmented in {result.output}")
    if result.review_order:
        first = listed(result.review_order[:MOST_TO_REVIEW], MOST_TO_REVIEW)
        print(f"by expected Dice, look first at {first} (volumes.csv and predictions.json have all)")
    if others:
        print(text_table(grouped(sorted(others.items())), align="l"), file=sys.stderr)
    return 1 if result.failed else 0


if __name__ == "__main__":
    sys.exit(main())
