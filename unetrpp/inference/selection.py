"""inference.json: which models unetrpp_find_best chose for a dataset, and with which mirroring and post-processing."""

from pathlib import Path

from unetrpp.core.files import Record, read_json
from unetrpp.core.workspace import Workspace
from unetrpp.inference.postprocessing import PostProcessing

FILE = "inference.json"


class Candidate(Record, frozen=True, kw_only=True):
    """One model or a pair of models; ``members`` are names of model folders."""

    members: tuple[str, ...]
    cases: int
    foreground_mean: dict[str, float | None]  # metric -> mean over cases and foreground classes
    mean: dict[str, dict[str, float | None]]  # label or region -> metric -> mean over cases

    @property
    def name(self) -> str:
        """The members' names, joined by " + "."""
        return " + ".join(self.members)

    @property
    def dice(self) -> float:
        """Mean Dice over cases and foreground classes; 0 if no case has any."""
        return self.foreground_mean.get("Dice") or 0.0


class Selection(Record, frozen=True, kw_only=True):
    """The content of inference.json: what ``unetrpp_predict --best`` follows, and why it was chosen."""

    format: int = 1
    dataset: str
    members: tuple[str, ...]
    mirroring: bool  # of the cross-validation, on which all of the following is based
    postprocessing: PostProcessing
    why: tuple[str, ...]
    candidates: tuple[Candidate, ...]  # best first
    dice_before_postprocessing: dict[str, float | None]
    dice_after_postprocessing: dict[str, float | None]


def find_selection(dataset: str, workspace: Path | str | None) -> tuple[Selection, list[Path]]:
    """What unetrpp_find_best chose for a dataset of the workspace, and the chosen model folders.

    Raises:
        UserError: no such dataset, or as :func:`read_selection`.
    """
    home = Workspace.find(None if workspace is None else Path(workspace))
    results = home.root / "results" / home.find_dataset(dataset)
    selection = read_selection(results)
    return selection, [results / member for member in selection.members]


def read_selection(results: Path) -> Selection:
    """The selection for the dataset whose models are in ``results``.

    Raises:
        UserError: there is none, or the file is malformed.
    """
    return read_json(results / FILE, Selection, hint="run unetrpp_find_best")
