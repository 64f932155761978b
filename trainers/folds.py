"""Training the folds of a configuration: the model folder, what is left to do in it, and each fold's validation."""

import logging
import shutil
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import msgspec
import torch

from unetrpp.core.devices import half_precision, is_out_of_memory
from unetrpp.core.errors import UserError
from unetrpp.core.files import read_json, write_bytes, write_json
from unetrpp.core.registry import find
from unetrpp.core.workspace import Workspace
from unetrpp.dataset.description import read_description
from unetrpp.dataset.splits import Fold, Splits
from unetrpp.plans.fingerprint import Fingerprint
from unetrpp.plans.plans import Configuration, Plans, read_plans
from unetrpp.preprocessing.store import Store
from unetrpp.trainers.cascade import SecondStage, prepare_second_stage
from unetrpp.trainers.config import STANDARD_TRAINER, TrainingConfig
from unetrpp.trainers.distributed import ALONE, Processes
from unetrpp.trainers.fine_tuning import fine_tuning_overrides
from unetrpp.trainers.focal import FocalTrainer
from unetrpp.trainers.log import TensorBoard
from unetrpp.trainers.pretrained import NetworkSpec
from unetrpp.trainers.recipe import ConfigOverrides, config_for
from unetrpp.trainers.trainer import Trainer
from unetrpp.trainers.validation import validate_fold

LOG = logging.getLogger(__name__)
TRAINERS: dict[str, type[Trainer]] = {STANDARD_TRAINER: Trainer}


@dataclass(frozen=True)
class TrainingRequest:
    """One `unetrpp_train` command. ``overrides`` are fields of the training config; None leaves one to the recipe."""

    dataset: str
    plans_name: str
    configuration: str
    device: torch.device
    overrides: ConfigOverrides = field(default_factory=dict)
    pretrained: Path | None = None  # a model folder, or a checkpoint in one
    compile: bool = False
    tensorboard: bool = False
    threads: int = 2
    mirroring: bool = True
    go_on: bool = False
    overwrite: bool = False
    processes: Processes = ALONE

    def automatic_precision(self) -> str:
        """For a new fold; one that is resumed elsewhere keeps what it was started with."""
        return {None: "fp32", torch.bfloat16: "bf16", torch.float16: "fp16"}[half_precision(self.device)]


@dataclass(frozen=True)
class Job:
    """What a request comes to: the plans and the cases, and where the folds go."""

    plans: Plans
    configuration: Configuration
    store: Store
    splits: Splits
    chosen: list[int | str]
    model: Path
    references: Path  # labels as CASE.ending
    starts: dict[int | str, ConfigOverrides] = field(
        default_factory=dict
    )  # fold -> what it starts from, where asked for

    def part(self, number: int | str) -> Fold:
        if number == "all":
            cases = tuple(self.store.cases())
            return Fold(train=cases, validation=cases)
        return self.splits.folds[int(number)]


def train_folds(workspace: Workspace, request: TrainingRequest, fold: str | None) -> int:
    """Train what ``fold`` asks for (None: every fold) and validate it. Finished folds are said and left alone."""
    processes = request.processes
    job = processes.rank_zero_first(partial(prepare, workspace, request, fold))
    for number in job.chosen:
        train_fold(job, number, request)
        if number == "all":
            LOG.info("fold all: trained on every case, so no case is left to validate on")
        else:
            processes.rank_zero_first(partial(validate, job, int(number), request))
    return 0


def prepare(workspace: Workspace, request: TrainingRequest, fold: str | None) -> Job:
    """Read what is to be trained, and lay out the model folder (the first process does).

    Raises:
        UserError: something that the training needs is missing, or contradicts what was trained before.
    """
    plans_path = workspace.plans(request.dataset, request.plans_name)
    plans = read_plans(plans_path)
    configuration = plans.configuration(request.configuration)
    store = Store(workspace.store(request.dataset, request.plans_name, request.configuration))
    splits = read_json(plans_path.with_name("splits.json"), Splits, hint="run unetrpp_plan_and_preprocess")
    chosen = folds_of(fold, len(splits.folds))
    find("trainer", request.overrides.get("trainer") or STANDARD_TRAINER, TRAINERS, allow_import_path=True)
    require_cases(store, splits.cases())
    model = workspace.model(request.dataset, request.plans_name, request.configuration)
    job = Job(plans, configuration, store, splits, chosen, model, plans_path.parent / "labels")
    if not request.processes.first:
        return job
    replaced = {f"fold_{number}" for number in chosen} if request.overwrite else set()
    if request.pretrained is not None:
        starts = starts_of(job, request.pretrained, plans_path.with_name("fingerprint.json"), replaced)
        job = replace(job, starts=starts)
    if configuration.first_stage is not None:
        first = workspace.model(request.dataset, request.plans_name, configuration.first_stage)
        started = any(p.name not in replaced for p in model.glob("fold_*"))
        needed = set(store.cases()) if "all" in chosen else splits.cases()
        prepare_second_stage(SecondStage(model, store, plans, request.configuration), first, splits, needed, started)
    prepare_model_folder(model, plans_path, request.configuration, replaced)
    return job


