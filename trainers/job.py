"""What one call of `train` has to do: the plans, the cases, the chosen folds, and the model folder that they go to."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

import msgspec

from unetrpp.core.errors import UserError
from unetrpp.core.files import read_json, write_bytes, write_json
from unetrpp.core.registry import find
from unetrpp.core.workspace import Workspace
from unetrpp.dataset.description import read_description
from unetrpp.dataset.splits import Fold, Splits
from unetrpp.dataset.splits_file import read_splits
from unetrpp.model.folds import Folds, fold_names
from unetrpp.plans.fingerprint import Fingerprint
from unetrpp.plans.plans import Configuration, Plans, read_plans
from unetrpp.preprocessing.store import Store
from unetrpp.trainers.cascade import SecondStage, prepare_second_stage
from unetrpp.trainers.config import STANDARD_TRAINER
from unetrpp.trainers.network_spec import NetworkSpec
from unetrpp.trainers.pretrained_checkpoints import fine_tuning_overrides
from unetrpp.trainers.recipe import ConfigOverrides
from unetrpp.trainers.trainer import TRAINERS

PLAN_FIRST = "run unetrpp_plan_and_preprocess"


@dataclass(frozen=True, kw_only=True)
class TrainingRequest:
    """The arguments of :func:`unetrpp.trainers.folds.train`, except those of the machine."""

    workspace: Workspace
    dataset: str
    configuration: str
    fold: Folds | None
    plans_name: str
    overrides: ConfigOverrides
    pretrained: Path | None  # a model folder, or a checkpoint in one
    tensorboard: bool
    mirroring: bool
    continue_training: bool
    overwrite: bool

    @property
    def plans_path(self) -> Path:
        return self.workspace.plans(self.dataset, self.plans_name)

    @property
    def model(self) -> Path:
        """The model folder."""
        return self.workspace.model(self.dataset, self.plans_name, self.configuration)


@dataclass(frozen=True)
class Job:
    """A request, and the plans, cases and folds that were read for it."""

    request: TrainingRequest
    plans: Plans
    splits: Splits
    folds: list[int | str]  # the chosen ones
    starts: Mapping[int | str, ConfigOverrides] = field(default_factory=dict)  # fold -> its --pretrained checkpoint

    @property
    def model(self) -> Path:
        return self.request.model

    @property
    def configuration(self) -> Configuration:
        return self.plans.configuration(self.request.configuration)

    @cached_property
    def store(self) -> Store:
        request = self.request
        return Store(request.workspace.store(request.dataset, request.plans_name, request.configuration))

    @property
    def references(self) -> Path:
        """The folder of the labels, as CASE.ending."""
        return self.request.plans_path.with_name("labels")

    @property
    def replaced(self) -> set[str]:
        """Names of the fold folders that --overwrite deletes."""
        return {f"fold_{number}" for number in self.folds} if self.request.overwrite else set()

    def cases_of(self, number: int | str) -> Fold:
        if number == "all":
            cases = tuple(self.store.cases())
            return Fold(train=cases, validation=cases)
        return self.splits.folds[int(number)]


def read_job(request: TrainingRequest) -> Job:
    """Read plans and splits, choose the folds, and check that everything that they need is there. Writes nothing.

    Raises:
        UserError: the dataset, plans, cases, a fold or the trainer are missing, or a fold cannot start from what
            --pretrained names.
    """
    request = replace(request, dataset=request.workspace.find_dataset(request.dataset))
    plans = read_plans(request.plans_path)
    plans.configuration(request.configuration)
    splits = read_splits(request.plans_path.with_name("splits.json"), groups_of(request))
    job = Job(request, plans, splits, folds_of(request.fold, len(splits.folds)))
    find("trainer", str(request.overrides.get("trainer") or STANDARD_TRAINER), TRAINERS, allow_import_path=True)
    require_cases(job.store, splits.cases())
    if request.pretrained is not None:
        job = replace(job, starts=starts_of(job, request.pretrained))
    return job


def groups_of(request: TrainingRequest) -> Mapping[str, str]:
    """Case -> patient, as planning recorded it; none where no case has a patient."""
    description = read_description(request.plans_path.with_name("dataset.json"), request.dataset)
    return description.groups or {}


def starts_of(job: Job, pretrained: Path) -> dict[int | str, ConfigOverrides]:
    """What every chosen fold starts from with ``--pretrained``.

    Raises:
        UserError: a fold cannot start from it.
    """
    fingerprint = read_json(job.request.plans_path.with_name("fingerprint.json"), Fingerprint, hint=PLAN_FIRST)
    folds = {number: job.cases_of(number) for number in job.folds}
    deleted = [job.model / name for name in job.replaced]
    return fine_tuning_overrides(pretrained, folds, fingerprint, NetworkSpec.of(job.configuration), deleted=deleted)


def folds_of(given: Folds | None, count: int) -> list[int | str]:
    """The folds that FOLD names, of ``count``; None names all of them.

    Raises:
        UserError: there is no such fold.

    >>> folds_of(None, 3), folds_of("1", 3), folds_of(["0-1", "all"], 3)
    ([0, 1, 2], [1], [0, 1, 'all'])
    """
    names = [str(number) for number in range(count)] if given is None else fold_names(given)
    if count == 0 and names != ["all"]:
        raise UserError("splits.json has no folds, because one case leaves nothing to validate on; train the fold all")
    missing = [name for name in names if name != "all" and int(name) >= count]
    if missing:
        raise UserError(f"fold {missing[0]} does not exist; splits.json has folds 0 to {count - 1}, or take all")
    return ["all" if name == "all" else int(name) for name in names]


def require_cases(store: Store, needed: set[str]) -> None:
    """
    Raises:
        UserError: preprocessed cases are missing.
    """
    missing = sorted(needed - set(store.cases()))
    if missing:
        named = ", ".join(missing[:3]) + (" ..." if len(missing) > 3 else "")
        raise UserError(f"{len(missing)} of {len(needed)} cases are not preprocessed ({named}); {PLAN_FIRST}")


def prepare_model_folder(job: Job) -> None:
    """Write what the folds share: description, fingerprint, plans, and for a cascade the first stage.

    With these files the model folder can predict on any machine.

    Raises:
        UserError: the first stage is not ready, or the folder has folds of another configuration that are not replaced.
    """
    request, model, path = job.request, job.model, job.request.plans_path
    kept = [folder.name for folder in model.glob("fold_*") if folder.name not in job.replaced]
    if job.configuration.first_stage is not None:
        first = request.workspace.model(request.dataset, request.plans_name, job.configuration.first_stage)
        needed = set(job.store.cases()) if "all" in job.folds else job.splits.cases()
        second = SecondStage(model, job.store, job.plans, request.configuration)
        prepare_second_stage(second, first, job.splits, needed, started=bool(kept))
    alone = {request.configuration: job.configuration}
    if kept and read_plans(model / "plans.json").configurations != alone:
        raise UserError(
            f"{model / kept[0]} was trained with another {request.configuration} than {path} holds; "
            "plan with another --plans-name, or start every fold again with --overwrite"
        )
    write_json(model / "plans.json", msgspec.structs.replace(job.plans, configurations=alone))
    for file in ("dataset.json", "fingerprint.json"):
        write_bytes(model / file, path.with_name(file).read_bytes())
