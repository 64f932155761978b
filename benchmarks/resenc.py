"""The presets resenc-m, -l and -xl beside `--planner resunet` with the same memory: patch, batch, and what a step needs.

    PYTHONPATH=. python benchmarks/resenc.py

Plans 3d_fullres for the fingerprints of tests/data/nnunet_plans.json that are named here. Memory is the estimate of a
training step in bf16 (unetrpp/networks/training_memory.py), which takes no GPU.
"""

import sys
import tempfile
from pathlib import Path

from tests.helpers.nnunet_plans import THEIRS, described
from unetrpp.core.text import format_bytes, format_shape
from unetrpp.planners.options import Options
from unetrpp.planners.presets import make_planner
from unetrpp.planners.rules.element_budget import RESENC
from unetrpp.plans.plans import Configuration

DATASETS = ("hippocampus", "ACDC", "BraTS", "large CT", "117 classes")


def main() -> int:
    print("| dataset | preset | patch | batch | memory | `--planner resunet`: patch | batch | memory |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- |")
    for dataset in DATASETS:
        for preset, budget in RESENC.items():
            theirs = planned(dataset, Options(preset=preset))
            ours = planned(dataset, Options(gpu_memory_gb=budget.gigabytes))
            print(f"| {dataset} | {preset} | {cells(theirs)} | {cells(ours)} |")
    return 0


def planned(dataset: str, options: Options) -> Configuration:
    with tempfile.TemporaryDirectory() as folder:
        description, fingerprint = described(THEIRS[dataset], Path(folder))
    return make_planner("resunet", options).plan(fingerprint, description, "plans").configuration("3d_fullres")


def cells(configuration: Configuration) -> str:
    memory = format_bytes(configuration.training_memory_bytes)
    return f"{format_shape(configuration.patch)} | {configuration.batch_size} | {memory}"


if __name__ == "__main__":
    sys.exit(main())
