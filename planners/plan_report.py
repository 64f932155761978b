"""`unetrpp_plan_report`: show what was measured, what was decided and why, as text, as a picture and as a page."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from unetrpp.core.command_line import Parser, own_options, run
from unetrpp.core.reply import Outcome

EXAMPLES = """\
unetrpp_plan_report Hippocampus
unetrpp_plan_report Hippocampus --plans-name unet --picture hippocampus.png
unetrpp_plan_report Hippocampus --html hippocampus.html"""


def main(argv: Sequence[str] | None = None) -> int:
    return run(build_parser(), work, argv)


def build_parser() -> Parser:
    p = Parser(
        "unetrpp_plan_report",
        "Print what was measured in a dataset, what was decided and why, and draw it.",
        EXAMPLES,
    )
    p.add_argument("dataset", metavar="DATASET", help="name in the workspace, nnU-Net's DatasetNNN_Name or number")
    p.add_argument("-p", "--plans-name", metavar="NAME", default="unetrpp", help="name of the plans (default: unetrpp)")
    what = "where to draw (default: NAME_report.png next to the plans)"
    p.add_argument("--picture", type=Path, metavar="FILE", help=what)
    what = "also write one self-contained HTML page: text, pictures, every class, and what would change the plan"
    p.add_argument("--html", type=Path, metavar="FILE", help=what)
    return p


def result_types() -> dict[str, object]:
    """What ``--json`` gives."""
    from unetrpp.planners.report.write import PlanReport

    return {"": PlanReport}


def work(arguments: argparse.Namespace) -> Outcome:
    from unetrpp.planners.report.write import write_plan_report

    report = write_plan_report(arguments.dataset, **own_options(arguments, "dataset"))
    print(f"{report.text}\n\npicture: {report.picture}")
    if report.html is not None:
        print(f"page: {report.html}")
    return Outcome(report)


if __name__ == "__main__":
    sys.exit(main())
