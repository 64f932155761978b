"""`unetrpp_plan_report`: what was measured, what was decided and why, as a table and a picture."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from unetrpp.core.command_line import Parser, run

EXAMPLES = """\
unetrpp_plan_report Hippocampus
unetrpp_plan_report Hippocampus --plans-name unet --picture hippocampus.png"""


def main(argv: Sequence[str] | None = None) -> int:
    return run(parser(), work, argv)


def parser() -> Parser:
    p = Parser(
        "unetrpp_plan_report",
        "Print what was measured on a dataset, what was decided and why, and draw it.",
        EXAMPLES,
    )
    p.add_argument("dataset", metavar="DATASET", help="name in the workspace, nnU-Net's DatasetNNN_Name or number")
    p.add_argument("-p", "--plans-name", metavar="NAME", default="unetrpp", help="name of the plans (default: unetrpp)")
    what = "where to draw (default: NAME_report.png beside the plans)"
    p.add_argument("--picture", type=Path, metavar="FILE", help=what)
    return p


def work(arguments: argparse.Namespace) -> int:
    from unetrpp.core.files import read_json
    from unetrpp.core.workspace import Workspace
    from unetrpp.dataset.splits import Splits
    from unetrpp.planners.report.picture import draw_report
    from unetrpp.planners.report.text import report_text
    from unetrpp.plans.fingerprint import Fingerprint
    from unetrpp.plans.plans import read_plans

    workspace = Workspace.find(arguments.workspace)
    dataset = workspace.find_dataset(arguments.dataset)
    path = workspace.plans(dataset, arguments.plans_name)
    plans = read_plans(path)
    mend = "run unetrpp_plan_and_preprocess"
    fingerprint = read_json(path.with_name("fingerprint.json"), Fingerprint, mend)
    picture = arguments.picture or path.with_name(f"{arguments.plans_name}_report.png")
    draw_report(fingerprint, plans, picture)
    print(report_text(fingerprint, plans, read_json(path.with_name("splits.json"), Splits, mend).why))
    print(f"\npicture: {picture}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
