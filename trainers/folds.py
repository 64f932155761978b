"""Training of the folds of a configuration: `unetrpp_train` as one call from Python."""

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Literal

import torch

from unetrpp.core.devices import device_names, find_device
from unetrpp.core.errors import SomeFailed, UserError, in_words
from unetrpp.core.lock import locked
from unetrpp.core.text import counted_of, listed
from unetrpp.core.workspace import Workspace
from unetrpp.evaluation.cross_validation import update_cross_validation
from unetrpp.model.folder import ModelFolder
from unetrpp.model.folds import Folds
from unetrpp.networks.cpu_kernels.allocator import keep_freed_memory
from unetrpp.trainers.config import TrainingConfig
from unetrpp.trainers.distributed import Processes
from unetrpp.trainers.fold_process import FoldTask, process_lock
from unetrpp.trainers.inputs import Machine
from unetrpp.trainers.job import Job, TrainingRequest, prepare_model_folder, read_job
from unetrpp.trainers.one_fold import is_trained, read_config, run_fold, start_fold
from unetrpp.trainers.side_by_side import SideBySide, cpu_places
from unetrpp.trainers.trackers import require_tracker

LOG = logging.getLogger(__name__)
Configs = Mapping[int | str, TrainingConfig]


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
    optimizer: Literal["sgd", "adamw", "muon"] | None = None,
    warmup: int | None = None,
    weight_decay: float | None = None,
    drop_path: float | None = None,
    ema: float | None = None,
    seed: int | None = None,
    precision: Literal["fp32", "bf16", "fp16"] | None = None,
    max_hours: float | None = None,
    patience: int | None = None,
    augmentation: Literal["device", "workers"] | None = None,
    trainer: str | None = None,
    learn_attention: bool = False,
    pretrained: str | Path | None = None,
    device: str = "auto",
    devices: str | Sequence[str] | None = None,
    threads: int | None = None,
    compute_threads: int | None = None,
    compile: bool | None = None,
    tracker: str | Sequence[str] | None = None,
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
        warmup: steps in which the learning rate rises to it.
        drop_path: largest share of a batch for which a residual branch is left out, in the last of them.
        ema: decay of an exponential mean of the weights, such as 0.999, which is validated and predicts.
        max_hours: the learning-rate schedule follows the clock, and a fold ends after so many hours.
        patience: stop after so many epochs without a better Dice on validation patches.
        augmentation: on the training device, or by batchgenerators in worker processes.
        trainer: "standard", the name that a package registers, or ``package.module:Class``.
        learn_attention: learn the gammas of the attention modules, then keep those that have an effect (experimental).
        pretrained: a model folder, a checkpoint in one, or one of nnU-Net (.pth), to start from.
        device: auto, cpu, cuda, cuda:1 or mps.
        devices: to spread folds over, such as "cuda:0,cuda:1", a fold at a time on each; a device that is named twice gets
            two folds at a time. Folds that are trained at the same time have processes of their own, so a script needs
            ``if __name__ == "__main__":``. None takes ``device``, and on a CPU trains as many folds at the same time as its
            cores and memory allow.
        threads: threads that read patches; with ``augmentation="workers"``, processes that also augment them. None: two
            on a CPU, elsewhere two fewer than the cores, at most twelve.
        compute_threads: threads that compute a step on a CPU. None times one and all, and takes the faster number.
        compile: try torch.compile; None does so on CUDA for 5,000 steps or more, False (the command's ``--no-compile``) nowhere,
            and then records no CUDA graphs either.
        tracker: also show curves, scores and pictures in "tensorboard", "wandb", "mlflow" (extras of these names), or in what
            a package registers (docs/integrations.md); several are a list.
        mirroring: validate with mirrored passes; False, the command's ``--no-mirroring``, is faster.
        continue_training: extend finished folds to ``epochs``; the command's ``--continue``, a keyword of Python.
        overwrite: delete what these folds hold, and start again.

    Raises:
        UserError: something that the training needs is missing, an option is impossible, or it contradicts what a fold
            was started with; or another process trains a fold.
        SomeFailed: a fold of several failed. The others are done, and the same call trains what is left.
    """
    if continue_training and overwrite:
        raise UserError("--continue extends folds and --overwrite deletes them; give only one of them")
    if devices is not None and device != "auto":
        raise UserError("give either one device (device) or several (devices)")
    names = None if devices is None else device_names(devices)
    overrides = {
        "epochs": epochs,
        "iterations": iterations,
        "recipe": recipe,
        "learning_rate": lr,
        "optimizer": optimizer,
        "warmup": warmup,
        "weight_decay": weight_decay,
        "drop_path": drop_path,
        "ema": ema,
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
        trackers=(tracker,) if isinstance(tracker, str) else tuple(dict.fromkeys(tracker or ())),
        mirroring=mirroring,
        continue_training=continue_training,
        overwrite=overwrite,
    )
    for name in request.trackers:
        require_tracker(name)  # before --overwrite deletes anything
    processes = Processes.find()
    with processes.joined():
        chosen = processes.rank_zero_first(partial(_device, processes, device, names))
        machine = Machine(chosen, threads, compile, processes, compute_threads=compute_threads)
        usable = torch.get_num_threads()  # no more than there are cores, since the device was looked up
        if chosen.type == "cpu" and processes.alone:
            machine = replace(machine, cores=lambda: usable)
        elif compute_threads is not None:
            raise UserError(
                "--compute-threads is for training on a CPU in one process; leave it out (torchrun takes OMP_NUM_THREADS)"
            )
        job = processes.rank_zero_first(partial(read_job, request))
        with ExitStack() as locks:
            processes.rank_zero_only(lambda: locks.enter_context(_locked(job)))
            configs = processes.rank_zero_first(partial(read_configs, job, machine))
            processes.rank_zero_only(partial(prepare_model_folder, job))
            try:
                failures = train_folds(job, configs, machine, names)
            finally:
                torch.set_num_threads(usable)  # as before, for what the caller does next
    if failures:
        told = "; ".join(f"fold {fold}: {text}" for fold, text in failures.items())
        count = counted_of(len(failures), len(job.folds), "fold", "has/have")
        again = "the same command without --overwrite" if overwrite else "the same command"
        raise SomeFailed(f"{count} failed ({told}); {again} trains what is left")
    return ModelFolder.open(job.model)


@contextmanager
def _locked(job: Job) -> Iterator[None]:
    """While entered, no other process can train these folds; others of the model it can.

    Raises:
        UserError: one of them is being trained.
    """
    with ExitStack() as locks:
        for number in job.folds:
            lock = job.model / f".fold_{number}.lock"  # not in the fold's folder, which --overwrite deletes
            locks.enter_context(locked(lock, f"fold {number} is being trained", "wait for it, or give other folds"))
            with process_lock(job.model, number):  # of a fold's process whose parent was killed
                pass
        yield


def _device(processes: Processes, device: str, devices: list[str] | None) -> torch.device:
    """The device of this process, or the first of ``devices``.

    Raises:
        UserError: there is no such device, or ``devices`` are of several types.
    """
    if devices is None:
        return processes.device(device)
    if not processes.alone:
        raise UserError("--devices spreads folds over devices, and torchrun one fold; give only one of them")
    found = [find_device(name) for name in devices]
    if len({each.type for each in found}) != 1:
        raise UserError(f"--devices must be of one type, not {listed(devices)}")
    return found[0]


def train_folds(job: Job, configs: Configs, machine: Machine, devices: list[str] | None = None) -> dict[int | str, str]:
    """Train and validate the chosen folds, side by side where there are several places for them; returns the errors of folds that
    failed.

    Raises:
        UserError: the only fold failed.
    """
    pending = [number for number in job.folds if not is_trained(job, configs[number])]
    places = devices or [str(machine.device)]
    if devices is None and machine.cores is not None:
        places = cpu_places(job.configuration, len(pending), machine.cores(), machine.compute_threads)
    if len(places) == 1 or len(pending) < 2:
        return _one_after_the_other(job, configs, job.folds, machine)
    done = [number for number in job.folds if number not in pending]
    failures = _one_after_the_other(job, configs, done, machine)
    at_once = min(len(places), len(pending))
    tasks = [FoldTask.of(job, configs[number], machine, at_once) for number in pending]
    threads = machine.cores() if machine.cores is not None else 1
    for number in pending:
        start_fold(job, configs[number])  # removes old scores of folds that are extended
    try:
        return failures | SideBySide(places, threads).run(tasks)
    finally:
        update_cross_validation(job.model, job.plans.labels)


def _one_after_the_other(
    job: Job, configs: Configs, folds: Sequence[int | str], machine: Machine
) -> dict[int | str, str]:
    """Train folds in this process."""
    failures: dict[int | str, str] = {}
    if machine.device.type == "cpu":
        keep_freed_memory()
    for number in folds:
        try:
            run_fold(job, configs[number], machine)
        except Exception as error:
            if len(job.folds) == 1 or not machine.processes.alone:
                raise
            LOG.debug("fold %s failed", number, exc_info=error)
            LOG.error("fold %s failed: %s", number, in_words(error))
            failures[number] = in_words(error)
    return failures


def read_configs(job: Job, machine: Machine) -> dict[int | str, TrainingConfig]:
    """The training config of every chosen fold. Writes nothing, so that a refusal costs nothing.

    Raises:
        UserError: the options contradict what a fold was started with, or the processes cannot share the training.
    """
    configs = {number: read_config(job, number, machine) for number in job.folds}
    for config in configs.values():
        machine.processes.require(job.configuration.batch_size, config)
    return configs
