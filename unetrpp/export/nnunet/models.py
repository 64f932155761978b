"""Writing the trained models of nnU-Net v2 into the workspace's results."""

from pathlib import Path

import torch

from unetrpp.core.errors import UserError
from unetrpp.core.files import to_json, write_folder_atomically, write_json
from unetrpp.core.leftovers import remove_leftovers
from unetrpp.core.workspace import Workspace, require_folder_name
from unetrpp.export.nnunet.prepare import Prepared, prepare
from unetrpp.export.nnunet.source import find_models, opened
from unetrpp.model import checkpoint
from unetrpp.model.folder import FIRST_STAGE, ModelFolder

LARGEST_GB = 20.0


def import_nnunet(
    file: Path | str,
    *,
    name: str | None = None,
    workspace: Path | str | None = None,
    largest_gb: float = LARGEST_GB,
    overwrite: bool = False,
) -> list[Path]:
    """Write every trained model of nnU-Net v2 in ``file`` as ``results/<name>/<plans>__<configuration>``; as `unetrpp_import` does.

    The models predict what nnU-Net 2.8.1 predicts with them. Only weights are taken, and no code from a file is run. The same
    call again leaves the model folders as they are.

    Refused by its name: another network than PlainConvUNet, ResidualEncoderUNet and ResidualUNet, or one that a trainer builds
    itself; a preprocessor, reader, normalisation, resampling function or label manager that is not nnU-Net's own; a cascade's second
    stage without its first; post-processing that is only there as a pickle is named and left out.

    Args:
        file: a zip of nnUNetv2_export_model_to_zip, the folder of a model (TRAINER__PLANS__CONFIGURATION), or the one above it.
        name: of the dataset; by default that of the plans, such as Dataset004_Hippocampus.
        workspace: by default $UNETRPP_WORKSPACE, else ./unetrpp_workspace.
        largest_gb: largest size of all models' files in a zip together, in 10^9 bytes.
        overwrite: replace models of the same names.

    Returns:
        The model folders.

    Raises:
        UserError: no such models, something that cannot be taken over, or another model of this name exists already; the message
            names all of it, and nothing is written.
    """
    require_folder_name(name)
    home = Workspace.find(None if workspace is None else Path(workspace))
    with opened(Path(file), largest_gb) as source:
        prepared = prepare(Path(file), find_models(source), name)
        targets = [home.root / "results" / model.description.name / model.folder for model in prepared]
        pairs = zip(prepared, targets, strict=True)
        left = [(model, target) for model, target in pairs if overwrite or not _is_imported(model, target)]
        taken = [str(target) for _, target in left if target.is_dir() and any(target.iterdir())]
        if taken and not overwrite:
            raise UserError(
                f"{', '.join(taken)} exists already; remove it or import with --overwrite, or under another --name"
            )
        for model, target in left:
            _write(model, target)
    return targets


def _write(model: Prepared, target: Path) -> None:
    def fill(folder: Path) -> None:
        _fill(model, folder)
        if model.first_stage is not None:
            _fill(model.first_stage, folder / FIRST_STAGE)
        opened_model = ModelFolder.open(folder)
        _ = opened_model.description, opened_model.fingerprint, opened_model.first_stage

    write_folder_atomically(target, fill, replace=True)


def _fill(model: Prepared, folder: Path) -> None:
    for file, record in model.records().items():
        write_json(folder / file, record)
    for file, weights in model.weights():
        checkpoint.save(folder / file, {"network": weights})


def _is_imported(model: Prepared, target: Path) -> bool:
    """Whether ``target`` is just this model: an earlier import may have been killed after its last step."""
    remove_leftovers(target.parent)
    stages = [(model, target)] + ([(model.first_stage, target / FIRST_STAGE)] if model.first_stage else [])
    try:
        return all(_is_same(stage, folder) for stage, folder in stages)
    except (UserError, OSError):
        return False


def _is_same(model: Prepared, folder: Path) -> bool:
    records = {file: to_json(record) for file, record in model.records().items()}
    if any((folder / file).read_bytes() != content for file, content in records.items()):
        return False
    for file, weights in model.weights():
        found = checkpoint.load(folder / file, torch.device("cpu"))["network"]
        if found.keys() != weights.keys() or not all(torch.equal(found[name], weights[name]) for name in weights):
            return False
    return True
