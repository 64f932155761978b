"""What `unetrpp_train --json` gives of a trained model."""

from dataclasses import dataclass
from pathlib import Path

from unetrpp.core.files import read_json
from unetrpp.evaluation.cross_validation import FILE, CrossValidation
from unetrpp.model.folder import ModelFolder


@dataclass(frozen=True)
class TrainedModel:
    """A model folder after a training."""

    model: Path
    dataset: str
    configuration: str
    trained: tuple[str, ...]  # folds that are finished
    cross_validation: CrossValidation | None  # the content of crossval_summary.json; None before a fold is validated
    next: str  # the command that goes on


def result_of(model: ModelFolder, following: str) -> TrainedModel:
    """What there is in a model folder now.

    Raises:
        UserError: crossval_summary.json is malformed.
    """
    scores = model.path / FILE
    return TrainedModel(
        model=model.path,
        dataset=model.dataset,
        configuration=model.configuration_name,
        trained=tuple(model.trained()),
        cross_validation=read_json(scores, CrossValidation) if scores.is_file() else None,
        next=following,
    )
