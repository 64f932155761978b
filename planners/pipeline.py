"""The steps in order: verify and measure, split, plan, preprocess. Each step takes what is on disk and current."""

import logging
import shutil
from collections.abc import Sequence
from concurrent.futures import Executor
from contextlib import nullcontext
from pathlib import Path
from typing import NamedTuple

import msgspec

from unetrpp.core.errors import UserError
from unetrpp.core.files import read_json, write_json
from unetrpp.core.parallel import CaseError, default_processes, new_pool
from unetrpp.core.text import format_bytes
from unetrpp.core.workspace import Workspace
from unetrpp.dataset.cases import RawDataset, read_dataset
from unetrpp.dataset.description import nnunet_json
from unetrpp.dataset.splits import read_or_make_splits
from unetrpp.dataset.verification import inputs_digest, problem_table
from unetrpp.io.images import most_voxels
from unetrpp.planners.configurations import CONFIGURATIONS
from unetrpp.planners.measure.extract import is_current, survey
from unetrpp.planners.measure.groups import with_groups
from unetrpp.planners.options import Options
from unetrpp.planners.planner import UnetrppPlanner, make_planner
from unetrpp.planners.preprocess import preprocess_dataset
from unetrpp.planners.repair import repair_dataset
from unetrpp.planners.rules.attention import Mode, Override, parse_override
from unetrpp.planners.rules.focal import with_attention
from unetrpp.planners.workers import start_method
from unetrpp.plans.fingerprint import Fingerprint
from unetrpp.plans.plans import Plans, read_plans
from unetrpp.preprocessing.store import Store

LOG = logging.getLogger(__name__)

RULES = Options()  # nothing fixed
BYTES_A_VOXEL = 40  # of a case's peak memory while it is preprocessed, with room: docs/scale.md measures 24


class PlanningResult(NamedTuple):
    """Cases that could not be preprocessed, and what to tell the user."""

    errors: list[CaseError]
    summary: str


def plan_and_preprocess(
    dataset: str,
    workspace: Workspace,
    planner: str = "unetrpp",
    options: Options = RULES,
    configurations: Sequence[str] = (),
    plans_name: str | None = None,
    processes: int | None = None,
    overwrite: bool = False,
    group_by: str | None = None,
    fix: bool = False,
    plan_only: bool = False,
    executor: Executor | None = None,
) -> PlanningResult:
    """`unetrpp_plan_and_preprocess` as a call; the arguments are the command's.

    Args:
        executor: where cases are measured and preprocessed, instead of in processes here: of a cluster whose machines
            see raw data and workspace under the same absolute paths. It is left open.

    Raises:
        UserError: the dataset is unknown or refused, or plans of this name were made with other options.
    """
    if plan_only and options.attention == "auto":
        raise UserError(
            "--attention auto looks at preprocessed labels, so it cannot go with --plan-only; leave one out"
        )
    overrides, maker = [parse_override(text) for text in options.place], make_planner(planner, options)
    workspace = Workspace(workspace.root.absolute())  # an executor's workers may stand elsewhere
    name, folder = workspace.find_raw(dataset)
    raw = with_groups(read_dataset(folder.absolute(), name), group_by)
    home = workspace.preprocessed(name)
    plans_name = plans_name or planner.rpartition(":")[2]
    plans_path = workspace.plans(name, plans_name)
    with nullcontext(executor) if executor else _own_pool(raw, processes) as pool:
        raw = repair_dataset(raw, home / "fixed", pool) if fix else raw
        fingerprint, digests = measure(raw, home, pool, overwrite)
        cases = [case.id for case in raw.cases]
        present = {c.case: [name for name, found in c.classes.items() if found.voxels] for c in fingerprint.cases}
        read_or_make_splits(home / "splits.json", cases, raw.description.groups, present)
        description = msgspec.structs.replace(raw.description, files=None)  # it travels with models
        write_json(home / "dataset.json", nnunet_json(description, len(cases)))
        plans = load_or_make_plans(plans_path, maker, fingerprint, raw, configurations, overwrite)
        errors: list[CaseError] = []
        chosen_names = () if plan_only else with_first_stages(plans, configurations or list(plans.configurations)[:1])
        for configuration in chosen_names:
            store = workspace.store(name, plans_name, configuration)
            chosen = plans.configuration(configuration)
            errors += preprocess_dataset(raw, chosen, store, digests, configuration, pool)
        if not errors and not plan_only:
            plans = plan_attention(plans, plans_path, workspace, fingerprint, options.attention, overrides)
    return PlanningResult(errors, _summary(plans, home))


