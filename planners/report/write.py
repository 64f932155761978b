"""`write_plan_report`: what was measured, what was decided and why, as a text, a picture and a page."""

from dataclasses import dataclass
from pathlib import Path

from unetrpp.core.files import read_json, write_bytes
from unetrpp.core.workspace import Workspace
from unetrpp.dataset.splits import Splits
from unetrpp.planners.report.page import plan_page
from unetrpp.planners.report.picture import draw_report
from unetrpp.planners.report.text import report_text
from unetrpp.plans.fingerprint import Fingerprint
from unetrpp.plans.plans import read_plans
from unetrpp.report.page import require_page

HINT = "run unetrpp_plan_and_preprocess"


@dataclass(frozen=True)
class PlanReport:
    text: str
    picture: Path  # as it was written
    html: Path | None = None  # the page, where one was asked for


def write_plan_report(
    dataset: str,
    *,
    workspace: Path | str | None = None,
    plans_name: str = "unetrpp",
    picture: Path | str | None = None,
    html: Path | str | None = None,
) -> PlanReport:
    """The text, the picture and the page of a plan report, as `unetrpp_plan_report` makes them.

    Args:
        dataset: name in the workspace, nnU-Net's ``DatasetNNN_Name`` or number.
        picture: where to draw; by default PLANS_report.png beside the plans.
        html: where to write one self-contained page with everything; by default there is none.

    Raises:
        UserError: there is no such dataset, or no such plans of it, or ``html`` is a file that is not a page.
    """
    home = Workspace.find(workspace)
    path = home.plans(home.find_dataset(dataset), plans_name)
    plans = read_plans(path)
    fingerprint = read_json(path.with_name("fingerprint.json"), Fingerprint, HINT)
    splits = read_json(path.with_name("splits.json"), Splits, HINT)
    if html is not None:
        require_page(Path(html))
    target = Path(picture) if picture else path.with_name(f"{plans_name}_report.png")
    draw_report(fingerprint, plans, target)
    if html is not None:
        write_bytes(Path(html), plan_page(fingerprint, plans, splits.why).encode())
    return PlanReport(report_text(fingerprint, plans, splits.why), target, None if html is None else Path(html))
