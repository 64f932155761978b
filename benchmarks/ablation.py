"""One change at a time: train arms that differ in attention, loss or recipe, and report which differences exceed chance.

    python benchmarks/ablation.py raw/Hippocampus --out ablation --seeds 0 1 2 --arms paper none auto paper+ufl paper+ufl_d
    python benchmarks/ablation.py raw/Hippocampus --out curves --arms paper unet --steps 800 --look 200 400 600
    python benchmarks/ablation.py raw/Hippocampus --out ablation --arms paper none --time
    python benchmarks/ablation.py raw/Hippocampus --out ablation --arms paper none --cpu-seconds 300
    python benchmarks/ablation.py --results benchmarks/results/trial.jsonl --arms none+adamw pooled+adamw paper+adamw \
        --width 0.5 --steps 60 150 600

An arm joins names of PARTS (ablation_parts/arms.py) with +. The first one is the reference of the paired differences. Every run is
resumed where it was interrupted, and has a line in the results when it is finished; a run with such a line is not made again, so
a later call with more arms, seeds or datasets adds to the table. --cpu-seconds gives every arm as many steps as it takes in
that time, by seconds a step that --time measured on a machine with nothing else to do. Without a raw dataset, the tables of all
datasets in the results are printed, and one over all of them with equal weights; --steps or --cpu-seconds then name those of every
dataset.
"""

import argparse
import itertools
import sys
from collections.abc import Sequence
from pathlib import Path

import msgspec
import torch

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.ablation_parts.arms import arm_of
from benchmarks.ablation_parts.data import Data
from benchmarks.ablation_parts.figure import write_costs
from benchmarks.ablation_parts.results import (
    Record,
    add_result,
    curves,
    differences,
    read_costs,
    read_results,
    table,
)
from benchmarks.ablation_parts.run import cost_of_a_step, device_name, run
from unetrpp.networks.cpu_kernels.allocator import keep_freed_memory


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("raw", nargs="?", type=Path, help="a raw dataset folder")
    parser.add_argument("--out", default="ablation", help="where plans and models go; the same folder resumes")
    what = "JSON lines of finished runs, several for tables; new ones go into the first (default: OUT/results.jsonl)"
    parser.add_argument("--results", nargs="+", type=Path, metavar="FILE", help=what)
    parser.add_argument("--arms", nargs="+", default=["paper", "none", "auto", "paper+ufl", "paper+ufl_d"])
    parser.add_argument(
        "--references",
        nargs="+",
        help="arms that all are compared with, on each dataset and over all (default: the first arm)",
    )
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--configuration", help="default: the planner's")
    parser.add_argument("--fold", type=int, default=0)
    parser.add_argument("--steps", nargs="+", type=int, default=[200], help="several for tables alone")
    what = "in place of --steps: as many as an arm takes in that time; several for tables alone"
    parser.add_argument("--cpu-seconds", nargs="+", type=float, help=what)
    parser.add_argument("--time", action="store_true", help="only measure the CPU seconds and the memory of a step")
    parser.add_argument("--iterations", type=int, default=25, help="steps of an epoch")
    parser.add_argument("--batch-size", type=int, default=2)
    parser.add_argument("--patch", type=int, nargs="+", help="voxels; default: the planner's")
    parser.add_argument("--width", type=float, default=1.0)
    what = "also score the validation cases after these steps"
    parser.add_argument("--look", nargs="+", type=int, default=[], help=what)
    what = "draw Dice against CPU seconds, a point an arm that --time has measured, into FOLDER/trial_DATASET.png"
    parser.add_argument("--figures", type=Path, metavar="FOLDER", help=what)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    arguments = parser.parse_args()
    if arguments.raw is not None and len(arguments.cpu_seconds or arguments.steps) > 1:
        parser.error("a dataset is trained for one number of steps or seconds")
    return arguments


def steps_of(name: str, dataset: str, arguments: argparse.Namespace) -> int:
    """The steps of an arm: those asked for, or what its seconds allow, in whole epochs (of few --iterations, so that seconds are equal).

    Raises:
        SystemExit: the arm was not timed.
    """
    if arguments.cpu_seconds is None:
        return int(arguments.steps[0])
    step = read_costs(costs_file(arguments)).get((dataset, name, arguments.width))
    if step is None:
        raise SystemExit(f"{name} on {dataset} has no measured seconds a step; run the same command with --time first")
    return max(1, round(arguments.cpu_seconds[0] / step.seconds / arguments.iterations)) * int(arguments.iterations)


