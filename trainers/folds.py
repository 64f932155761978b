"""Training of the folds of a configuration: `unetrpp_train` as one call from Python."""

import logging
from functools import partial
from pathlib import Path
from typing import Literal

import msgspec
import torch

from unetrpp.core.devices import half_precision, is_out_of_memory
from unetrpp.core.errors import UserError
from unetrpp.core.files import read_json, remove_folder, update_json, write_json
from unetrpp.core.registry import find
from unetrpp.core.text import counted, format_shape
from unetrpp.core.workspace import Workspace
from unetrpp.evaluation.cross_validation import update_cross_validation
from unetrpp.model import checkpoint
from unetrpp.model.folder import ModelFolder
from unetrpp.model.folds import Folds
from unetrpp.networks.cpu_kernels.allocator import keep_freed_memory
from unetrpp.trainers.attention_trainer import AttentionTrainer
from unetrpp.trainers.config import TrainingConfig
from unetrpp.trainers.distributed import Processes
from unetrpp.trainers.inner_split import held_out
from unetrpp.trainers.inputs import FoldData, Machine
from unetrpp.trainers.job import Job, TrainingRequest, prepare_model_folder, read_job
from unetrpp.trainers.log import TensorBoard, class_names, require_tensorboard
from unetrpp.trainers.recipe import config_for
from unetrpp.trainers.trained_on import FILE as TRAINED_ON
from unetrpp.trainers.trained_on import same_training_cases, training_inputs, warn_of_changes
from unetrpp.trainers.trainer import TRAINERS, Trainer
from unetrpp.trainers.validation import ValidationCases, validate_fold

LOG = logging.getLogger(__name__)
PRECISION = {None: "fp32", torch.bfloat16: "bf16", torch.float16: "fp16"}


def train(
    dataset: str | Path,
    configuration: str,
    fold: Folds | None = None,
    *,
    workspace: str | Path | None = None,
    plans_name: str = "unetrpp",
    epochs: int | None = None,
    iterations: int | None = None,
    recipe: Literal["nnunet"] | None = None,
    lr: float | None = None,
    optimizer: Literal["sgd", "adamw"] | None = None,
    seed: int | None = None,
    precision: Literal["fp32", "bf16", "fp16"] | None = None,
    max_hours: float | None = None,
    patience: int | None = None,
    augmentation: Literal["device", "workers"] | None = None,
    trainer: str | None = None,
    learn_attention: bool = False,
    pretrained: str | Path | None = None,
    device: str = "auto",
    threads: int = 2,
    compile: bool = False,
    tensorboard: bool = False,
    mirroring: bool = True,
    continue_training: bool = False,
    overwrite: bool = False,
) -> ModelFolder:
    """Train and validate the folds of a planned and preprocessed configuration, as the command `unetrpp_train` does.

    The same call resumes what is unfinished, and leaves finished folds as they are. Options that are None are chosen by
    the recipe (docs/training.md), or are those that a resumed fold was started with.

    Args:
        dataset: its name in the workspace, ``DatasetNNN_Name``, or its number; a path is reduced to its last part.
        configuration: of the plans, such as ``3d_fullres``.
        fold: one, a range such as ``"0-4"``, or a list of them; ``"all"`` is one model on all cases. None trains every fold.
        workspace: None takes ``$UNETRPP_WORKSPACE``, else ./unetrpp_workspace.
        iterations: optimiser steps per epoch.
        recipe: "nnunet" trains as nnU-Net 2.8.1 does, to compare with it.
        lr: initial learning rate.
        max_hours: the learning-rate schedule follows the clock, and a fold ends after so many hours.
        patience: stop after so many epochs without a better Dice on validation patches.
        augmentation: on the training device, or by batchgenerators in worker processes.
        trainer: "standard", the name that a package registers, or ``package.module:Class``.
        learn_attention: learn the gammas of the attention modules, then keep those that have an effect (experimental).
        pretrained: a model folder, a checkpoint in one, or one of nnU-Net (.pth), to start from.
        device: auto, cpu, cuda, cuda:1 or mps.
        threads: threads that read patches; with ``augmentation="workers"``, processes that also augment them.
        compile: try torch.compile.
        tensorboard: also write TensorBoard scalars (an extra).
        mirroring: validate with mirrored passes; False, the command's ``--no-mirroring``, is faster.
        continue_training: extend finished folds to ``epochs``; the command's ``--continue``, a keyword of Python.
        overwrite: delete what these folds hold, and start again.

    Raises:
        UserError: something that the training needs is missing, an option is impossible, or it contradicts what a fold
            was started with.
    """
    if continue_training and overwrite:
        raise UserError("--continue extends folds and --overwrite deletes them; give only one of them")
    overrides = {
        "epochs": epochs,
        "iterations": iterations,
        "recipe": recipe,
        "learning_rate": lr,
        "optimizer": optimizer,
        "seed": seed,
        "precision": precision,
        "max_hours": max_hours,
        "patience": patience,
        "augmentation": augmentation,
        "trainer": trainer,
        "learn_attention": learn_attention or None,
    }
    request = TrainingRequest(
        workspace=Workspace.find(Path(workspace) if workspace is not None else None),
        dataset=Path(dataset).name,
        configuration=configuration,
        fold=fold,
        plans_name=plans_name,
        overrides=overrides,
        pretrained=Path(pretrained) if pretrained is not None else None,
        tensorboard=tensorboard,
        mirroring=mirroring,
        continue_training=continue_training,
        overwrite=overwrite,
    )
    if tensorboard:
        require_tensorboard()  # before --overwrite deletes anything
    processes = Processes.find()
    with processes.joined():
        machine = Machine(processes.rank_zero_first(partial(processes.device, device)), threads, compile, processes)
        job = processes.rank_zero_first(partial(read_job, request))
        configs = processes.rank_zero_first(partial(read_configs, job, machine))
        processes.rank_zero_only(partial(prepare_model_folder, job))
        if machine.device.type == "cpu":
            keep_freed_memory()
        for number in job.folds:
            train_fold(job, configs[number], machine)
            validate(job, number, machine)
    return ModelFolder.open(job.model)


