"""Where the labels of predictions and references are described."""

from pathlib import Path

from unetrpp.core.errors import UserError
from unetrpp.dataset.description import read_description
from unetrpp.dataset.labels import LabelScheme
from unetrpp.inference.record import earlier_runs


def find_labels(predictions: Path, references: Path, given: Path | None) -> tuple[LabelScheme, str]:
    """The labels and the ending of label files: of dataset.json, or as the model had them that made the predictions.

    Raises:
        UserError: there is none, or it cannot be read.
    """
    beside = references.resolve().parent / "dataset.json"
    if given is None and not beside.exists() and predictions.is_dir():
        known = {(run.labels, run.file_ending) for run in earlier_runs(predictions).values()}
        if len(known) == 1 and (labels := next(iter(known))[0]) is not None:
            return labels, next(iter(known))[1]
    path = beside if given is None else given / "dataset.json" if given.is_dir() else given
    if given is None and not path.exists():
        repair = "give --dataset-json (a dataset.json, or the model folder)"
        if references.is_dir() and earlier_runs(references):
            repair += f"; {references} holds predictions, which come first, before the references"
        raise UserError(
            f"the labels are unknown: there is no {path}, and no predictions.json in {predictions} names them; {repair}"
        )
    description = read_description(path, path.parent.name)
    return description.labels, description.file_ending
