"""What reading and augmentation cost a training step: steps on new batches compared with steps on one fixed batch.

    python benchmarks/step.py unetrpp_workspace/preprocessed/DATASET [--plans-name unetrpp] [--configuration 3d_fullres]
    python benchmarks/step.py unetrpp_workspace/preprocessed/DATASET --device cuda --precision bf16 --compile

Both run the trainer's own step; the fixed batch is made once and stays on the device. Reported is the median of several
alternating rounds.
"""

import argparse
import statistics
import sys
import tempfile
from contextlib import closing, nullcontext
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.training_step import clock, fixed_batch
from unetrpp.networks.cpu_kernels.allocator import keep_freed_memory
from unetrpp.plans.plans import read_plans
from unetrpp.preprocessing.store import Store
from unetrpp.trainers.compilation import compile_network
from unetrpp.trainers.inputs import FoldData, Machine
from unetrpp.trainers.recipe import new_config
from unetrpp.trainers.trainer import Trainer


def seconds_a_step(trainer: Trainer, steps: int, fixed: bool) -> float:
    """Mean time of a step. ``fixed`` trains on one batch and reads no others. The first two steps do not count."""
    start = 0.0
    with closing(trainer.batches()) as batches, fixed_batch(trainer, next(batches)) if fixed else nullcontext():
        for number in range(steps + 2):
            if number == 2:
                start = clock(trainer.device)
            trainer.step([] if fixed else next(batches))
        return (clock(trainer.device) - start) / steps


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="of the preprocessed dataset")
    parser.add_argument("--plans-name", default="unetrpp")
    parser.add_argument("--configuration", default="3d_fullres")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--precision", default="fp32")
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--threads", type=int, default=2, help="that read ahead")
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    if arguments.device == "cpu":
        keep_freed_memory()
    configuration = read_plans(arguments.folder / f"{arguments.plans_name}.json").configuration(arguments.configuration)
    store = Store(arguments.folder / f"{arguments.plans_name}_{arguments.configuration}")
    cases = [store.open(case) for case in store.cases()]
    data, config = FoldData(configuration, cases, cases[:1]), new_config(0, {}, arguments.precision)
    machine = Machine(torch.device(arguments.device), arguments.threads)
    with tempfile.TemporaryDirectory() as folder:
        trainer = Trainer(data, config, Path(folder), machine)
        if arguments.compile:
            compile_network(trainer.network, trainer.probe)
        taken: dict[bool, list[float]] = {True: [], False: []}
        for _ in range(arguments.rounds):
            for fixed, seconds in taken.items():
                seconds.append(seconds_a_step(trainer, arguments.steps, fixed))
    alone, whole = statistics.median(taken[True]), statistics.median(taken[False])
    print(
        f"a step on a fixed batch {alone:.4f} s, on new batches {whole:.4f} s: {100 * (whole / alone - 1):.1f} % more"
    )


if __name__ == "__main__":
    main()