def read_configs(job: Job, machine: Machine) -> dict[int | str, TrainingConfig]:
    """The training config of every chosen fold. Writes nothing, so that a refusal costs nothing.

    Raises:
        UserError: the options contradict what a fold was started with, or the processes cannot share the training.
    """
    configs = {number: _read_config(job, number, machine) for number in job.folds}
    for config in configs.values():
        machine.processes.require(job.configuration.batch_size, config)
    return configs


def _read_config(job: Job, number: int | str, machine: Machine) -> TrainingConfig:
    request, folder, fold = job.request, job.model / f"fold_{number}", job.cases_of(number)
    record = folder / "training.json"
    started = (
        None
        if request.overwrite or not record.exists()
        else read_json(record, TrainingConfig, hint="start again with --overwrite")
    )
    cases = fold.digest()
    if started is not None and started.cases != cases and same_training_cases(folder, fold):
        LOG.info("the validation cases of fold %s have changed, so it is validated again", number)
        cases = started.cases
    config = config_for(
        folder,
        number,
        {**request.overrides, **job.starts.get(number, {})},
        continue_training=request.continue_training,
        overwrite=request.overwrite,
        precision=PRECISION[half_precision(machine.device)],
        cases=cases,
    )
    if config.learn_attention:
        held_out(fold.train, job.description.groups or {}, config.seed, config.fold_number)  # refuses a single case
    if started not in (None, config) and (folder / "checkpoint_final.pt").exists():
        checkpoint.load(folder / "checkpoint_latest.pt", torch.device("cpu"))  # before the final one is removed
    return msgspec.structs.replace(config, cases=fold.digest())


def train_fold(job: Job, config: TrainingConfig, machine: Machine) -> None:
    """Train one fold, or only what is left of it.

    Raises:
        UserError: the device has too little memory for a step.
    """
    number = config.fold
    folder = job.model / f"fold_{number}"
    machine.processes.rank_zero_only(partial(start_fold, job, config))
    if (folder / "checkpoint_final.pt").exists():
        return
    trainer = build_trainer(job, config, folder, machine)
    if job.request.tensorboard and machine.processes.first:
        trainer.tracker = TensorBoard(folder, class_names(trainer.labels))
    validated = (
        counted(len(trainer.data.validation), "validation case") if trainer.data.validation else "no validation case"
    )
    counts = f"{counted(len(trainer.data.train), 'training case')} and {validated}"
    LOG.info("fold %s: %s, %s", number, counts, config.recipe)
    try:
        trainer.run()
    except RuntimeError as error:
        if not is_out_of_memory(error):
            raise
        batch = (
            f"{counted(job.configuration.batch_size, 'patch', 'patches')} of {format_shape(job.configuration.patch)}"
        )
        raise UserError(
            f"fold {number}: a batch of {batch} needs more memory than {machine.device} has left; end other programs "
            "that use it, or plan for less with --gpu-memory-gb and another --plans-name"
        ) from error


def start_fold(job: Job, config: TrainingConfig) -> None:
    """Write the fold's training.json and trained_on.json, in the first process; warn where its files have changed since."""
    folder = job.model / f"fold_{config.fold}"
    record = folder / "training.json"
    inputs = training_inputs(job.cases_of(config.fold), job.store, job.configuration)
    if not record.exists():
        write_json(folder / TRAINED_ON, inputs)
        write_json(record, config)
        return
    started = read_json(record, TrainingConfig)
    if msgspec.structs.replace(started, cases=config.cases) != config:  # extended, so it is no longer finished
        (folder / "checkpoint_final.pt").unlink(missing_ok=True)
        remove_folder(folder / "validation")
        update_cross_validation(job.model, job.plans.labels)
    update_json(record, config)
    warn_of_changes(folder, inputs, job.request.command(config.fold))


def build_trainer(job: Job, config: TrainingConfig, folder: Path, machine: Machine) -> Trainer:
    """The trainer that ``config`` names, on the fold's cases.

    Raises:
        UserError: training.json names a trainer by its import path, and it was not given again.
    """
    cases, request = job.cases_of(config.fold), job.request
    held_out_cases = () if config.fold == "all" else cases.validation
    train, validation = ([job.store.open(case) for case in names] for names in (cases.train, held_out_cases))
    data = FoldData(job.configuration, train, validation, job.description.groups or {})
    if config.learn_attention:
        return AttentionTrainer(data, config, folder, machine)
    given_now = config.trainer == request.overrides.get("trainer")
    return find("trainer", config.trainer, TRAINERS, allow_import_path=given_now)(data, config, folder, machine)


def validate(job: Job, number: int | str, machine: Machine) -> None:
    """Validate a trained fold on whole volumes in the first process; the others wait."""
    if number == "all":
        LOG.info("fold all: trained on every case, so no case is left to validate on")
        return
    cases = ValidationCases(job.cases_of(number).validation, job.store, job.references)
    device, mirroring = machine.device, job.request.mirroring
    machine.processes.rank_zero_only(
        lambda: validate_fold(job.model, int(number), cases, device=device, mirroring=mirroring)
    )
