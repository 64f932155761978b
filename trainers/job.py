"""What one call of `train` has to do: the plans, the cases, the chosen folds, and the model folder that they go to."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

import msgspec

from unetrpp.core.errors import UserError
from unetrpp.core.files import read_json, remove_folder, write_bytes, write_json
from unetrpp.core.registry import find
from unetrpp.core.text import counted_of, listed
from unetrpp.core.workspace import Workspace
from unetrpp.dataset.description import DatasetDescription, read_description
from unetrpp.dataset.splits import Fold, Splits
from unetrpp.dataset.splits_file import read_splits
from unetrpp.evaluation.cross_validation import update_cross_validation
from unetrpp.model.folds import Folds, fold_names
from unetrpp.plans.fingerprint import Fingerprint
from unetrpp.plans.plans import Configuration, Plans, read_plans
from unetrpp.preprocessing.store import Store
from unetrpp.report.next_step import again_command
from unetrpp.trainers.cascade import SecondStage, prepare_second_stage
from unetrpp.trainers.config import STANDARD_TRAINER
from unetrpp.trainers.network_spec import NetworkSpec
from unetrpp.trainers.pretrained_checkpoints import fine_tuning_overrides
from unetrpp.trainers.recipe import ConfigOverrides
from unetrpp.trainers.trained_on import require_current
from unetrpp.trainers.trainer import TRAINERS

LOG = logging.getLogger(__name__)
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
    pretrained: Path | None  # a model folder, a checkpoint in one, or one of nnU-Net
    trackers: tuple[str, ...]
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

    def command(self, fold: int | str) -> str:
        """The command that trains a fold again from its start."""
        return again_command(
            self.workspace, self.dataset, plans=self.plans_name, configuration=self.configuration, fold=fold
        )


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

    @property
    def description(self) -> DatasetDescription:
        """The dataset.json that the cases were preprocessed with."""
        return read_description(self.request.plans_path.with_name("dataset.json"), self.request.dataset)

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
    if differing := plans.differences(job.description):
        raise UserError(
            f"{request.plans_path} was made for other {' and '.join(differing)} than dataset.json beside it has now; "
            f"plan again ({PLAN_FIRST}), with another --plans-name or --overwrite, or restore the raw dataset.json first"
        )
    require_validation(job)
    find("trainer", str(request.overrides.get("trainer") or STANDARD_TRAINER), TRAINERS, allow_import_path=True)
    needed = splits.cases() | (set(job.store.cases()) if "all" in job.folds else set())
    require_cases(job.store, needed)
    measured = request.plans_path.with_name("fingerprint.json")
    require_current(job.store, needed, job.configuration.preprocessing, measured)
    if request.pretrained is not None:
        job = replace(job, starts=starts_of(job, request.pretrained))
    return job


def require_validation(job: Job) -> None:
    """
    Raises:
        UserError: an option acts on the validation of a fold that has none.
    """
    if "all" in job.folds and job.request.overrides.get("patience") is not None:
        raise UserError(
            "--patience looks at validation cases, and the fold all has none; end it with --epochs or --max-hours, or train it "
            "in a command of its own"
        )
    if job.folds == ["all"] and not job.request.mirroring:
        raise UserError(
            "--no-mirroring is for the validation of a fold, and the fold all has none, so it has no effect; leave it out"
        )


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
        raise UserError(
            "splits.json has no folds, because a single case cannot be split; train the fold all, on every case (give all as FOLD)"
        )
    missing = [name for name in names if name != "all" and int(name) >= count]
    if missing:
        raise UserError(f"fold {missing[0]} does not exist; choose one of the folds 0 to {count - 1}, or all")
    return ["all" if name == "all" else int(name) for name in names]


def require_cases(store: Store, needed: set[str]) -> None:
    """
    Raises:
        UserError: preprocessed cases are missing.
    """
    missing = sorted(needed - set(store.cases()))
    if missing:
        count = counted_of(len(missing), len(needed), "case", "is/are")
        raise UserError(f"{count} not preprocessed ({listed(missing)}); {PLAN_FIRST}")


def prepare_model_folder(job: Job) -> None:
    """Write what the folds share: description, fingerprint, plans, and for a cascade the first stage.

    With these files the model folder can predict on any machine. A folder that has folds keeps its own, which are those
    that the folds were trained with. The folds that --overwrite names are removed here, after the last check.

    Raises:
        UserError: the first stage is not ready, or the folder has folds of other plans that are not replaced.
    """
    request, model = job.request, job.model
    kept = [folder.name for folder in model.glob("fold_*") if folder.name not in job.replaced]
    if kept:
        _require_same_plans(job, kept[0])
        _warn_of_surplus(job, kept)
    if job.configuration.first_stage is not None:
        first = request.workspace.model(request.dataset, request.plans_name, job.configuration.first_stage)
        needed = set(job.store.cases()) if "all" in job.folds else job.splits.cases()
        second = SecondStage(model, job.store, job.plans, request.configuration)
        prepare_second_stage(second, first, job.splits, needed, started=bool(kept))
    for name in sorted(job.replaced):
        remove_folder(model / name)
    if job.replaced and model.is_dir():
        update_cross_validation(model, job.plans.labels)
    _write_shared(job, keep=bool(kept))


def _write_shared(job: Job, *, keep: bool) -> None:
    """plans.json with this configuration alone, dataset.json and fingerprint.json; with ``keep`` only those that are missing
    or, from an earlier release, contradict the plans."""
    model, beside = job.model, job.request.plans_path
    if not keep:
        alone = {job.request.configuration: job.configuration}
        write_json(model / "plans.json", msgspec.structs.replace(job.plans, configurations=alone))
    for name in ("dataset.json", "fingerprint.json"):
        fits = name != "dataset.json" or not _contradicts(model / name, job.plans)
        if not (keep and (model / name).is_file() and fits):
            write_bytes(model / name, beside.with_name(name).read_bytes())


def _contradicts(path: Path, plans: Plans) -> bool:
    return path.is_file() and bool(plans.differences(read_description(path, plans.dataset)))


def _warn_of_surplus(job: Job, kept: list[str]) -> None:
    """Warn of folds that splits.json does not have any more: predictions and scores would still count them."""
    surplus = sorted(set(kept) - {"fold_all", *(f"fold_{number}" for number in range(len(job.splits.folds)))})
    if surplus:
        LOG.warning(
            "warning: %s has %s, which splits.json no longer has; predictions and scores include such folds until you delete them",
            job.model,
            listed(surplus),
        )


def _require_same_plans(job: Job, kept: str) -> None:
    own, name = read_plans(job.model / "plans.json"), job.request.configuration
    if own.configurations != {name: job.configuration} or own.differences(job.description):
        raise UserError(
            f"{job.model / kept} was trained with another {name} than {job.request.plans_path} holds; "
            "plan with another --plans-name, or start every fold again with --overwrite"
        )
