"""Writing the trained models of nnU-Net v2 into the workspace's results."""

import json
import logging
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any, TypeVar

import msgspec
import torch
from torch import Tensor

from unetrpp.core.errors import UserError, refuse
from unetrpp.core.files import read_json, write_folder_atomically, write_json
from unetrpp.core.leftovers import remove_leftovers
from unetrpp.core.workspace import Workspace, as_folder_name, require_folder_name
from unetrpp.dataset.description import DatasetDescription, nnunet_json, read_description
from unetrpp.export.nnunet.records import (
    ForeignFingerprint,
    ForeignPlans,
    faults,
    our_configuration,
    our_fingerprint,
    our_plans,
    source_decision,
    without_unused_order,
)
from unetrpp.export.nnunet.source import DATASET, FINGERPRINT, PLANS, Found, find_models, opened
from unetrpp.model import checkpoint
from unetrpp.model.folder import FIRST_STAGE, ModelFolder
from unetrpp.networks.nnunet import NnunetCheckpoint, channels_of, convert_weights, read_checkpoint
from unetrpp.plans.architecture import Architecture
from unetrpp.plans.fingerprint import Fingerprint
from unetrpp.plans.nnunet import architecture_of, resolve
from unetrpp.plans.plans import Plans, read_plans

LOG = logging.getLogger(__name__)
LARGEST_GB = 20.0
T = TypeVar("T")


@dataclass(frozen=True)
class Prepared:
    """A model whose records and first checkpoint were read; its other checkpoints are read one by one when it is written."""

    found: Found
    trainer: str
    plans: Plans
    description: DatasetDescription
    fingerprint: Fingerprint
    cases: int  # of training
    first_stage: "Prepared | None" = None

    @property
    def configuration(self) -> str:
        return next(iter(self.plans.configurations))

    @property
    def architecture(self) -> Architecture:
        return self.plans.configurations[self.configuration].architecture

    @property
    def folder(self) -> str:
        """Name of the model folder."""
        return f"{as_folder_name(self.plans.name)}__{self.configuration}"

    def records(self) -> dict[str, object]:
        """By file name."""
        return {
            "plans.json": self.plans,
            "dataset.json": nnunet_json(self.description, self.cases),
            "fingerprint.json": self.fingerprint,
        }

    def folds(self) -> set[str]:
        return {fold for fold, which in self.found.checkpoints if which == "final"}

    def weights(self) -> Iterator[tuple[str, dict[str, Tensor]]]:
        """``fold_0/checkpoint_final.pt``, ... and their weights under our names, one at a time."""
        for (fold, which), file in self.found.checkpoints.items():
            read = _read(self.found, file)
            yield f"fold_{fold}/checkpoint_{which}.pt", convert_weights(read, self.architecture)


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
        prepared = _prepare(Path(file), find_models(source), name)
        targets = [home.root / "results" / model.description.name / model.folder for model in prepared]
        for model, target in zip(prepared, targets, strict=True):
            _write(model, target, overwrite)
    return targets


def _prepare(path: Path, found: list[Found], name: str | None) -> list[Prepared]:
    """
    Raises:
        UserError: there is no model, one cannot be taken over, or two would have one name.
    """
    if not found:
        raise UserError(
            f"{path} holds no trained model: neither the manifest.json of unetrpp_export, nor plans.json and "
            "fold_*/checkpoint_final.pth of nnU-Net v2; a checkpoint of the released UNETR++ code needs --preset"
        )
    prepared, problems = list[Prepared](), list[str]()
    for one in found:
        try:
            prepared.append(_read_model(one, name))
        except UserError as error:
            problems.append(str(error))
    known = {(model.description.name, model.folder): model for model in prepared}
    for model in prepared:
        other = known[model.description.name, model.folder]
        if other is not model:
            problems.append(f"{model.found.name} and {other.found.name} would have one name; import one of them alone")
    if not problems:
        prepared = [_with_first_stage(model, prepared, problems) for model in prepared]
    if problems:
        raise UserError("\n".join(problems))
    return prepared


