"""Training of one fold: its recipe, its records, the training itself, and the validation on whole volumes."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from functools import partial
from pathlib import Path

import msgspec
import torch

from unetrpp.core.devices import half_precision, is_out_of_memory
from unetrpp.core.errors import UserError
from unetrpp.core.files import read_json, remove_folder, update_json, write_json
from unetrpp.core.registry import find
from unetrpp.core.text import counted, format_shape
from unetrpp.evaluation.cross_validation import update_cross_validation
from unetrpp.evaluation.current_scores import keep_options, recorded_options
from unetrpp.model import checkpoint
from unetrpp.trainers.attention_trainer import AttentionTrainer
from unetrpp.trainers.config import STANDARD_TRAINER, TrainingConfig
from unetrpp.trainers.inner_split import held_out
from unetrpp.trainers.inputs import FoldData, Machine
from unetrpp.trainers.job import Job
from unetrpp.trainers.network_spec import NetworkSpec
from unetrpp.trainers.pretrained_weights import read_fitting
from unetrpp.trainers.recipe import config_for
from unetrpp.trainers.tracking import Trackers
from unetrpp.trainers.trained_on import FILE as TRAINED_ON
from unetrpp.trainers.trained_on import same_training_cases, training_inputs, warn_of_changes
from unetrpp.trainers.trainer import TRAINERS, Trainer
from unetrpp.trainers.validation import ValidationCases, validate_fold

LOG = logging.getLogger(__name__)
PRECISION = {None: "fp32", torch.bfloat16: "bf16", torch.float16: "fp16"}


def read_config(job: Job, number: int | str, machine: Machine) -> TrainingConfig:
    """The training config of a fold. Writes nothing, so that a refusal costs nothing.

    Raises:
        UserError: the options contradict what the fold was started with, or the network refuses one of them.
    """
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
    if started is None:
        require_network_takes(job, config)
    if started not in (None, config) and (folder / "checkpoint_final.pt").exists():
        checkpoint.load(folder / "checkpoint_latest.pt", torch.device("cpu"))  # before the final one is removed
    return msgspec.structs.replace(config, cases=fold.digest())


def require_network_takes(job: Job, config: TrainingConfig) -> None:
    """Build the trainer of a new fold where an option depends on its network, before the option is recorded.

    A recorded option belongs to the fold, which would then never start, with or without it.

    Raises:
        UserError: the network has nothing that the option acts on, or none of the pretrained weights fits it.
    """
    needed = config.drop_path or config.learn_attention or config.pretrained
    if not needed or config.trainer != STANDARD_TRAINER:  # one of a package may write into its folder
        return
    trainer = build_trainer(job, config, job.model / f"fold_{config.fold}", Machine())
    if config.pretrained is not None:
        read_fitting(Path(config.pretrained), trainer.network, NetworkSpec.of(trainer.configuration))


def is_trained(job: Job, config: TrainingConfig) -> bool:
    """Whether the fold was trained to the end of this recipe; its validation may be missing."""
    folder = job.model / f"fold_{config.fold}"
    record = folder / "training.json"
    if not (record.exists() and (folder / "checkpoint_final.pt").exists()):
        return False
    return msgspec.structs.replace(read_json(record, TrainingConfig), cases=config.cases) == config


def run_fold(job: Job, config: TrainingConfig, machine: Machine, *, alone: bool = True) -> None:
    """Train and validate one fold, or only what is left of it. What is logged of a training is also written to training.log.

    Args:
        alone: no other fold of the model is trained at the same time. Otherwise the caller starts the folds (:func:`start_fold`)
            and pools their scores, which only one process may do at a time.

    Raises:
        UserError: the device has too little memory for a step, or a case could not be read or scored.
    """
    log = job.model / f"fold_{config.fold}" / "training.log"
    unwritten = not machine.processes.first or is_trained(job, config)
    with nullcontext() if unwritten else _logged_to(log):
        if alone:
            machine.processes.rank_zero_only(partial(start_fold, job, config))
        with Trackers(job, config.fold, silent=not machine.processes.first) as trackers:
            train_fold(job, config, machine, trackers)
            validate(job, config.fold, machine)
            trackers.validated()
        if alone and config.fold != "all":
            machine.processes.rank_zero_only(partial(update_cross_validation, job.model, job.plans.labels))


@contextmanager
def _logged_to(path: Path) -> Iterator[None]:
    """While entered, messages are also appended to this file."""
    handler = logging.FileHandler(path, encoding="utf-8", delay=True)
    handler.setFormatter(logging.Formatter("%(asctime)s  %(message)s"))
    logger = logging.getLogger("unetrpp")
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        handler.close()


def train_fold(job: Job, config: TrainingConfig, machine: Machine, trackers: Trackers) -> None:
    """Train one fold, or only what is left of it.

    Raises:
        UserError: the device has too little memory for a step.
    """
    number = config.fold
    folder = job.model / f"fold_{number}"
    if (folder / "checkpoint_final.pt").exists():
        return
    trainer = build_trainer(job, config, folder, machine)
    trainer.tracker = trackers
    trackers.begin()
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
            "that use it, or plan for less with --gpu-memory-gb or --checkpointing, and another --plans-name"
        ) from error
    finally:
        if machine.cores is not None:  # a step may have used fewer
            torch.set_num_threads(machine.compute_threads or machine.cores())


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
        validation = folder / "validation"
        options = recorded_options(validation)
        remove_folder(validation)
        keep_options(validation, options)
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
