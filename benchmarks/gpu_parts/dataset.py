"""The dataset that is trained on: CT-like volumes that are made here, or a raw folder; planned as the synapse preset and for 8 GB."""

import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from benchmarks.gpu_parts import goals
from benchmarks.gpu_parts.cells import Cell, Setting, Values, Verdict
from benchmarks.preprocessing import phantom_case, write_phantom
from benchmarks.training_step import WARM_UP, fixed_batch, make_trainer, precision_of, samples, wait
from unetrpp.core.devices import find_device
from unetrpp.core.text import GIGABYTE
from unetrpp.core.workspace import Workspace
from unetrpp.io.geometry import Geometry
from unetrpp.io.images import Volume
from unetrpp.planners.pipeline import plan_and_preprocess
from unetrpp.planners.rules.patch_and_batch import DEFAULT_GPU_GB
from unetrpp.plans.plans import Configuration, read_plans

NAME, CONFIGURATION, PRESET = "Measured", "3d_fullres", "synapse"
PLANNED = ("unetrpp", "resunet")  # by the bytes of their step, for DEFAULT_GPU_GB


class Sizes(NamedTuple):
    cases: int
    shape: tuple[int, int, int]
    volume: tuple[int, int, int]  # that is predicted
    classes: int


# A body's CT at 2.5 x 0.9 x 0.9 mm, and one at 1 x 0.8 x 0.8 mm to predict.
FULL = Sizes(6, (112, 320, 320), (300, 512, 512), 4)
SMALL = Sizes(5, (16, 24, 24), (7, 14, 14), 2)


def sizes(setting: Setting) -> Sizes:
    return SMALL if setting.small else FULL


def cells(setting: Setting) -> list[Cell]:
    """Both are done once, by the CPU's cores; then the default plans are compared with what a step takes on the GPU."""
    prepared = Cell("made, planned and preprocessed", partial(prepare, setting))
    plans = [
        Cell(f"{planner} planned for {DEFAULT_GPU_GB:g} GB", partial(fits, setting, planner), judge, kind="plan")
        for planner in PLANNED
    ]
    return [prepared, *plans]


def judge(values: Values) -> Verdict:
    return goals.all_of(goals.memory(values), goals.card(values))


def prepare(setting: Setting) -> Values:
    start = time.perf_counter()
    raw = setting.raw or setting.folder / "raw" / NAME
    if setting.raw is None:
        chosen = sizes(setting)
        write_phantom(raw, chosen.cases, chosen.classes, chosen.shape)
    made = time.perf_counter()
    options = {"width": 0.25, "patch": (8, 16, 16)} if setting.small else {"preset": PRESET}
    with ThreadPoolExecutor(1) if setting.small else nullcontext() as executor:  # processes take seconds to start
        done = plan_and_preprocess(raw, workspace=setting.folder, batch_size=2, executor=executor, **options)
    if done.errors:
        raise RuntimeError(f"{len(done.errors)} cases could not be preprocessed: {done.errors[0].message}")
    return {"making_s": made - start, "preprocessing_s": time.perf_counter() - made}


def place(setting: Setting) -> tuple[Workspace, str]:
    """The workspace, and the dataset's name in it."""
    return Workspace(setting.folder), setting.raw.name if setting.raw else NAME


def planned(setting: Setting) -> Configuration:
    """
    Raises:
        UserError: the dataset was not prepared.
    """
    workspace, name = place(setting)
    return read_plans(workspace.plans(name, "unetrpp")).configuration(CONFIGURATION)


def volume(setting: Setting) -> Volume:
    """A CT (1, Z, Y, X) with its geometry."""
    z, y, x = sizes(setting).volume
    image, _ = phantom_case(99, sizes(setting).classes, (z + 8, y + 8, x + 8))  # at most 8 voxels smaller than asked
    image = image[:z, :y, :x]
    spacing = (2.5, 0.9, 0.9) if setting.small else (1.0, 0.8, 0.8)
    return Volume(image[None].astype(np.float32), Geometry(shape_zyx=(z, y, x), spacing_zyx_mm=spacing))


def fits(setting: Setting, planner: str) -> Values:
    """The most that steps of the default plan reserve, and what else of the GPU the process takes: context and libraries."""
    device = find_device(setting.device)
    raw, options = setting.raw or setting.folder / "raw" / NAME, {"width": 0.25} if setting.small else {}
    with ThreadPoolExecutor(1) as executor:  # everything was measured before
        done = plan_and_preprocess(
            raw,
            workspace=setting.folder,
            planner=planner,
            plans_name=f"{planner}_8gb",
            plan_only=True,
            executor=executor,
            **options,
        )
    plan = done.plans.configuration(CONFIGURATION)
    values = {"planned_gb": plan.training_memory_bytes / GIGABYTE, "batch": float(plan.batch_size)}
    if device.type != "cuda":
        return values
    torch.cuda.reset_peak_memory_stats(device)
    with tempfile.TemporaryDirectory() as folder:
        trainer = make_trainer(plan.architecture, plan.batch_size, precision_of(device), Path(folder), device)
    with fixed_batch(trainer, samples(plan.architecture, plan.batch_size)):
        for _ in range(WARM_UP):
            trainer.step([])
    wait(device)
    peak, held = torch.cuda.max_memory_reserved(device), torch.cuda.memory_reserved(device)
    free, total = torch.cuda.mem_get_info(device)
    used = total - free - held + peak  # also by other processes
    return values | {"reserved_gb": peak / GIGABYTE, "used_gb": used / GIGABYTE, "card_gb": DEFAULT_GPU_GB}
