"""Which checkpoint each fold starts from with ``--pretrained``: none that may know the cases the fold is scored on."""

from collections.abc import Mapping
from pathlib import Path

from unetrpp.core.digest import file_digest
from unetrpp.core.errors import UserError
from unetrpp.core.files import read_json
from unetrpp.dataset.splits import Fold
from unetrpp.model.folder import ModelFolder
from unetrpp.plans.fingerprint import Fingerprint
from unetrpp.trainers.config import TrainingConfig
from unetrpp.trainers.pretrained import NetworkSpec, spec_of_checkpoint
from unetrpp.trainers.recipe import ConfigOverrides

Folds = Mapping[int | str, Fold]


def fine_tuning_overrides(
    given: Path, folds: Folds, fingerprint: Fingerprint, spec: NetworkSpec, deleted: set[Path]
) -> dict[int | str, ConfigOverrides]:
    """The fields of each fold's training config that ``--pretrained given`` asks for.

    Args:
        given: a model folder, or a checkpoint in one.
        folds: those to be trained, of the dataset with this ``fingerprint``.
        spec: the network to be trained.
        deleted: fold folders that make room for these trainings.

    Raises:
        UserError: for one of the folds there is no checkpoint that it can start from.
    """
    paths = checkpoints_for(given, folds, fingerprint)
    hashes = {}
    for path in set(paths.values()):
        if path.parent in {folder.resolve() for folder in deleted}:
            raise UserError(f"{path} would be deleted by --overwrite; copy its model folder, and give the copy")
        spec_of_checkpoint(path, spec)
        hashes[path] = file_digest(path).hex()[:16]
    return {number: {"pretrained": str(path), "pretrained_hash": hashes[path]} for number, path in paths.items()}


def checkpoints_for(given: Path, folds: Folds, fingerprint: Fingerprint) -> dict[int | str, Path]:
    """A model of the same cases gives each fold its own of this number; otherwise all start from one checkpoint.

    Raises:
        UserError: there is none, or it may have been trained on a fold's validation cases.
    """
    common = find_checkpoint(given).resolve()
    if not common.is_file():
        raise UserError(f"{common} does not exist; give a model folder, or a checkpoint in one")
    paths = dict.fromkeys(folds, common)
    if not _digests(ModelFolder.open(common.parent.parent).fingerprint) & _digests(fingerprint):
        return paths
    for number, fold in folds.items():
        if number == "all":  # is not scored
            continue
        own = given / f"fold_{number}" / "checkpoint_final.pt"
        if own.is_file():
            paths[number] = own.resolve()
        require_unseen(paths[number], number, fold)
    return paths


def find_checkpoint(path: Path) -> Path:
    """``path`` itself, or of a model folder the final checkpoint of ``fold_all`` or else of its first trained fold.

    Raises:
        UserError: there is none.
    """
    if not path.is_dir():
        return path
    model = ModelFolder.open(path)
    trained = [fold for fold in model.folds() if model.checkpoint(fold).is_file()]
    fold = "all" if "all" in trained else model.choose_folds()[0]
    return model.checkpoint(fold)


def require_unseen(checkpoint: Path, number: int | str, fold: Fold) -> None:
    """The fold is scored on cases that a checkpoint of the same dataset must not have learned from.

    Raises:
        UserError: nothing says that both were trained on the same cases.
    """
    record = checkpoint.with_name("training.json")
    if not record.is_file() or read_json(record, TrainingConfig).cases != fold.digest():
        raise UserError(
            f"{checkpoint} comes from this dataset and may have been trained on the validation cases of fold {number}, "
            "whose scores would be too good; give a model folder with this fold of the same splits.json, "
            "or train without --pretrained"
        )


def _digests(fingerprint: Fingerprint) -> set[str]:
    """Of the cases' files, whatever they are called."""
    return {case.inputs_digest for case in fingerprint.cases}