def with_first_stages(plans: Plans, names: Sequence[str]) -> list[str]:
    """A cascade is trained on its first stage's segmentations, so that stage is preprocessed too, before it."""
    stages = [stage for name in names for stage in (plans.configuration(name).first_stage, name) if stage]
    return list(dict.fromkeys(stages))


def plan_attention(
    plans: Plans, path: Path, workspace: Workspace, fingerprint: Fingerprint, mode: Mode, overrides: Sequence[Override]
) -> Plans:
    """Attention for every preprocessed configuration that has none decided yet; the plans are written again.

    It comes after preprocessing, because the rule looks at labels on the training grid, and changes nothing there.
    """
    decided = dict(plans.configurations)
    for name, configuration in plans.configurations.items():
        store = Store(workspace.store(path.parent.name, path.stem, name))
        cases = [store.open(case) for case in store.cases()]
        if cases and not any(decision.about == "attention" for decision in configuration.decisions):
            decided[name] = with_attention(configuration, cases, fingerprint, plans.labels, mode, overrides)
    if decided != plans.configurations:
        plans = msgspec.structs.replace(plans, configurations=decided)
        write_json(path, plans)
    return plans


def measure(raw: RawDataset, home: Path, pool: Executor, anew: bool = False) -> tuple[Fingerprint, dict[str, str]]:
    """The fingerprint (taken anew when a file has changed) and the digests of every case's files.

    Raises:
        UserError: verification found errors; the table of all problems has been logged.
    """
    path = home / "fingerprint.json"
    if path.exists() and not anew:
        digests = {case.id: inputs_digest(case) for case in raw.cases}
        fingerprint = read_json(path, Fingerprint, hint="delete it")
        if is_current(fingerprint, raw.description, digests):
            return fingerprint, digests
    found = survey(raw, pool)
    if found.problems:
        LOG.warning("%s", problem_table(found.problems))
    if found.fingerprint is None:
        errors = [p for p in found.problems if p.fatal]
        others = f"; {len(errors) - 1} more in the table above" if len(errors) > 1 else ""
        raise UserError(f"{errors[0].message} (nothing was started{others})", case=errors[0].case)
    write_json(path, found.fingerprint)
    return found.fingerprint, {c.case: c.inputs_digest for c in found.fingerprint.cases}


def load_or_make_plans(
    path: Path,
    planner: UnetrppPlanner,
    fingerprint: Fingerprint,
    raw: RawDataset,
    names: Sequence[str],
    anew: bool = False,
) -> Plans:
    """The plans on disk, with the configurations that are missing added; made first where there are none.

    A file that exists is the user's to edit, so it is taken as it is.

    Raises:
        UserError: the file was made by another planner or with other options.
    """
    if anew or not path.exists():
        plans = planner.plan(fingerprint, raw.description, path.stem, names)
        for warning in plans.warnings:
            LOG.warning("warning: %s", warning)
        if anew:  # only now that the new plans are made
            for name in CONFIGURATIONS:
                shutil.rmtree(path.with_name(f"{path.stem}_{name}"), ignore_errors=True)
        write_json(path, plans)
        return plans
    plans = read_plans(path)
    wanted = {"planner": planner.name, **planner.options.as_text()}
    recorded = {"planner": plans.planner, **plans.options}
    if wanted != recorded:
        was, asked = (", ".join(f"{k} {v}" for k, v in o.items()) for o in (recorded, wanted))
        raise UserError(f"{path} was made with {was}, not {asked}; --overwrite replaces it, --plans-name makes others")
    if plans.labels != raw.description.labels or plans.channel_names != raw.description.channel_names:
        raise UserError(
            f"{path} was made for other labels or channels than dataset.json has now; --overwrite replaces it"
        )
    missing = [name for name in names if name not in plans.configurations]
    if missing:
        more = planner.plan(fingerprint, raw.description, path.stem, missing)
        plans = msgspec.structs.replace(plans, configurations=more.configurations | plans.configurations)
        write_json(path, plans)
    return plans


def _own_pool(raw: RawDataset, processes: int | None) -> Executor:
    """They start with the first case."""
    channels = len(raw.description.channel_names)
    voxels = most_voxels(image for case in raw.cases for image in case.images)
    processes = processes or default_processes(voxels * channels * BYTES_A_VOXEL)
    return new_pool(min(processes, len(raw.cases)), start_method())


def _summary(plans: Plans, home: Path) -> str:
    lines = [f"plans {plans.name!r} for {plans.dataset} in {home}"]
    for name, configuration in plans.configurations.items():
        patch = " x ".join(str(n) for n in configuration.patch)
        memory = format_bytes(configuration.training_memory_bytes)
        lines.append(f"  {name}: patch {patch}, batch {configuration.batch_size}, about {memory} for training")
    return "\n".join(lines)
