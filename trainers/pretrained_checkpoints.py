"""Fine-tuning, part one: which checkpoint each fold starts from with ``--pretrained``.

A checkpoint that may have been trained on the validation cases of the fold is refused.
"""

import logging
from collections.abc import Collection, Mapping
from pathlib import Path

from unetrpp.core.digest import file_digest
from unetrpp.core.errors import UserError
from unetrpp.core.files import read_json
from unetrpp.dataset.splits import Fold
from unetrpp.model.folder import ModelFolder
from unetrpp.plans.fingerprint import Fingerprint
from unetrpp.trainers.config import TrainingConfig
from unetrpp.trainers.network_spec import NetworkSpec
from unetrpp.trainers.pretrained_sources import NNUNET, read_source
from unetrpp.trainers.recipe import ConfigOverrides

LOG = logging.getLogger(__name__)

Folds = Mapping[int | str, Fold]


def fine_tuning_overrides(
    given: Path, folds: Folds, fingerprint: Fingerprint, spec: NetworkSpec, *, deleted: Collection[Path] = ()
) -> dict[int | str, ConfigOverrides]:
    """The fields of each fold's training config that ``--pretrained given`` sets.

    Args:
        given: a model folder, a checkpoint in one, or a checkpoint of nnU-Net.
        folds: those to be trained, of the dataset with this ``fingerprint``.
        spec: of the network to be trained.
        deleted: fold folders that --overwrite is about to delete.

    Raises:
        UserError: for one of the folds there is no checkpoint that it can start from.
    """
    paths = checkpoints_for(given, folds, fingerprint)
    hashes = {}
    for path in set(paths.values()):
        if path.parent in {folder.resolve() for folder in deleted}:
            raise UserError(f"{path} would be deleted by --overwrite; copy its model folder, and give the copy")
        read_source(path, spec)
        hashes[path] = _hash(path)
    return {number: {"pretrained": str(path), "pretrained_hash": hashes[path]} for number, path in paths.items()}


def require_unchanged(path: Path, recorded: str | None) -> None:
    """Make sure that a fold starts from the checkpoint that was checked for it, also where it starts long after the command.

    Args:
        recorded: the hash in its training.json.

    Raises:
        UserError: the file is another one now.
    """
    if path.is_file() and recorded not in (None, _hash(path)):
        raise UserError(
            f"{path} has changed since this fold was to start from it; restore it, or start the fold again with --pretrained and "
            "--overwrite"
        )


def _hash(path: Path) -> str:
    return file_digest(path).hex()[:16]


def checkpoints_for(given: Path, folds: Folds, fingerprint: Fingerprint) -> dict[int | str, Path]:
    """A model of the same dataset gives each fold the checkpoint of the same number; any other gives one for all.

    Logs a warning where nobody can tell which cases the checkpoint was trained on.

    Raises:
        UserError: there is none, or it may have been trained on a fold's validation cases.
    """
    common = find_checkpoint(given).resolve()
    if not common.is_file():
        raise UserError(f"{common} does not exist; give a model folder, a checkpoint in one, or one of nnU-Net (.pth)")
    paths = dict.fromkeys(folds, common)
    trained_on = set() if common.suffix == NNUNET else _digests(ModelFolder.open(common.parent.parent).fingerprint)
    if not trained_on:
        LOG.warning(
            "%s does not say which images it was trained on; if some of this dataset are among them, the scores of the "
            "folds that hold them out will be too good",
            common,
        )
    if not trained_on & _digests(fingerprint):
        return paths
    for number, fold in folds.items():
        if number == "all":  # has no validation cases
            continue
        own = given / f"fold_{number}" / "checkpoint_final.pt"
        if own.is_file():
            paths[number] = own.resolve()
        require_unseen(paths[number], number, fold)
    return paths


def find_checkpoint(path: Path) -> Path:
    """``path`` itself; or, of a model folder, the final checkpoint of ``fold_all``, else of its first trained fold.

    Raises:
        UserError: there is none.
    """
    if not path.is_dir():
        return path
    model = ModelFolder.open(path)
    fold = "all" if "all" in model.trained() else model.choose_folds()[0]
    return model.checkpoint(fold)


def require_unseen(checkpoint: Path, number: int | str, fold: Fold) -> None:
    """A checkpoint of the same dataset must not have been trained on the validation cases of ``fold``.

    Raises:
        UserError: its record does not prove that it was trained on the fold's training cases.
    """
    record = checkpoint.with_name("training.json")
    if not record.is_file() or read_json(record, TrainingConfig).cases != fold.digest():
        raise UserError(
            f"{checkpoint} comes from this dataset and may have been trained on the validation cases of fold {number}, "
            "whose scores would be too good; give a model folder with this fold of the same splits.json, "
            "or train without --pretrained"
        )


def _digests(fingerprint: Fingerprint) -> set[str]:
    """Digests of the cases' files, which do not depend on their names; a model imported from nnU-Net has none."""
    return {case.inputs_digest for case in fingerprint.cases} - {""}