def results_files(arguments: argparse.Namespace) -> list[Path]:
    return arguments.results or [Path(arguments.out) / "results.jsonl"]


def costs_file(arguments: argparse.Namespace) -> Path:
    """What --time measured, beside the results."""
    return results_files(arguments)[0].with_name("step_costs.jsonl")


def time_arms(data: dict[str, Data], arguments: argparse.Namespace) -> None:
    path = costs_file(arguments)
    for name in arguments.arms:
        arm = arm_of(name)
        found = data[arm.planner]
        if (found.dataset, name, arguments.width) not in read_costs(path):
            cost = cost_of_a_step(name, arm, found, arguments)
            with path.open("ab") as file:
                file.write(msgspec.json.encode(cost) + b"\n")
    for cost in read_costs(path).values():
        print(
            f"{cost.dataset}  {cost.arm}, width {cost.width:g}  {cost.seconds:.3f} CPU s and {cost.megabytes} MB a step"
        )


def train_arms(data: dict[str, Data], results: Path, arguments: argparse.Namespace) -> None:
    device = device_name(arguments.device)
    for seed, name in itertools.product(arguments.seeds, arguments.arms):
        arm = arm_of(name)
        found = data[arm.planner]
        steps = steps_of(name, found.dataset, arguments)
        size = arguments.batch_size, arguments.width
        budget = None if arguments.cpu_seconds is None else arguments.cpu_seconds[0]
        setting = (found.dataset, name, seed, arguments.fold, steps, budget, *size, device)
        if setting not in {record.setting for record in read_results(results)}:
            add_result(results, run(name, arm, found, steps, seed, budget, arguments))
        print(f"{found.dataset} {name} seed {seed} done", file=sys.stderr, flush=True)


def asked_for(files: Sequence[Path], arguments: argparse.Namespace) -> list[Record]:
    """The runs of the tables: of the asked arms, fold and width, and of the asked steps or seconds.

    Raises:
        SystemExit: two files have other results of the same run.
    """
    found: dict[tuple[object, ...], Record] = {}
    for record in itertools.chain(*map(read_results, files)):
        if not is_asked_for(record, arguments):
            continue
        if record.Dice != found.setdefault(record.setting, record).Dice:
            raise SystemExit(
                f"two results of {record.arm} on {record.dataset}, seed {record.seed}; give one of their files"
            )
    return list(found.values())


def is_asked_for(record: Record, arguments: argparse.Namespace) -> bool:
    """Whether a run belongs in the tables."""
    if record.arm not in {*arguments.arms, *(arguments.references or ())}:
        return False
    if arguments.cpu_seconds is not None:
        same_length = record.budget in arguments.cpu_seconds
    else:
        same_length = record.budget is None and record.steps in arguments.steps
    return same_length and (arguments.fold, arguments.width) == (record.fold, record.width)


def main() -> None:
    arguments = parse()
    files = results_files(arguments)
    torch.set_num_threads(arguments.threads)
    if arguments.device == "cpu":
        keep_freed_memory()
    if arguments.raw is not None:
        planners = dict.fromkeys(arm_of(name).planner for name in arguments.arms)
        data = {planner: Data(arguments.raw, arguments, planner) for planner in planners}
        if arguments.time:
            return time_arms(data, arguments)
        train_arms(data, files[0], arguments)
    records = asked_for(files, arguments)
    costs = read_costs(costs_file(arguments))
    datasets = sorted({record.dataset for record in records})
    for dataset in datasets if arguments.raw is None else [arguments.raw.resolve().name]:
        settings = sorted({(r.steps, r.batch, r.device) for r in records if r.dataset == dataset})
        print(f"{dataset}: fold {arguments.fold}, width {arguments.width}; steps, batch, device: {settings}")
        print(table(records, arguments.arms, dataset, costs))
        if arguments.references:
            print(differences([r for r in records if r.dataset == dataset], arguments.arms, arguments.references))
    if arguments.raw is None and len(datasets) > 1:
        print(differences(records, arguments.arms, arguments.references or arguments.arms[:1]))
    if any(record.curve for record in records):
        print(curves(records, arguments.arms))
    if arguments.figures is not None:
        print(*write_costs(records, arguments.arms, costs, arguments.figures), sep="\n")
    return None


if __name__ == "__main__":
    main()
