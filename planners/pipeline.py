"""`plan_and_preprocess`, the steps in order: verify and measure, split, plan, preprocess, place attention and choose the loss.

Each step keeps what is on disk and current, so the same call again resumes.
"""

import logging
from collections.abc import Sequence
from concurrent.futures import Executor
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path

import msgspec

from unetrpp.core.cluster import current_executor
from unetrpp.core.errors import UserError
from unetrpp.core.files import read_json, remove_folder, update_json
from unetrpp.core.machine import default_processes
from unetrpp.core.parallel import CaseError, new_pool
from unetrpp.core.text import counted, format_bytes, format_shape, without_repetition
from unetrpp.core.workspace import Workspace
from unetrpp.dataset.cases import RawDataset, read_dataset
from unetrpp.dataset.description import nnunet_json
from unetrpp.dataset.splits_file import read_or_make_splits, read_splits
from unetrpp.dataset.verification import strays
from unetrpp.io.geometry import Spacing
from unetrpp.io.images import most_voxels
from unetrpp.planners.attention_and_loss import plan_attention, require_possible_attention
from unetrpp.planners.measure.fingerprint import load_or_measure
from unetrpp.planners.measure.groups import with_earlier_groups, with_groups
from unetrpp.planners.options import AttentionMode, LossMode, Options, PresetName, StoredType
from unetrpp.planners.planner import Planner
from unetrpp.planners.preprocess import preprocess_dataset, remove_old_cases
from unetrpp.planners.presets import make_planner
from unetrpp.planners.repair import repair_dataset
from unetrpp.planners.rules.attention_overrides import parse_override
from unetrpp.planners.workers import start_method
from unetrpp.plans.fingerprint import Fingerprint
from unetrpp.plans.plans import CONFIGURATIONS, Plans, read_plans

LOG = logging.getLogger(__name__)


BYTES_A_VOXEL = 40  # of a case's peak memory while it is preprocessed, with a margin: docs/scale.md measures 24


@dataclass(frozen=True)
class PlanningResult:
    """What :func:`plan_and_preprocess` did."""

    plans: Plans
    folder: Path  # of the preprocessed dataset, with plans, fingerprint, splits and stores
    errors: tuple[CaseError, ...]  # cases that could not be preprocessed; all others are
    left_out: dict[str, str] = field(default_factory=dict)  # with ``skip_unreadable``: case -> why it cannot be used

    @property
    def summary(self) -> str:
        """Patch, batch and memory of every configuration, a line each."""
        lines = [f"plans {self.plans.name!r} for {self.plans.dataset} in {self.folder}"]
        for name, configuration in self.plans.configurations.items():
            patch, memory = format_shape(configuration.patch), format_bytes(configuration.training_memory_bytes)
            lines.append(f"  {name}: patch {patch}, batch {configuration.batch_size}, about {memory} for training")
        return "\n".join(lines)


