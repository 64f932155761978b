"""Choosing the model, pair of models and post-processing to predict with, by their scores on the same cases."""

import itertools
import logging
from pathlib import Path

import msgspec

from unetrpp.core.errors import UserError, limit_of
from unetrpp.core.files import write_json
from unetrpp.core.text import counted
from unetrpp.core.workspace import Workspace
from unetrpp.dataset.cases import RawDataset, read_dataset, with_references
from unetrpp.evaluation.candidates import (
    Validated,
    choose_comparable,
    find_validated,
    reason,
    validation_folder,
    validation_pairs,
)
from unetrpp.evaluation.cross_validation import CrossValidation
from unetrpp.evaluation.evaluate import Pairs
from unetrpp.evaluation.pair_validation import validate_pair
from unetrpp.evaluation.postprocessing_choice import choose_components
from unetrpp.evaluation.ranking import Members, rank, reasons
from unetrpp.inference.selection import FILE, Selection, selection_basis

LOG = logging.getLogger(__name__)
MOST_NAMED = 10  # models that are left out, each with its reason


def find_best(
    dataset: str | Path, *, workspace: Path | str | None = None, pairs: bool = True, device: str = "auto"
) -> tuple[Selection, Path]:
    """Compare all validated models of a dataset, and their pairs, and write inference.json, as `unetrpp_find_best` does.

    Args:
        dataset: name in the workspace, DatasetNNN_Name, its number, or a path.
        workspace: by default $UNETRPP_WORKSPACE, else ./unetrpp_workspace.
        pairs: compare pairs as well, whose validation cases are predicted first; False is ``--no-pairs``.
        device: where pairs are predicted: auto, cpu, cuda, cuda:1 or mps.

    Returns:
        What was chosen, and the path of inference.json.

    Raises:
        UserError: no such dataset, a device where nothing is predicted, or as :func:`select_best`.
    """
    if not pairs and device != "auto":
        raise UserError(
            "--device is where pairs are predicted, so it has no effect with --no-pairs; leave one of the two out"
        )
    home = Workspace.find(None if workspace is None else Path(workspace))
    name, folder = home.find_raw(str(dataset))
    raw = with_references(read_dataset(folder, name), home.preprocessed(name) / "labels")
    results = home.root / "results" / name
    return select_best(results, raw, pairs=pairs, device=device), results / FILE


def select_best(results: Path, dataset: RawDataset, *, pairs: bool = True, device: str = "auto") -> Selection:
    """Compare the fully validated model folders of ``results`` and their pairs, choose, and write inference.json.

    Models and pairs that cannot be compared are left out: a warning and inference.json give the reason.

    Raises:
        UserError: no model is left; the message has the reason for each.
    """
    models, left_out = comparable_models(results, dataset)
    labels = models[0].labels
    folders: dict[Members, Path] = {(model.name,): model.model.path for model in models}
    scores: dict[Members, CrossValidation] = {(model.name,): model.scores for model in models}
    for first, second in itertools.combinations(models, 2) if pairs else ():
        members = (first.name, second.name)
        try:
            scores[members], folders[members] = validate_pair(results, (first, second), dataset, device=device)
        except Exception as error:  # one pair must not stop the comparison of the others
            if limit_of(error) is not None:  # the system lacks or refuses something; the pair is not at fault
                raise
            left_out |= _named({" + ".join(members): reason(error)})
    ranked = rank(scores)
    best = ranked[0]
    if best.cases < len(dataset.cases):
        LOG.warning(
            "warning: the scores cover %d of %s, those that a validated fold held out",
            best.cases,
            counted(len(dataset.cases), "training case"),
        )
    files = _all_pairs(folders[best.members], scores[best.members], dataset)
    postprocessing, before, after = choose_components(files, labels)
    selection = Selection(
        made_from=selection_basis(results, best.members, [model.name for model in models]),
        dataset=models[0].model.dataset,
        members=best.members,
        mirroring=models[0].mirroring,
        postprocessing=postprocessing,
        why=reasons(ranked, postprocessing, labels),
        candidates=tuple(ranked),
        left_out=left_out,
        dice_before_postprocessing=before,
        dice_after_postprocessing=after,
    )
    write_json(results / FILE, selection)
    return selection


def comparable_models(results: Path, dataset: RawDataset) -> tuple[list[Validated], dict[str, str]]:
    """The models to compare; and by name, why another one is left out, which a warning says, too.

    Raises:
        UserError: no model is left.
    """
    found, left_out = find_validated(results, dataset)
    models, unlike = choose_comparable(found, dataset.description.labels)
    left_out |= unlike
    if not models:
        listed = "".join(f"\n  {name}: {why}" for name, why in left_out.items())
        raise UserError(
            f"{results} has no model whose folds are all validated and can be loaded"
            + (f":{listed}" if left_out else f"; {_no_model(dataset)}")
        )
    return models, _named(left_out)


def _no_model(dataset: RawDataset) -> str:
    if len(dataset.cases) < 2:
        return "models are compared on cases that they were not trained on, and this dataset has too few"
    return "train one with unetrpp_train"


def _all_pairs(folder: Path, result: CrossValidation, dataset: RawDataset) -> Pairs:
    """By case: its prediction by the fold that held it out, and its reference."""
    pairs: dict[str, tuple[Path, Path]] = {}
    for fold in result.folds:
        cases = tuple(case for case in result.summary.metric_per_case if case.fold == fold.fold)
        scores = msgspec.structs.replace(result.summary, metric_per_case=cases)
        pairs |= validation_pairs(validation_folder(folder, fold.fold), scores, dataset)
    return pairs


def _named(left_out: dict[str, str]) -> dict[str, str]:
    for name, why in list(left_out.items())[:MOST_NAMED]:
        LOG.warning("%s is left out: %s", name, why)
    if len(left_out) > MOST_NAMED:
        LOG.warning(
            "%s left out; %s gives the reasons", counted(len(left_out) - MOST_NAMED, "more is", "more are"), FILE
        )
    return left_out
