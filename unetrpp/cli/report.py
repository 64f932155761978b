"""`unetrpp_report`: a trained model on one page: scores, best and worst cases, curves, and why it was planned so."""

import argparse
import logging
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from unetrpp.core.command_line import Parser, run

if TYPE_CHECKING:
    from unetrpp.dataset.cases import Case

LOG = logging.getLogger(__name__)

EXAMPLES = """
unetrpp_report unetrpp_workspace/results/Hippocampus/unetrpp__3d_fullres
unetrpp_report unetrpp_workspace/results/Hippocampus/unetrpp__3d_fullres -o hippocampus.html
"""


def build_parser() -> Parser:
    parser = Parser(
        "unetrpp_report",
        "Write the cross-validation of a model, its lowest and highest cases, its learning curves and the reasons of its "
        "plans as one self-contained HTML page.",
        EXAMPLES,
    )
    add = parser.add_argument
    add("model", type=Path, metavar="MODEL", help="a model folder with at least one validated fold")
    add("-o", "--output", type=Path, metavar="FILE", help="default: report.html in the model folder")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    return run(build_parser(), work, argv)


def work(arguments: argparse.Namespace) -> int:
    from unetrpp.core.files import write_bytes
    from unetrpp.evaluation.cross_validation import pool_folds
    from unetrpp.model.folder import ModelFolder
    from unetrpp.report.model_page import model_page

    model = ModelFolder.open(arguments.model)
    result = pool_folds(model.path, model.plans.labels)
    output = arguments.output or model.path / "report.html"
    write_bytes(output, model_page(model, result, raw_cases(model.plans.dataset, arguments.workspace)).encode())
    print(f"report: {output}")
    return 0


def raw_cases(dataset: str, workspace: Path | None) -> "Sequence[Case]":
    """The cases of the raw dataset; none where a model came here without it."""
    from unetrpp.core.errors import UserError
    from unetrpp.core.workspace import Workspace
    from unetrpp.dataset.cases import read_dataset

    try:
        name, folder = Workspace.find(workspace).find_raw(dataset)
        return read_dataset(folder, name).cases
    except UserError as error:
        LOG.warning("the report has no pictures of cases: %s", error)
        return ()


if __name__ == "__main__":
    sys.exit(main())
