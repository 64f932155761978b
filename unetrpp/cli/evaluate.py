"""`unetrpp_evaluate`: score a folder of predictions, or gather the cross-validation of a model."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from unetrpp.core.command_line import Parser, above_zero, positive, run

if TYPE_CHECKING:
    from unetrpp.core.parallel import CaseError

NAMED = 3  # cases of one fault

EXAMPLES = """
unetrpp_evaluate predictions/ unetrpp_workspace/raw/Hippocampus/labelsTs
unetrpp_evaluate predictions/ references/ --dataset-json unetrpp_workspace/raw/Hippocampus/dataset.json --distances
unetrpp_evaluate fold_predictions/ unetrpp_workspace/raw/Hippocampus/labelsTr --predicted-only
unetrpp_evaluate predictions/ references/ --protocol synapse
unetrpp_evaluate --model unetrpp_workspace/results/Hippocampus/unetrpp__3d_fullres
unetrpp_evaluate --compare one/summary.json other/summary.json
"""


def build_parser() -> Parser:
    parser = Parser(
        "unetrpp_evaluate",
        "Score a folder of predictions against a folder of references: summary.json, summary.csv and a table. "
        "With --model, the cross-validation of a model folder over its folds; with --compare, two models case by case.",
        EXAMPLES,
        workspace=False,
    )
    add = parser.add_argument
    add(
        "predictions",
        type=Path,
        nargs="?",
        metavar="PREDICTIONS",
        help="folder of CASE.ending; the summary is written into it",
    )
    add("references", type=Path, nargs="?", metavar="REFERENCES", help="folder of CASE.ending")
    add(
        "--dataset-json",
        type=Path,
        metavar="FILE",
        help="names of the labels (default: dataset.json beside REFERENCES)",
    )
    add("--distances", action="store_true", help="also HD95, normalised surface distance, volumes and lesions (slower)")
    add(
        "--tolerance",
        type=above_zero,
        default=1.0,
        metavar="MM",
        help="of the normalised surface distance (default 1 mm)",
    )
    add(
        "--protocol",
        metavar="NAME_OR_FILE",
        help="test cases and classes of a published table, and its way of counting beside ours: synapse, acdc, brats, "
        "lung, or a JSON file of that shape",
    )
    add("--predicted-only", action="store_true", help="leave out references without a prediction")
    add(
        "--model",
        type=Path,
        metavar="MODEL_FOLDER",
        help="gather the validation of all folds into crossval_summary.json",
    )
    add(
        "--compare",
        type=Path,
        nargs=2,
        metavar="SUMMARY",
        help="two summary.json or crossval_summary.json of the same cases",
    )
    add("--processes", type=positive, metavar="N", help="worker processes (default: by cores and memory)")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    return run(build_parser(), work, argv)


def work(arguments: argparse.Namespace) -> int:
    from unetrpp.core.errors import UserError

    folders = (arguments.predictions, arguments.references)
    overrides = [folders != (None, None), arguments.model is not None, arguments.compare is not None]
    if overrides == [False, True, False]:
        return cross_validation(arguments.model)
    if overrides == [False, False, True]:
        return comparison(*arguments.compare)
    if overrides != [True, False, False] or None in folders:
        raise UserError(
            "give PREDICTIONS and REFERENCES, or --model MODEL_FOLDER alone, or --compare with two summaries alone"
        )
    return folder(arguments)


def comparison(first: Path, second: Path) -> int:
    from unetrpp.evaluation.model_comparison import compare, comparison_table, read_summary

    print(comparison_table(compare(read_summary(first), read_summary(second))))
    return 0


def cross_validation(path: Path) -> int:
    from unetrpp.evaluation.cross_validation import cross_validate, fold_table, write_cross_validation
    from unetrpp.model.folder import ModelFolder

    model = ModelFolder.open(path)
    result = cross_validate(model.path, model.plans.labels)
    write_cross_validation(model.path, result)
    print(fold_table(result))
    return 0


def folder(arguments: argparse.Namespace) -> int:
    from unetrpp.dataset.description import read_description
    from unetrpp.evaluation.evaluate import evaluate_folder
    from unetrpp.evaluation.protocol import protocol_table, read_protocol
    from unetrpp.evaluation.summary import as_table, write_summary

    json = arguments.dataset_json or arguments.references.resolve().parent / "dataset.json"
    description = read_description(json, json.parent.name)
    protocol = read_protocol(arguments.protocol) if arguments.protocol else None
    summary, errors = evaluate_folder(
        arguments.predictions,
        arguments.references,
        description.labels,
        description.file_ending,
        predicted_only=arguments.predicted_only,
        distances=arguments.distances or (protocol is not None and "HD95" in protocol.metrics),
        tolerance_mm=arguments.tolerance,
        processes=arguments.processes,
        protocol=protocol,
    )
    write_summary(arguments.predictions, summary)
    print(as_table(summary))
    if protocol is not None:
        print(f"\n{protocol_table(protocol, summary)}")
    for line in error_lines(errors):
        print(line, file=sys.stderr)
    return 1 if errors else 0


def error_lines(errors: "list[CaseError]") -> list[str]:
    """Cases with the same fault share a line: often all but a few of the references have no prediction."""
    cases: dict[str, list[str]] = {}
    for error in errors:
        cases.setdefault(error.message, []).append(error.case)
    more = {message: f" and {len(names) - NAMED} more" for message, names in cases.items() if len(names) > NAMED}
    return [f"{', '.join(names[:NAMED])}{more.get(text, '')}  {text}" for text, names in cases.items()]


if __name__ == "__main__":
    sys.exit(main())