def _with_first_stage(model: Prepared, others: list[Prepared], problems: list[str]) -> Prepared:
    """A cascade's second stage with its first, which must have the same folds."""
    needed = model.plans.configurations[model.configuration].first_stage
    if needed is None:
        return model
    wanted = (model.trainer, model.plans.name, needed)
    same = [other for other in others if (other.trainer, other.plans.name, other.configuration) == wanted]
    where = f"{model.found.name} is a cascade's second stage, but"
    if not same:
        problems.append(f"{where} its first, {needed}, is not beside it; export or give both together")
        return model
    missing = sorted(model.folds() - same[0].folds()) if "all" not in model.folds() else []
    if missing:
        problems.append(f"{where} its first, {needed}, has no fold {', '.join(missing)}; train and give it, too")
    return replace(model, first_stage=same[0])


def _read_model(found: Found, name: str | None) -> Prepared:
    """
    Raises:
        UserError: a record is missing or malformed, or something cannot be taken over.
    """
    plans = _decoded(found, PLANS, ForeignPlans)
    read = _read(found, next(iter(found.checkpoints.values())))
    description, cases = _description(found, name or as_folder_name(plans.dataset_name))
    where = found.name
    configuration = resolve(plans.configurations, read.configuration, where)
    channels = len(description.channel_names)
    refuse([*faults(plans, configuration, channels)], where)
    inputs, outputs = channels_of(read)
    architecture = architecture_of(configuration, inputs, outputs, where=where)
    classes = 0 if configuration.previous_stage is None else len(description.labels.foreground)
    if (inputs, outputs) != (channels + classes, description.labels.outputs):
        raise UserError(
            f"{where}: the network takes {inputs} channels and gives {outputs}, dataset.json describes {channels + classes} and "
            f"{description.labels.outputs}; give the dataset.json of its training"
        )
    convert_weights(read, architecture)
    network = configuration.architecture.network_class_name.rpartition(".")[2]
    ours = our_configuration(
        plans,
        configuration,
        description,
        architecture,
        mirror_axes=read.mirror_axes,
        source=source_decision(network, read.trainer, plans, read.configuration),
    )
    measured = _decoded(found, FINGERPRINT, ForeignFingerprint) if found.has(FINGERPRINT) else ForeignFingerprint()
    return Prepared(
        found=found,
        trainer=read.trainer,
        plans=our_plans(plans, read.configuration, description, ours),
        description=description,
        fingerprint=our_fingerprint(plans, measured, description),
        cases=cases,
    )


def _read(found: Found, file: PurePosixPath) -> NnunetCheckpoint:
    """A checkpoint, named in messages by where it comes from."""
    with found.source.on_disk(file) as path:
        try:
            read = read_checkpoint(path)
        except UserError as error:
            raise UserError(str(error).replace(str(path), found.source.name(file))) from None
    return replace(read, path=Path(found.source.name(file)))


def _decoded(found: Found, file: str, kind: type[T]) -> T:
    try:
        return msgspec.json.decode(found.read(file), type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise UserError(f"{found.name}/{file}: {error}; copy it from where the model was trained") from None


def _description(found: Found, name: str) -> tuple[DatasetDescription, int]:
    """dataset.json, and the number of training cases."""
    content: Mapping[str, Any] = _decoded(found, DATASET, dict[str, Any])
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / DATASET
        path.write_text(json.dumps(without_unused_order(content)))
        try:
            description = read_description(path, name)
        except UserError as error:
            raise UserError(str(error).replace(str(path), f"{found.name}/{DATASET}")) from None
    return description, description.declared_cases or 1


def _write(model: Prepared, target: Path, overwrite: bool) -> None:
    def fill(folder: Path) -> None:
        _fill(model, folder)
        if model.first_stage is not None:
            _fill(model.first_stage, folder / FIRST_STAGE)
        opened_model = ModelFolder.open(folder)
        _ = opened_model.description, opened_model.fingerprint, opened_model.first_stage

    if overwrite or not _is_imported(model, target):
        write_folder_atomically(target, fill, replace=overwrite, hint="remove it or import with --overwrite")


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
    if read_plans(folder / "plans.json") != model.plans:
        return False
    if read_json(folder / "fingerprint.json", Fingerprint) != model.fingerprint:
        return False
    if read_description(folder / "dataset.json", model.description.name) != model.description:
        return False
    for file, weights in model.weights():
        found = checkpoint.load(folder / file, torch.device("cpu"))["network"]
        if found.keys() != weights.keys() or not all(torch.equal(found[name], weights[name]) for name in weights):
            return False
    return True
