"""`unetrpp_evaluate`: score a folder of predictions, or gather the cross-validation of a model."""

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from unetrpp.core.command_line import Parser, above_zero, by_name, named_share, positive, refuse_ignored, run
from unetrpp.core.reply import Outcome

if TYPE_CHECKING:
    from unetrpp.core.parallel import CaseError
    from unetrpp.inference.calibration import Calibration

EXAMPLES = """
unetrpp_evaluate predictions/ unetrpp_workspace/raw/glioma/labelsTs
unetrpp_evaluate predictions/ references/ --dataset-json unetrpp_workspace/raw/Hippocampus/dataset.json --distances
unetrpp_evaluate predictions/ numbered_nuclei/ --foreground-from-instances
unetrpp_evaluate fold_predictions/ unetrpp_workspace/raw/Hippocampus/labelsTr --predicted-only
unetrpp_evaluate predictions/ references/ --protocol synapse
unetrpp_evaluate --model unetrpp_workspace/results/Hippocampus/unetrpp__3d_fullres
unetrpp_evaluate --model MODEL_FOLDER --distances
unetrpp_evaluate --model MODEL_FOLDER --calibrate --recall lesion=0.9
unetrpp_evaluate --model MODEL_FOLDER --precision lesion=0.8 --lesions
unetrpp_evaluate --compare one/summary.json other/summary.json
"""

CALIBRATION = {"calibrate", "recall", "precision", "lesions", "device"}


def build_parser() -> Parser:
    parser = Parser(
        "unetrpp_evaluate",
        "Score a folder of predictions against a folder of references: summary.json, summary.csv and a table. "
        "With --model, gather the cross-validation of a model folder; with --compare, compare two models case by case.",
        EXAMPLES,
        workspace=False,
        executor=True,
    )
    add = parser.add_argument
    what = "folder of CASE.ending; the summary is written into it"
    add("predictions", type=Path, nargs="?", metavar="PREDICTIONS", help=what)
    add("references", type=Path, nargs="?", metavar="REFERENCES", help="folder of CASE.ending")
    what = (
        "dataset.json with the labels, or a model folder (default: the one next to REFERENCES, else predictions.json)"
    )
    add("--dataset-json", type=Path, metavar="FILE_OR_MODEL", help=what)
    what = "references number the objects 1, 2, ...: every value above 0 counts as the one class"
    add("--foreground-from-instances", action="store_true", help=what)
    what = "also HD95, normalised surface distance, volumes and lesions (slower)"
    add("--distances", action="store_true", help=what)
    what = "tolerance of the normalised surface distance, in mm, or in pixels of photographs (default: one voxel)"
    add("--tolerance", type=above_zero, metavar="MM", help=what)
    what = (
        "score the test cases and classes of a published table, and add its metrics: synapse, acdc, brats, "
        "lung, or a JSON file of the same form"
    )
    add("--protocol", metavar="NAME_OR_FILE", help=what)
    add("--predicted-only", action="store_true", help="leave out references without a prediction")
    what = "gather the validation of all folds into crossval_summary.json; --distances scores the folds again with them"
    add("--model", type=Path, metavar="MODEL_FOLDER", help=what)
    what = "with --model, fit the temperature of its probabilities to the cross-validation, and measure them"
    add("--calibrate", action="store_true", help=what)
    what = "threshold of a class for this recall over all voxels; --threshold of unetrpp_predict takes it"
    add("--recall", type=named_share, nargs="+", action="extend", metavar="CLASS=R", help=what)
    what = "threshold of a class for this precision"
    add("--precision", type=named_share, nargs="+", action="extend", metavar="CLASS=P", help=what)
    what = "--recall and --precision count lesions (connected components); the validation cases are predicted again"
    add("--lesions", action="store_true", help=what)
    what = (
        "where --calibrate and --lesions predict the validation cases: auto, cpu, cuda, cuda:1 or mps (default: auto)"
    )
    add("--device", default="auto", metavar="DEVICE", help=what)
    what = "two summary.json or crossval_summary.json of the same cases"
    add("--compare", type=Path, nargs=2, metavar="SUMMARY", help=what)
    add("--processes", type=positive, metavar="N", help="worker processes (default: by cores and memory)")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    return run(build_parser(), work, argv)


def result_types() -> dict[str, object]:
    """What ``--json`` gives, by the kind of call."""
    from unetrpp.cli.results import ModelScores, Scored
    from unetrpp.evaluation.statistics import Difference

    return {"PREDICTIONS REFERENCES": Scored, "--model": ModelScores, "--compare": dict[str, Difference]}


