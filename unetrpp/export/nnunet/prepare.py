"""Reading the records and checkpoints of nnU-Net's trained models; everything that can refuse one is checked here."""

import json
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any, TypeVar

import msgspec
from torch import Tensor

from unetrpp.core.errors import UserError, refuse
from unetrpp.core.workspace import as_folder_name
from unetrpp.dataset.description import DatasetDescription, nnunet_json, read_description
from unetrpp.export.nnunet.postprocessing import read_postprocessing
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
from unetrpp.export.nnunet.source import DATASET, FINGERPRINT, PLANS, Found
from unetrpp.inference.postprocessing import FILE as POSTPROCESSING
from unetrpp.inference.postprocessing import PostProcessing
from unetrpp.networks.nnunet import NnunetCheckpoint, channels_of, convert_weights, read_checkpoint
from unetrpp.plans.architecture import Architecture
from unetrpp.plans.fingerprint import Fingerprint
from unetrpp.plans.nnunet import architecture_of, resolve
from unetrpp.plans.plans import Plans

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
    postprocessing: PostProcessing | None
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
        records: dict[str, object] = {
            "plans.json": self.plans,
            "dataset.json": nnunet_json(self.description, self.cases),
            "fingerprint.json": self.fingerprint,
        }
        return records if self.postprocessing is None else records | {POSTPROCESSING: self.postprocessing}

    def folds(self) -> set[str]:
        return {fold for fold, which in self.found.checkpoints if which == "final"}

    def weights(self) -> Iterator[tuple[str, dict[str, Tensor]]]:
        """``fold_0/checkpoint_final.pt``, ... and their weights under our names, one at a time."""
        for (fold, which), file in self.found.checkpoints.items():
            read = _read(self.found, file)
            yield f"fold_{fold}/checkpoint_{which}.pt", convert_weights(read, self.architecture)


def prepare(path: Path, found: list[Found], name: str | None) -> list[Prepared]:
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
    if not same[0].folds():
        problems.append(
            f"{where} its first, {needed}, has no final checkpoint, with which it is run; export or give that, too"
        )
    elif missing:
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
        postprocessing=read_postprocessing(found),
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