def plan_and_preprocess(
    dataset: str | Path,
    *,
    workspace: Path | str | None = None,
    configurations: Sequence[str] = (),
    planner: str = "unetrpp",
    plans_name: str | None = None,
    batch_size: int | None = None,
    width: float = 1.0,
    gpu_memory_gb: float | None = None,
    checkpointing: bool = False,
    spacing: Sequence[float] | None = None,
    patch: Sequence[int] | None = None,
    preset: PresetName | None = None,
    mirror: str = "auto",
    attention: AttentionMode | None = None,
    loss: LossMode = "dice_ce",
    place: Sequence[str] = (),
    group_by: str | None = None,
    store: StoredType = "float32",
    processes: int | None = None,
    fix: bool = False,
    plan_only: bool = False,
    skip_unreadable: bool = False,
    overwrite: bool = False,
    executor: Executor | None = None,
) -> PlanningResult:
    """Verify a raw dataset, measure it, plan the training and preprocess every case, as `unetrpp_plan_and_preprocess` does.

    The options are the command's; its ``--help`` and docs/planning.md explain them.

    Args:
        dataset: name in the workspace, nnU-Net's ``DatasetNNN_Name`` or number, or a raw folder.
        workspace: folder with raw/, preprocessed/ and results/; by default ``$UNETRPP_WORKSPACE``, else
            ./unetrpp_workspace.
        spacing: mm along z, y and x.
        patch: voxels in plan order, the coarsest axis first.
        skip_unreadable: cases that cannot be read or used, and images that belong to no case, are left out with a warning.
        executor: where cases are measured and preprocessed, instead of in processes here: of a cluster whose machines
            see raw data and workspace under the same absolute paths. It is left open.

    Raises:
        UserError: the dataset is unknown or has errors, or plans of this name were made with other options.
    """
    options = Options(
        batch_size=batch_size,
        width=float(width),
        gpu_memory_gb=None if gpu_memory_gb is None else float(gpu_memory_gb),
        checkpointing=checkpointing,
        spacing=None if spacing is None else _three(spacing),
        patch=None if patch is None else tuple(patch),
        preset=preset,
        mirror=mirror,
        attention=attention,
        loss=loss,
        store=store,
        place=tuple(place),
    )
    _check(options, plan_only)
    executor = executor or current_executor()
    if executor is not None and processes is not None:
        raise UserError(
            "processes are those of this machine, which has none to start with an executor; leave one of them out"
        )
    maker = make_planner(planner, options)
    name, raw, home = _find(dataset, workspace)
    raw = with_groups(raw, group_by)
    path = home.plans(name, plans_name or maker.plans_name)
    folder = home.preprocessed(name)
    if not overwrite:
        raw = with_earlier_groups(raw, folder / "dataset.json")
    if (folder / "splits.json").exists():  # an edited one is refused before the cases are measured
        read_splits(folder / "splits.json", raw.description.groups, [case.id for case in raw.cases])
    planned = path.exists() and not overwrite
    if planned:  # before hours of measuring
        _require_same(read_plans(path), path, maker, raw)
    with nullcontext(executor) if executor else _own_pool(raw, processes) as pool:
        others = strays(raw)  # before the repair, which puts other files in place of some
        raw = repair_dataset(raw, folder / "fixed", pool) if fix else raw
        fingerprint, digests = load_or_measure(
            raw, folder, pool, others=others, skip_unreadable=skip_unreadable, overwrite=overwrite
        )
        raw = replace(raw, cases=tuple(case for case in raw.cases if case.id in digests))
        plans = load_or_make_plans(path, maker, fingerprint, raw, names=configurations, overwrite=overwrite)
        wanted = with_first_stages(plans, configurations or _prepared(plans, home, path))
        require_possible_attention(plans, options)
        if (plans.made_from or _measured_before(folder)) not in ("", fingerprint.cases_digest):
            LOG.warning("warning: the dataset has changed since %s was made; --overwrite plans it again", path)
        write_dataset_files(raw, folder, fingerprint)  # the first to write, after all that can refuse
        write_plans(path, plans, overwrite=overwrite)
        remove_old_cases(folder, digests, plans.file_ending)
        errors: list[CaseError] = []
        for configuration in () if plan_only else wanted:
            preprocessing = plans.configuration(configuration).preprocessing
            target = home.store(name, path.stem, configuration)
            errors += preprocess_dataset(
                raw, preprocessing, target, digests=digests, stage=configuration, executor=pool
            )
        if not errors and not (plan_only and planned):  # plans that are there stay as they are
            plans = plan_attention(plans, path, fingerprint, workspace=home, options=options, unprepared=plan_only)
    left_out = {case: skipped.reason for case, skipped in fingerprint.left_out.items()}
    return PlanningResult(plans, folder, tuple(errors), left_out)


def _three(spacing: Sequence[float]) -> Spacing:
    if len(spacing) != 3:
        raise UserError(f"spacing has {counted(len(spacing), 'value')}; give three, in mm along z, y and x")
    z, y, x = (float(mm) for mm in spacing)
    return z, y, x


def _check(options: Options, plan_only: bool) -> None:
    """Check the options before anything is read.

    Raises:
        UserError: an attention override is malformed, or attention or loss cannot be planned without preprocessing.
    """
    for text in options.place:
        parse_override(text)
    if plan_only and options.by_labels:
        raise UserError(
            f"{' and '.join(options.by_labels)}: preprocessed labels decide this, so it cannot go with --plan-only; leave one out"
        )


def _find(dataset: str | Path, workspace: Path | str | None) -> tuple[str, RawDataset, Workspace]:
    """The dataset's name, the raw dataset and the workspace, by absolute paths: an executor's workers may have another
    current folder."""
    home = Workspace(Workspace.find(workspace).root.absolute())
    name, folder = home.find_raw(str(dataset))
    return name, read_dataset(folder.absolute(), name), home


def write_dataset_files(raw: RawDataset, folder: Path, fingerprint: Fingerprint) -> None:
    """Write splits.json, unless it exists, and fingerprint.json and dataset.json, which are copied into model folders.

    Raises:
        UserError: an edited splits.json does not fit the cases; nothing is written.
    """
    cases = [case.id for case in raw.cases]
    present = {c.case: [name for name, found in c.classes.items() if found.voxels] for c in fingerprint.cases}
    read_or_make_splits(folder / "splits.json", cases, raw.description.groups, present)
    description = msgspec.structs.replace(raw.description, files=None)  # without the paths of this machine
    update_json(folder / "fingerprint.json", fingerprint)
    update_json(folder / "dataset.json", nnunet_json(description, len(cases)))