def work(arguments: argparse.Namespace) -> Outcome:
    from unetrpp.core.errors import UserError

    folders = (arguments.predictions, arguments.references)
    asked = [folders != (None, None), arguments.model is not None, arguments.compare is not None]
    if asked == [False, True, False]:
        used = {"model", "distances", "tolerance", "processes", "executor"} | CALIBRATION
        refuse_ignored(build_parser(), arguments, used, "--model")
        if arguments.device != "auto" and not (arguments.calibrate or arguments.lesions):
            raise UserError("--device is where --calibrate and --lesions predict; leave it out without them")
        if arguments.lesions and not (arguments.recall or arguments.precision):
            raise UserError("--lesions says what --recall and --precision count; give one of them")
        return _model(arguments, _wanted(arguments))
    if asked == [False, False, True]:
        refuse_ignored(build_parser(), arguments, {"compare"}, "--compare")
        return _comparison(*arguments.compare)
    if asked[0]:
        every = {action.dest for action in build_parser()._actions}
        refuse_ignored(build_parser(), arguments, every - CALIBRATION, "PREDICTIONS and REFERENCES")
    if asked != [True, False, False] or None in folders:
        raise UserError(
            "give PREDICTIONS and REFERENCES, or --model MODEL_FOLDER alone, or --compare with two summaries alone"
        )
    return _folders(arguments)


def _comparison(first: Path, second: Path) -> Outcome:
    from unetrpp.evaluation.model_comparison import compare_models, comparison_table

    differences = compare_models(first, second)
    print(comparison_table(differences))
    return Outcome(differences)


def _wanted(arguments: argparse.Namespace) -> dict[str, dict[str, float]]:
    return {what: by_name(getattr(arguments, what), f"--{what}") for what in ("recall", "precision")}


def _model(arguments: argparse.Namespace, wanted: Mapping[str, Mapping[str, float]]) -> Outcome:
    from unetrpp.cli.results import ModelScores
    from unetrpp.core.text import quoted
    from unetrpp.evaluation.cross_validation import FILE, evaluate_model, fold_table
    from unetrpp.evaluation.operating_points import OperatingPoint, choose_thresholds, points_table, require_classes
    from unetrpp.model.folder import ModelFolder

    path, processes = arguments.model, arguments.processes
    require_classes(ModelFolder.open(path).plans.labels, **wanted)  # before anything is computed
    result = evaluate_model(path, distances=arguments.distances, tolerance=arguments.tolerance, processes=processes)
    print(fold_table(result))
    print(_written(path / FILE))
    calibration = _calibration(arguments)
    points: dict[str, OperatingPoint] = {}
    if any(wanted.values()):
        points = choose_thresholds(path, **wanted, lesions=arguments.lesions, device=arguments.device)
        print(f"\n{points_table(points, lesions=arguments.lesions)}")
    print(f"next: unetrpp_report {quoted(path)}")
    return Outcome(ModelScores(result, calibration, points))


def _calibration(arguments: argparse.Namespace) -> "Calibration | None":
    """Fit and print the calibration; without --calibrate, print that of an earlier run."""
    from unetrpp.core.errors import UserError
    from unetrpp.evaluation.calibration_table import calibration_table
    from unetrpp.inference.calibration import FILE, read_calibration
    from unetrpp.model.folder import ModelFolder

    path = arguments.model
    if arguments.calibrate:
        from unetrpp.evaluation.calibration import calibrate_model

        calibrate_model(path, device=arguments.device)
    try:
        found = read_calibration(ModelFolder.open(path))
    except UserError as error:  # out of date, which the scores are not
        print(f"warning: {error}", file=sys.stderr)
        found = None
    if found is not None:
        print(f"\n{calibration_table(found)}\n{path / FILE}")
    return found


def _written(path: Path) -> str:
    """Where the scores are, of every case and class."""
    return f"\nevery case and class: {path} and {path.with_suffix('.csv').name}"


def _folders(arguments: argparse.Namespace) -> Outcome:
    from unetrpp.cli.results import Scored
    from unetrpp.core.text import counted_of
    from unetrpp.evaluation.evaluate import evaluate
    from unetrpp.evaluation.protocol import protocol_table, read_protocol
    from unetrpp.evaluation.summary import as_table

    summary, errors = evaluate(
        arguments.predictions,
        arguments.references,
        dataset_json=arguments.dataset_json,
        distances=arguments.distances,
        tolerance=arguments.tolerance,
        protocol=arguments.protocol,
        predicted_only=arguments.predicted_only,
        foreground_from_instances=arguments.foreground_from_instances,
        processes=arguments.processes,
    )
    scored = len(summary.metric_per_case)
    if scored:
        print(as_table(summary))
        print(_written(arguments.predictions / "summary.json"))
    if scored and arguments.protocol:
        print(f"\n{protocol_table(read_protocol(arguments.protocol), summary)}")
    for line in error_lines(errors):
        print(line, file=sys.stderr)
    if errors:
        written = "the means are over these" if scored else "so no summary is written"
        print(f"{counted_of(scored, scored + len(errors), 'case', 'is/are')} scored, {written}", file=sys.stderr)
    return Outcome(Scored(summary, tuple(errors)), 1 if errors else 0)


def error_lines(errors: "list[CaseError]") -> list[str]:
    """Cases with the same error share a line: often most references have no prediction."""
    from unetrpp.core.problems import grouped

    return [f"{cases}  {message}" for cases, message in grouped((error.case, error.message) for error in errors)]


if __name__ == "__main__":
    sys.exit(main())
