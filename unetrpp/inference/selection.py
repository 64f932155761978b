"""inference.json: which models unetrpp_find_best chose for a dataset, and with which mirroring and post-processing."""

from collections.abc import Iterable
from pathlib import Path
from typing import ClassVar

import msgspec

from unetrpp.core.digest import Derived, digest
from unetrpp.core.errors import UserError
from unetrpp.core.files import Record, read_json
from unetrpp.core.workspace import Workspace
from unetrpp.inference.calibration import voxel_counts
from unetrpp.inference.postprocessing import PostProcessing
from unetrpp.model.folder import ModelFolder

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
    def dice(self) -> float | None:
        """Mean Dice over cases and foreground classes; None where it is undefined, because no case and no prediction has any."""
        return self.foreground_mean.get("Dice")


class Selection(Derived, frozen=True, kw_only=True):
    """The content of inference.json: what ``unetrpp_predict --best`` follows, and why it was chosen.

    ``made_from`` is the :func:`selection_basis`.
    """

    later_fields: ClassVar[frozenset[str]] = Derived.later_fields | {"left_out"}
    format: int = 1
    dataset: str
    members: tuple[str, ...]
    mirroring: bool  # of the cross-validation, on which all of the following is based
    postprocessing: PostProcessing
    why: tuple[str, ...]
    candidates: tuple[Candidate, ...]  # best first
    left_out: dict[str, str] = msgspec.field(default_factory=dict)  # model or pair -> why it is no candidate
    dice_before_postprocessing: dict[str, float | None]
    dice_after_postprocessing: dict[str, float | None]


def find_selection(dataset: str, workspace: Path | str | None) -> tuple[Selection, list[Path]]:
    """What unetrpp_find_best chose for a dataset of the workspace, and the chosen model folders.

    Raises:
        UserError: no such dataset, or as :func:`read_selection`.
    """
    home = Workspace.find(None if workspace is None else Path(workspace))
    results = home.root / "results" / home.find_dataset(dataset, parts=("raw", "preprocessed", "results"))
    selection = read_selection(results)
    return selection, [results / member for member in selection.members]


def read_selection(results: Path) -> Selection:
    """The selection for the dataset whose models are in ``results``.

    Raises:
        UserError: there is none, the file is malformed, or the models or scores that it rests on have changed.
    """
    path = results / FILE
    selection = read_json(path, Selection, hint="run unetrpp_find_best")
    compared = {member for candidate in selection.candidates for member in candidate.members}
    try:
        made_from = selection_basis(results, selection.members, compared)
    except (UserError, OSError):  # a member or its scores are gone
        made_from = ""
    if not selection.made_from or selection.made_from != made_from:
        raise UserError(
            f"{path} was chosen from other weights or validation scores than are in {results} now; "
            "run unetrpp_find_best again, or give the models with -m"
        )
    return selection


def selection_basis(results: Path, members: Iterable[str], compared: Iterable[str]) -> str:
    """Digest of what a selection rests on: the scores of all models that were compared, and the weights of the chosen ones.

    Raises:
        UserError: a chosen model cannot be opened.
        OSError: one of its checkpoints is gone.
    """
    scores = {
        name: [voxel_counts(path) for path in sorted((results / name).glob("fold_*/validation/summary.json"))]
        for name in compared
    }
    chosen = [ModelFolder.open(results / name) for name in members]
    return digest(scores, [model.digest(model.choose_folds()) for model in chosen])