def starts_of(job: Job, pretrained: Path, fingerprint: Path, replaced: set[str]) -> dict[int | str, ConfigOverrides]:
    """What every chosen fold starts from with ``--pretrained``, known to be fit before anything is written.

    Raises:
        UserError: a fold cannot start from it.
    """
    known = read_json(fingerprint, Fingerprint, hint="run unetrpp_plan_and_preprocess")
    parts = {number: job.part(number) for number in job.chosen}
    return fine_tuning_overrides(
        pretrained, parts, known, NetworkSpec.of(job.configuration), {job.model / name for name in replaced}
    )


def train_fold(job: Job, number: int | str, request: TrainingRequest) -> None:
    """Train one fold, or only what is left of it.

    Raises:
        UserError: the device has too little memory for a step.
    """
    folder, part, processes = job.model / f"fold_{number}", job.part(number), request.processes
    config = processes.rank_zero_first(partial(start_fold, folder, job, number, request))
    if not (folder / "checkpoint_final.pt").exists():
        held_out = "no" if number == "all" else len(part.validation)
        counts = f"{len(part.train)} training and {held_out} validation cases"
        LOG.info("fold %s: %s, %s", number, counts, config.recipe)
        train, validation = ([job.store.open(case) for case in cases] for cases in (part.train, part.validation))
        data = (job.configuration, config, folder, train, validation)
        machine = (request.device, request.threads, request.compile)
        if config.learn_attention:
            groups = read_description(job.model / "dataset.json", request.dataset).groups
            trainer: Trainer = FocalTrainer(*data, *machine, groups)
        else:
            typed = config.trainer == request.overrides.get("trainer")
            trainer = find("trainer", config.trainer, TRAINERS, typed)(*data, *machine, processes=processes)
        if request.tensorboard and processes.first:
            trainer.tracker = TensorBoard(folder, trainer.class_names())
        try:
            trainer.run()
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
            batch = f"{job.configuration.batch_size} patches of {' x '.join(map(str, job.configuration.patch))}"
            raise UserError(
                f"fold {number}: a batch of {batch} needs more memory than {request.device} has left; end what else runs "
                "there, or plan for less with --gpu-memory-gb and another --plans-name"
            ) from error


def start_fold(folder: Path, job: Job, number: int | str, request: TrainingRequest) -> TrainingConfig:
    """The fold's config; the first process records it.

    Raises:
        UserError: it cannot be had, or the processes cannot share it.
    """
    record, processes = folder / "training.json", request.processes
    if not processes.first:
        return read_json(record, TrainingConfig)
    if request.overwrite and folder.exists():
        shutil.rmtree(folder)
    precision, cases = request.automatic_precision(), job.part(number).digest()
    overrides = request.overrides | job.starts.get(number, {})
    config = config_for(folder, number, overrides, request.go_on, precision, cases)
    processes.require(job.configuration.batch_size, config)
    if record.exists() and read_json(record, TrainingConfig) != config:  # extended: what was final is so no more
        (folder / "checkpoint_final.pt").unlink(missing_ok=True)
        shutil.rmtree(folder / "validation", ignore_errors=True)
    write_json(record, config)
    return config


def validate(job: Job, number: int, request: TrainingRequest) -> None:
    """The first process validates the fold; the others wait for it."""
    if request.processes.first:
        cases, device, mirroring = job.splits.folds[number].validation, request.device, request.mirroring
        validate_fold(job.model, job.plans, job.store, job.references, number, cases, device, mirroring)


def folds_of(text: str | None, count: int) -> list[int | str]:
    """The folds that FOLD names.

    >>> folds_of(None, 3), folds_of("1", 3), folds_of("0-1", 3), folds_of("all", 3)
    ([0, 1, 2], [1], [0, 1], ['all'])
    """
    if text == "all":
        return ["all"]
    if count == 0:
        raise UserError("splits.json has no folds, for one case leaves nothing to validate on; train the fold all")
    first, _, last = (text or f"0-{count - 1}").partition("-")
    if not (first.isdigit() and (last or first).isdigit()) or not int(first) <= int(last or first) < count:
        raise UserError(f"fold {text!r} does not exist; splits.json has folds 0 to {count - 1}, or take all")
    return list(range(int(first), int(last or first) + 1))


def require_cases(store: Store, needed: set[str]) -> None:
    """
    Raises:
        UserError: preprocessed cases are missing.
    """
    missing = sorted(needed - set(store.cases()))
    if missing:
        named = ", ".join(missing[:3]) + (" ..." if len(missing) > 3 else "")
        raise UserError(
            f"{len(missing)} of {len(needed)} cases are not preprocessed ({named}); run unetrpp_plan_and_preprocess"
        )


def prepare_model_folder(model: Path, plans_path: Path, name: str, replaced: set[str]) -> None:
    """Copy dataset description, fingerprint and the plans of this configuration: the folder predicts on any machine.

    Raises:
        UserError: it holds folds (other than those that are ``replaced``) whose configuration was another one.
    """
    there = model / "plans.json"
    plans = read_plans(plans_path)
    kept = [p.name for p in model.glob("fold_*") if p.name not in replaced]
    if kept and read_plans(there).configurations != {name: plans.configuration(name)}:
        raise UserError(
            f"{model / kept[0]} was trained with another {name} than {plans_path} holds; "
            "plan with another --plans-name, or start every fold anew with --overwrite"
        )
    write_json(there, msgspec.structs.replace(plans, configurations={name: plans.configuration(name)}))
    for file in ("dataset.json", "fingerprint.json"):
        write_bytes(model / file, plans_path.with_name(file).read_bytes())
