"""`unetrpp_predict`: segment raw images with a trained model folder."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from unetrpp.core.command_line import Parser, positive, run

if TYPE_CHECKING:
    from unetrpp.inference.postprocessing import PostProcessing

EXAMPLES = """
unetrpp_predict -i images/ -o segmentations/ -m unetrpp_workspace/results/Hippocampus/unetrpp__3d_fullres
unetrpp_predict -i scan.nii.gz -o segmentations/ -m MODEL --folds 0 --no-mirroring
unetrpp_predict -i images/ -o segmentations/ -m MODEL --uncertainty
unetrpp_predict -i dicom_series/ -o segmentations/ -m MODEL --dicom-seg
unetrpp_predict -i images/ -o segmentations/ -m MODEL --part 1/2 --device cuda:0
unetrpp_predict -i images/ -o segmentations/ -m MODEL OTHER_MODEL      mean of several models
unetrpp_predict -i images/ -o segmentations/ --best Hippocampus        as unetrpp_find_best chose
"""


def build_parser() -> Parser:
    parser = Parser(
        "unetrpp_predict",
        "Segment images on their own grids with the mean of a model's folds. The same command resumes what is unfinished.",
        EXAMPLES,
    )
    add = parser.add_argument
    add(
        "-i",
        "--input",
        type=Path,
        nargs="+",
        required=True,
        metavar="IN",
        help="a folder of CASE_0000.ending, or one case's files, one a channel; a DICOM series is a folder",
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
        "--best", metavar="DATASET", help="models, post-processing and mirroring as unetrpp_find_best chose"
    )
    add(
        "--folds",
        nargs="+",
        default=["all"],
        metavar="FOLD",
        help="folds to average, such as 0 1 2; all: every trained one (default)",
    )
    add(
        "--checkpoint",
        choices=["final", "best", "latest"],
        default="final",
        help="best was selected on the validation fold (default: final)",
    )
    add(
        "--no-mirroring",
        action="store_true",
        help="one pass instead of the mean over mirrored ones: up to 8 times faster",
    )
    add("--step", type=step, default=0.5, metavar="PART", help="of the sliding window, in patches (default 0.5)")
    add("--device", default="auto", metavar="DEVICE", help="auto, cpu, cuda, cuda:1, mps (default: auto)")
    add("--tile-batch", type=positive, metavar="N", help="tiles a forward pass (default: found by trial)")
    add("--uncertainty", action="store_true", help="also write entropy and fold disagreement, 0 to 1, as volumes")
    add("--probabilities", action="store_true", help="also write the probability of every class as a volume")
    add("--dicom-seg", action="store_true", help="also write CASE.dcm, a DICOM SEG for the input series (an extra)")
    add("--fix", action="store_true", help="straighten images whose axes are a little sheared, into OUT/fixed")
    add("--part", metavar="K/N", help="predict every N-th case from the K-th on: machines or GPUs share a folder")
    add("--overwrite", action="store_true", help="predict again what is finished")
    return parser


def step(text: str) -> float:
    value = float(text)
    if not 0 < value <= 1:
        raise argparse.ArgumentTypeError(f"must be above 0 and at most 1, not {text}")
    return value


def main(argv: Sequence[str] | None = None) -> int:
    return run(build_parser(), work, argv)


def work(arguments: argparse.Namespace) -> int:
    from unetrpp.inference.ensemble import Ensemble
    from unetrpp.inference.folder import predict_folder
    from unetrpp.inference.inputs import find_cases, require_series, share
    from unetrpp.inference.predictor import Predictor
    from unetrpp.inference.stream import Request
    from unetrpp.io.dicom_seg import require_dicom_seg
    from unetrpp.networks.cpu_kernels.allocator import keep_freed_memory

    if arguments.dicom_seg:
        require_dicom_seg()
    models, postprocessing, mirroring = chosen_models(arguments)
    folds = arguments.folds[0] if len(arguments.folds) == 1 else arguments.folds
    options = (arguments.device, mirroring, arguments.checkpoint, arguments.step, arguments.tile_batch)
    ensemble = Ensemble([Predictor(model, folds, *options) for model in models])
    if ensemble.first.device.type == "cpu":
        keep_freed_memory()
    cases = find_cases(arguments.input, ensemble.first.model.description)
    if arguments.dicom_seg:
        require_series(cases)
    if arguments.part:
        cases = share(cases, arguments.part)
    request = Request(
        out=arguments.output,
        part=arguments.part,
        overwrite=arguments.overwrite,
        probabilities=arguments.probabilities,
        uncertainty=arguments.uncertainty,
        dicom_seg=arguments.dicom_seg,
        fix=arguments.fix,
        postprocessing=postprocessing,
    )
    failed = predict_folder(ensemble, cases, request)
    return report(failed, len(cases), arguments.output)


def chosen_models(arguments: argparse.Namespace) -> "tuple[list[Path], PostProcessing, bool]":
    """The model folders given, or those of inference.json with its post-processing; and whether to mirror."""
    from unetrpp.core.files import read_json
    from unetrpp.core.workspace import Workspace
    from unetrpp.evaluation.selection import FILE, Selection
    from unetrpp.inference.postprocessing import NOTHING

    if arguments.best is None:
        return arguments.model, NOTHING, not arguments.no_mirroring
    workspace = Workspace.find(arguments.workspace)
    results = workspace.root / "results" / workspace.find_dataset(arguments.best)
    selection = read_json(results / FILE, Selection, hint="run unetrpp_find_best")
    mirroring = selection.mirroring and not arguments.no_mirroring
    return [results / member for member in selection.members], selection.postprocessing, mirroring


def report(failed: dict[str, str], count: int, out: Path) -> int:
    """One line on stdout; the cases that failed in a table on stderr."""
    print(f"{count - len(failed)} of {count} cases are segmented in {out}")
    if not failed:
        return 0
    from unetrpp.core.text import text_table

    print(text_table(sorted(failed.items()), align="l"), file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