def _measured_before(folder: Path) -> str:
    """The digest of the cases that were measured last, for plans of release 0.1.0, which do not have that of theirs."""
    try:
        return read_json(folder / "fingerprint.json", Fingerprint).cases_digest
    except UserError:  # missing, or of another release
        return ""


def with_first_stages(plans: Plans, names: Sequence[str]) -> list[str]:
    """A cascade is trained on its first stage's segmentations, so that stage is preprocessed too, before it."""
    stages = [stage for name in names for stage in (plans.configuration(name).first_stage, name) if stage]
    return list(dict.fromkeys(stages))


def _prepared(plans: Plans, home: Workspace, path: Path) -> list[str]:
    """The configuration to start with, and all that were preprocessed before, which must follow the data."""
    names = list(plans.configurations)
    stored = [name for name in names if home.store(path.parent.name, path.stem, name).is_dir()]
    return list(dict.fromkeys([*names[:1], *stored]))


def load_or_make_plans(
    path: Path,
    planner: Planner,
    fingerprint: Fingerprint,
    raw: RawDataset,
    *,
    names: Sequence[str] = (),
    overwrite: bool = False,
) -> Plans:
    """The plans at ``path`` with the missing ones among the configurations ``names`` added; new plans where none exist.

    Plans that exist are taken as they are, because users may edit them. Nothing is written.

    Raises:
        UserError: they were made by another planner, with other options or for other labels or channels.
    """
    if overwrite or not path.exists():
        plans = planner.plan(fingerprint, raw.description, path.stem, names)
        _warn(plans.warnings)
        return msgspec.structs.replace(plans, made_from=fingerprint.cases_digest)
    plans = read_plans(path)
    _require_same(plans, path, planner, raw)
    if planner.options.attention == "auto" and planner.options.loss == "dice_ce" and _planned_losses(plans):
        LOG.warning(
            "warning: %s is of a release in which --attention auto also chose the loss, and keeps its %s; --overwrite plans it again, "
            "with dice_ce or another --loss",
            path,
            ", ".join(_planned_losses(plans)),
        )
    missing = [name for name in names if name not in plans.configurations]
    if missing:
        more = planner.plan(fingerprint, raw.description, path.stem, missing)
        new = [warning for warning in more.warnings if warning not in plans.warnings]
        _warn(new)
        added = {name: planned for name, planned in more.configurations.items() if name not in plans.configurations}
        plans = msgspec.structs.replace(
            plans, configurations={**plans.configurations, **added}, warnings=(*plans.warnings, *new)
        )
    return plans


def _warn(warnings: Sequence[str]) -> None:
    for warning in without_repetition(warnings):
        LOG.warning("warning: %s", warning)


def _planned_losses(plans: Plans) -> list[str]:
    """The losses that the rule has chosen."""
    decided = [c for c in plans.configurations.values() if any(decision.about == "loss" for decision in c.decisions)]
    return sorted({configuration.loss.name for configuration in decided})


def write_plans(path: Path, plans: Plans, *, overwrite: bool = False) -> None:
    """Write the plans; with ``overwrite`` also remove the stores of those that they replace."""
    update_json(path, plans)
    for name in CONFIGURATIONS if overwrite else ():
        remove_folder(path.with_name(f"{path.stem}_{name}"))


def _require_same(plans: Plans, path: Path, planner: Planner, raw: RawDataset) -> None:
    wanted = {"planner": planner.name, **planner.options.as_text()}
    recorded = {"planner": plans.planner, **plans.options}
    if wanted != recorded:
        was, asked = (", ".join(f"{k} {v}" for k, v in o.items()) for o in (recorded, wanted))
        raise UserError(
            f"{path} was made with {was}, not {asked}; give the same options again to keep it, --overwrite replaces it, "
            "--plans-name makes other plans"
        )
    if differing := plans.differences(raw.description):
        what = "file ending" if differing == ["file ending"] else "labels or channels"
        raise UserError(
            f"{path} was made for other {what} than dataset.json has now; --overwrite replaces it, "
            "--plans-name makes other plans"
        )


def _own_pool(raw: RawDataset, processes: int | None) -> Executor:
    """Worker processes on this machine; they start with the first case."""
    channels = len(raw.description.channel_names)
    voxels = most_voxels(image for case in raw.cases for image in case.images)
    processes = processes or default_processes(voxels * channels * BYTES_A_VOXEL)
    return new_pool(min(processes, len(raw.cases)), start_method())
